//! The target `cookie`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::cookie::TARGET.run)(data));
