//! Writes the programs of the README and of the examples again: the first program with a socket of the test, the others each
//! with its one store line changed to every store.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The stores by name, each as the expression that makes it.
const STORES: [(&str, &str); 7] = [
    ("sqlite", "session_runtime::SqliteStore::open(std::env::var(\"SQLITE_FILE\")?)?"),
    ("memory", "session_runtime::MemoryStore::new()"),
    ("redis", "session_runtime::RedisStore::connect(&std::env::var(\"REDIS_URL\")?).await?"),
    ("postgres", "session_runtime::PostgresStore::connect(&std::env::var(\"POSTGRES_URL\")?).await?"),
    ("mysql", "session_runtime::MysqlStore::connect(&std::env::var(\"MYSQL_URL\")?).await?"),
    ("any", "session_runtime::AnyStore::connect(\"sqlite::memory:\").await?"),
    ("cookie", "session_runtime::CookieStore"),
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
        fs::read_to_string(root.join(path)).expect("the program is there")
    };
    let readme = read("README.md");
    let programs_of_the_readme = readme.split("```rust,no_run\n").skip(1);
    let mut programs_of_the_readme = programs_of_the_readme.filter_map(|rest| rest.split("```").next());
    let mut next = || programs_of_the_readme.next().expect("the README has two programs").to_owned();
    let (first, shop) = (next(), next());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo names the folder"));
    let bind = ".bind(\"127.0.0.1:8080\")";
    assert_eq!(first.matches(bind).count(), 1, "the first program listens in one place");
    // A port that is free for a moment may be another program's when this one binds it.
    let first = runnable(&first).replace(bind, ".listen(super::listener())");
    fs::write(out.join("first_program.rs"), first).expect("the folder can be written");
    let programs = [
        ("readme", shop, "SqliteStore::open(\"sessions.db\")?"),
        ("messagepack", read("examples/messagepack.rs"), "SqliteStore::in_memory()?"),
    ];
    let (mut code, mut table) = (String::new(), String::new());
    for (name, program, store) in &programs {
        let line = format!("builder({store})");
        assert_eq!(program.matches(&line).count(), 1, "{name} makes its store in one line");
        // The tests inside of an example belong to the example.
        let program = program.split("#[cfg(test)]").next().unwrap_or_default().replace("//!", "//");
        for (other, expression) in STORES {
            // The README's program lists sessions, which those in cookies do not allow.
            if (*name, other) == ("readme", "cookie") {
                continue;
            }
            let changed = program.replace(&line, &format!("builder({expression})"));
            let runnable = runnable(&changed)
                .replace(".bind(\"127.0.0.1:8080\")?", ".bind(std::env::var(\"ADDRESS\")?)?");
            let _ = writeln!(
                code,
                "#[allow(warnings, clippy::all, clippy::pedantic, reason = \"the originals are linted\")]\nmod {name}_{other} {{\n{runnable}\n}}"
            );
            let _ = writeln!(table, "    (\"{name}_{other}\", {name}_{other}::main),");
        }
    }
    let _ = writeln!(code, "type Program = fn() -> Result<(), Box<dyn std::error::Error>>;");
    let _ = writeln!(code, "const PROGRAMS: &[(&str, Program)] = &[\n{table}];");
    fs::write(out.join("one_line.rs"), code).expect("the folder can be written");
}

/// Lets a test call the main function of a program.
fn runnable(program: &str) -> String {
    program.replace("async fn main()", "pub(crate) async fn main()")
}
