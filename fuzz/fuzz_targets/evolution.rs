//! The target `evolution`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::evolution::BINARY.run)(data));
