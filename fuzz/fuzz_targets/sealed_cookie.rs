//! The target `sealed_cookie`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::envelope::COOKIE.run)(data));
