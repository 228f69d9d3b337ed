//! The target `json_round_trip`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::round_trip::JSON.run)(data));
