//! The cost of `derive(Databag)` in a build, beside `derive(Serialize, Deserialize)` on the same fields.
//!
//! ```text
//! cargo run --locked --manifest-path benches/derive-cost/Cargo.toml
//! ```
//!
//! It compiles generated crates of one struct each, without optimisation, and prints for both:
//!
//! - the lines of the expansion (`-Zunpretty=expanded`),
//! - the lines of LLVM IR: for serde, the struct encoded and decoded as a whole by bincode; for the databag, all of
//!   `impl Databag`, which encodes field by field with bincode,
//! - the milliseconds of `macro_expand_crate` (`-Ztime-passes`), of a check and of a build: medians of
//!   interleaved rounds, 15 by default, or the number in the argument.
//!
//! The cost of a crate that loads the same crates and derives nothing is subtracted. The stable compiler runs with
//! `RUSTC_BOOTSTRAP=1`, because `-Z` options need it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const SIZES: [usize; 3] = [5, 20, 100];

/// The types of the fields, in turn: those of typical sessions.
const TYPES: [&str; 10] = [
    "String",
    "u32",
    "Theme",
    "BTreeMap<String, Line>",
    "Option<String>",
    "bool",
    "Vec<String>",
    "Option<i64>",
    "f64",
    "Option<Line>",
];

/// The code of every crate, the empty ones too: the user's own types.
const SHARED: &str = "\
use std::collections::BTreeMap;

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub enum Theme {
    #[default]
    Light,
    Dark,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Line {
    pub sku: String,
    pub count: u32,
    pub gift: bool,
}

pub type Cart = BTreeMap<String, Line>;
";

const EXTERNS: [&str; 3] = ["session_runtime", "serde", "bincode"];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let rounds = env::args().nth(1).map_or(Ok(15), |rounds| rounds.parse())?;
    let crates = Crates::build()?;
    let mut cases = Vec::new();
    for size in [0].into_iter().chain(SIZES) {
        cases.push(Case::new("Databag", size, databag(size)));
        cases.push(Case::new("Serialize + Deserialize", size, serde(size)));
    }
    for case in &mut cases {
        case.count(&crates)?;
    }
    for _ in 0..rounds {
        for case in &mut cases {
            case.time(&crates)?;
        }
    }
    print(&cases);
    Ok(())
}

fn print(cases: &[Case]) {
    let [no_databag, no_serde, cases @ ..] = cases else { return };
    println!(
        "| fields | derive | expansion lines | LLVM lines | per field | expansion ms | check ms | build ms |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for case in cases {
        let Case { derive, size, expanded, llvm, .. } = case;
        let empty = if *derive == no_serde.derive { no_serde } else { no_databag };
        let (expanded, llvm) = (expanded - empty.expanded, llvm - empty.llvm);
        let ms = |samples: fn(&Case) -> &[f64]| 1000.0 * (median(samples(case)) - median(samples(empty)));
        println!(
            "| {size} | {derive} | {expanded} | {llvm} | {} | {:.1} | {:.0} | {:.0} |",
            llvm / size,
            ms(|case| &case.expansion),
            ms(|case| &case.check),
            ms(|case| &case.build),
        );
    }
}

fn fields(size: usize) -> String {
    (0..size).zip(TYPES.iter().cycle()).fold(String::new(), |mut fields, (index, ty)| {
        let _ = writeln!(fields, "    pub field_{index}: {ty},");
        fields
    })
}

fn databag(size: usize) -> String {
    if size == 0 {
        return format!("{SHARED}\nuse session_runtime as _;\n");
    }
    let fields = fields(size);
    format!("{SHARED}\n#[derive(session_runtime::Databag)]\npub struct Bag {{\n{fields}}}\n")
}

