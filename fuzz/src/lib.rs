//! Fuzzing targets: functions of bytes that panic when Databag breaks a promise.
//!
//! `cargo fuzz` calls them through libFuzzer, `fuzz_targets/`; `tests/stable.rs` calls the same functions on a stable
//! compiler with the inputs of `seeds/` and mutations of them. A target uses the public interface; where it has none, as
//! for a row of Redis, `session_runtime::__private::fuzz`.

pub mod http;
pub mod input;
pub mod mutate;
pub mod rows;
pub mod seeds;

pub mod append;
pub mod cookie;
pub mod csrf;
pub mod envelope;
pub mod evolution;
pub mod merge;
pub mod proxies;
pub mod record;
pub mod round_trip;
pub mod set_cookie;
pub mod stored;
pub mod token;
pub mod url;

/// A function of bytes, and where its mutations begin.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, also of its file in `fuzz_targets/` and of its seeds.
    pub name: &'static str,
    /// Panics if the input breaks a promise.
    pub run: fn(&[u8]),
    /// Makes the first inputs, which are good ones.
    pub starts: fn() -> Vec<Vec<u8>>,
    /// One execution counts as so many.
    pub weight: u64,
    /// What mutations insert.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    token::TARGET,
    cookie::TARGET,
    proxies::X_FORWARDED_FOR,
    proxies::FORWARDED,
    set_cookie::TARGET,
    csrf::TARGET,
    envelope::ROW,
    envelope::TEXT,
    envelope::COOKIE,
    record::BINARY,
    record::JSON,
    evolution::BINARY,
    evolution::JSON,
    round_trip::BINARY,
    round_trip::JSON,
    merge::TARGET,
    append::TARGET,
    stored::SQLITE,
    stored::REDIS,
    url::TARGET,
];
