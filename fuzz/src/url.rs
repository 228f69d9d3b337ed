//! The URLs of stores: an error does not repeat the password.

use std::error::Error as _;

use session_runtime::__private::fuzz::check_url;

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "store_url",
    run,
    starts: || {
        [
            "sqlite:sessions.db",
            "sqlite:///var/a%20b.db",
            "redis://user:hunter2zz@db.example:6379/0?protocol=resp3",
            "rediss-cluster://user:hunter2zz@10.0.0.1:1,[::1]:2/",
            "redis-sentinel://user:hunter2zz@a:1,b:2/master?sentinel_user=x&sentinel_password=hunter2zz",
            "unix:///run/redis.sock?db=1&pass=hunter2zz",
            "postgres://user:hunter2zz@[::1]:5432/db?sslmode=verify-full&options[search_path]=app",
            "mysql://user:hunter2zz@db/shop?ssl-mode=VERIFY_IDENTITY#x",
            "valkey-sentinel://:hunter2zz@a/m",
        ]
        .map(|url| url.as_bytes().to_vec())
        .to_vec()
    },
    weight: 1,
    words: &[
        "hunter2zz",
        "://",
        "@",
        ":",
        "/",
        "?",
        "&",
        "=",
        "#",
        "%",
        "%zz",
        "[",
        "]",
        ",",
        "sslmode=",
        "ssl-mode=",
        "redis",
        "rediss",
        "-cluster",
        "-sentinel",
        "postgres://",
        "mysql://",
        "sqlite:",
        "\u{E9}",
        "65536",
        "insecure",
    ],
};

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let Ok(url) = str::from_utf8(data) else { return };
    // A parameter can name a file, and devices have no end.
    if url.contains("dev") || url.contains("proc") || url.contains('%') && !url.starts_with("sqlite") {
        return;
    }
    let Err(error) = check_url(url) else { return };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // Elsewhere it is no password.
    if url.matches("hunter2zz").count() > 1 {
        return;
    }
    let password =
        url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map_or("", |(user, _)| user);
    // The drivers show the value of a parameter that they do not know.
    let is_password = password.split_once("hunter2zz").is_some_and(|(before, _)| !before.contains('='));
    assert!(!is_password || !text.contains("hunter2zz"), "the error repeats the password: {text}");
}
