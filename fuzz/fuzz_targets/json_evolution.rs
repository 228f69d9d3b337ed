//! The target `json_evolution`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::evolution::JSON.run)(data));
