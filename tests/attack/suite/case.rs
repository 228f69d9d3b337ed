//! What a case is, how the cases of a group run on a store, and the tables that are printed.
//!
//! ```text
//! group | case | rule | store | refused
//! ```

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::GROUPS;
use super::target::Target;

/// A rule of the security bar, R1 to R32.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) u8);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

/// A store under attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    Cookie,
    Postgres,
    MariaDb,
    Redis,
    Cluster,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Memory, Self::Sqlite, Self::Cookie, Self::Postgres, Self::MariaDb, Self::Redis, Self::Cluster];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

/// The stores that a case applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    All,
    /// Those that keep rows.
    Rows,
    Cookie,
    Sqlite,
    /// The store plays no part: it runs beside one of them.
    Any,
}

impl Stores {
    pub(crate) fn include(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Rows => kind != Kind::Cookie,
            Self::Cookie => kind == Kind::Cookie,
            Self::Sqlite => kind == Kind::Sqlite,
            Self::Any => kind == Kind::Memory,
        }
    }
}

/// An attack. It panics if it succeeds.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) rules: &'static [Rule],
    pub(crate) stores: Stores,
    pub(crate) run: for<'a> fn(&'a Target) -> LocalBoxFuture<'a, ()>,
}

/// The cases of one kind of attack.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) cases: &'static [Case],
    /// Whether memory is measured, so that no other group may run meanwhile.
    pub(crate) is_measured: bool,
}

/// Writes a table of cases: `"name" [1 2] Stores => function(arguments);`.
macro_rules! cases {
    ($(
        $name:literal [$($rule:literal)+] $stores:ident =>
        $attack:ident $(::<$($bag:ident),+>)? ($($argument:expr),* $(,)?);
    )+) => {
        pub(crate) const CASES: &[$crate::suite::case::Case] = &[$($crate::suite::case::Case {
            name: $name,
            rules: &[$($crate::suite::case::Rule($rule)),+],
            stores: $crate::suite::case::Stores::$stores,
            run: |target| Box::pin($attack $(::<$($bag),+>)? (target $(, $argument)*)),
        }),+];
    };
}
pub(crate) use cases;

/// How long a case may take. It is a watchdog: an attack that hangs a worker takes for ever.
const WATCHDOG: Duration = Duration::from_mins(5);

/// Groups that are measured run alone, the others beside each other.
pub(crate) static MEASURED: RwLock<()> = RwLock::new(());

/// Groups on one server run one after the other: they share its tables, and count rows there.
static SERVERS: [Mutex<()>; Kind::ALL.len()] = [const { Mutex::new(()) }; Kind::ALL.len()];

/// Runs the cases of a group on a store.
pub(crate) async fn run(group: &str, kind: Kind, open: impl AsyncFn() -> Target) {
    let group = GROUPS.iter().find(|known| known.name == group).expect("it is listed");
    let _alone = group.is_measured.then(|| MEASURED.write().unwrap_or_else(PoisonError::into_inner));
    let _shared = (!group.is_measured).then(|| MEASURED.read().unwrap_or_else(PoisonError::into_inner));
    let cases: Vec<&Case> = group.cases.iter().filter(|case| case.stores.include(kind)).collect();
    if cases.is_empty() {
        return;
    }
    let is_shared = !matches!(kind, Kind::Memory | Kind::Sqlite | Kind::Cookie);
    let _own = is_shared.then(|| SERVERS[kind as usize].lock().unwrap_or_else(PoisonError::into_inner));
    let begun = Instant::now();
    let target = open().await;
    let mut failures = Vec::new();
    for case in cases {
        let attack = AssertUnwindSafe((case.run)(&target)).catch_unwind();
        let refused = match tokio::time::timeout(WATCHDOG, attack).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(message(panic.as_ref())),
            Err(_) => Err(format!("it still runs after {WATCHDOG:?}")),
        };
        let errors = target.logs.lines(&["ERROR"]).join("\n    ");
        let refused = refused.map_err(|why| format!("{why}\n    {errors}"));
        let refused = refused.and_then(|()| target.keeps_its_secrets());
        target.recover();
        let rules = case.rules.iter().map(Rule::to_string).collect::<Vec<_>>().join(" ");
        let answer = match &refused {
            Ok(()) => "yes",
            Err(why) => {
                failures.push(format!("{} | {kind}: {why}", case.name));
                "NO"
            }
        };
        println!("{} | {} | {rules} | {kind} | {answer}", group.name, case.name);
    }
    target.stop().await;
    println!("{} | {kind} | {} cases in {:.1?}", group.name, group.cases.len(), begun.elapsed());
    assert!(failures.is_empty(), "{} attacks of {}:\n{}", failures.len(), group.name, failures.join("\n"));
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
