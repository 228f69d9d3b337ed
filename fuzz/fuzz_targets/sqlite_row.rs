//! The target `sqlite_row`, for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| (databag_fuzz::stored::SQLITE.run)(data));
