//! The target `append`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::append::TARGET.run)(data));