fn serde(size: usize) -> String {
    if size == 0 {
        return format!("{SHARED}\nuse bincode as _;\n");
    }
    let fields = fields(size);
    format!(
        "{SHARED}
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Bag {{
{fields}}}

pub fn encode(bag: &Bag) -> Vec<u8> {{
    bincode::serde::encode_to_vec(bag, bincode::config::standard()).unwrap_or_default()
}}

pub fn decode(bytes: &[u8]) -> Option<Bag> {{
    bincode::serde::decode_from_slice(bytes, bincode::config::standard()).ok().map(|(bag, _)| bag)
}}
"
    )
}

/// A generated crate and its measurements.
struct Case {
    derive: &'static str,
    size: usize,
    source: String,
    expanded: usize,
    llvm: usize,
    expansion: Vec<f64>,
    check: Vec<f64>,
    build: Vec<f64>,
}

impl Case {
    fn new(derive: &'static str, size: usize, source: String) -> Self {
        let (expansion, check, build) = Default::default();
        Self { derive, size, source, expanded: 0, llvm: 0, expansion, check, build }
    }

    fn count(&mut self, crates: &Crates) -> Result<()> {
        let expansion = crates.compile(&self.source, &["-Zunpretty=expanded"])?;
        self.expanded = expansion.lines().count();
        crates.compile(&self.source, &["--emit=llvm-ir", "-Ccodegen-units=1"])?;
        self.llvm = fs::read_to_string(crates.scratch.join("case.ll"))?.lines().count();
        Ok(())
    }

    fn time(&mut self, crates: &Crates) -> Result<()> {
        let passes = crates.compile(&self.source, &["--emit=metadata", "-Ztime-passes"])?;
        self.expansion.push(seconds(&passes, "macro_expand_crate")?);
        self.check.push(seconds(&passes, "total")?);
        let passes = crates.compile(&self.source, &["--emit=link", "-Ztime-passes"])?;
        self.build.push(seconds(&passes, "total")?);
        Ok(())
    }
}

/// Finds a pass in lines such as `time:   0.010; rss:   50MB ->   60MB (  +10MB)	total`.
fn seconds(passes: &str, pass: &str) -> Result<f64> {
    let line = passes.lines().find(|line| line.split_whitespace().last() == Some(pass));
    let time = line.and_then(|line| line.strip_prefix("time:")?.split(';').next());
    Ok(time.ok_or_else(|| format!("rustc names no pass `{pass}`"))?.trim().parse()?)
}

fn median(samples: &[f64]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// The crates that generated code depends on, built without optimisation.
struct Crates {
    externs: Vec<String>,
    scratch: PathBuf,
}

impl Crates {
    fn build() -> Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--message-format=json", "--manifest-path", manifest])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let deps = env::current_exe()?.with_file_name("deps");
        let mut externs = vec![format!("-Ldependency={}", deps.display())];
        for line in String::from_utf8(output.stdout)?.lines() {
            let message: serde_json::Value = serde_json::from_str(line)?;
            let name = message["target"]["name"].as_str().unwrap_or_default();
            let library = message["filenames"][0].as_str();
            if let Some(library) = library.filter(|_| EXTERNS.contains(&name)) {
                externs.push(format!("--extern={name}={library}"));
            }
        }
        let scratch = deps.with_file_name("derive-cost-cases");
        fs::create_dir_all(&scratch)?;
        Ok(Self { externs, scratch })
    }

    /// Compiles a library and returns the output of rustc.
    fn compile(&self, source: &str, arguments: &[&str]) -> Result<String> {
        fs::write(self.scratch.join("case.rs"), source)?;
        let output = Command::new("rustc")
            .current_dir(&self.scratch)
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["--edition=2024", "--crate-type=lib", "-Cdebug-assertions=on", "case.rs"])
            .args(&self.externs)
            .args(arguments)
            .output()?;
        let printed = String::from_utf8([output.stdout, output.stderr].concat())?;
        if output.status.success() { Ok(printed) } else { Err(printed.into()) }
    }
}
