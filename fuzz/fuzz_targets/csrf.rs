//! The target `csrf`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::csrf::TARGET.run)(data));
