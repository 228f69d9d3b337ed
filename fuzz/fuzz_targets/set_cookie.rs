//! The target `set_cookie`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::set_cookie::TARGET.run)(data));
