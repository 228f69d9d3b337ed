//! The target `merge`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::merge::TARGET.run)(data));
