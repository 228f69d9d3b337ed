//! The target `x_forwarded_for`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::proxies::X_FORWARDED_FOR.run)(data));
