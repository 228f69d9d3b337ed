//! The target `forwarded`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::proxies::FORWARDED.run)(data));
