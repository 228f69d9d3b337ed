//! The target `token`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::token::TARGET.run)(data));
