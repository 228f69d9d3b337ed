//! The promises of a store, checked from outside: a store goes in, the promises it breaks come out.
//!
//! Every store of this crate passes it. To check a store of your own, turn on the feature `testing` among
//! your development dependencies:
//!
//! ```
//! use session_runtime::MemoryStore;
//! use session_runtime::store::suite;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! suite::run(async || MemoryStore::new()).await;
//! # }
//! ```
//!
//! The checks make tables of their own, whose names begin with `suite_`, and leave them behind: run them
//! against a database for tests. They go by the time of day, since a store may forget what has expired.

#[cfg(all(test, feature = "memory"))]
mod tests;

use std::error::Error;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};

use super::{
    ColumnRef, Comparison, Directory, Filter, Outcome, Page, Row, Scope, Store, Table, TableColumn, Update,
};
use crate::clock::Timestamp;
use crate::token::{Hex, SessionId};
use crate::value::{ColumnType, Value};

/// What every check gives each call.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a check found; `Err` says how a promise was broken.
type Verdict = Result<(), Box<dyn Error + Send + Sync>>;

/// Checks everything that a [`Directory`] promises, and with it everything that a [`Store`] does.
///
/// `open` is called once for each check and returns a store that has not been prepared. It may return the
/// same place each time.
///
/// # Panics
///
/// If the store breaks a promise. The message names every one that it breaks.
pub async fn run<S: Directory + Clone>(open: impl AsyncFn() -> S) {
    let mut broken = check_store(&open).await;
    broken.extend(check_directory(&open).await);
    report::<S>(&broken);
}

/// Checks what a [`Store`] promises that is no [`Directory`].
///
/// # Panics
///
/// If the store breaks a promise. The message names every one that it breaks.
///
/// # Examples
///
/// ```
/// use session_runtime::MemoryStore;
/// use session_runtime::store::suite;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// suite::run_store(async || MemoryStore::new()).await;
/// # }
/// ```
pub async fn run_store<S: Store + Clone>(open: impl AsyncFn() -> S) {
    report::<S>(&check_store(&open).await);
}

fn report<S>(broken: &[String]) {
    assert!(
        broken.is_empty(),
        "{} breaks {} of its promises:\n{}",
        std::any::type_name::<S>(),
        broken.len(),
        broken.join("\n")
    );
}

/// Runs the checks by name, and collects what those that fail say.
macro_rules! checks {
    ($open:expr, $($check:ident),+ $(,)?) => {{
        let mut broken = Vec::new();
        $(
            let store = prepared($open().await, &table(stringify!($check))).await;
            let verdict = match store {
                Ok(store) => within(Box::pin($check(store))).await,
                Err(error) => Err(error),
            };
            if let Err(error) = verdict {
                broken.push(format!("- {}: {}", stringify!($check).replace('_', " "), chain(error.as_ref())));
            }
        )+
        broken
    }};
}

async fn check_store<S: Store + Clone>(open: &impl AsyncFn() -> S) -> Vec<String> {
    checks![
        open,
        a_row_comes_back_as_it_was_stored,
        text_state_comes_back_as_it_was_stored,
        values_at_the_ends_of_their_ranges_come_back,
        a_second_row_of_one_id_is_refused_and_the_first_one_kept,
        ids_are_compared_byte_for_byte,
        an_update_writes_what_its_scope_says,
        an_update_of_another_revision_is_a_conflict_and_changes_nothing,
        an_update_of_a_missing_row_creates_nothing,
        of_concurrent_updates_of_one_revision_one_wins,
        a_new_id_replaces_the_old_one_whatever_the_scope,
        a_new_id_that_is_taken_changes_neither_row,
        of_concurrent_new_ids_for_one_row_one_wins,
        a_replaced_id_is_gone_for_every_call,
        deleting_tells_whether_there_was_a_row,
        an_update_racing_a_deletion_leaves_no_row,
        a_new_id_racing_a_deletion_leaves_no_row_or_the_new_one,
        pruning_keeps_to_its_limit_and_to_rows_that_have_expired,
        preparing_again_keeps_the_rows,
        a_clone_shares_the_rows,
        many_calls_at_once_are_all_answered,
    ]
}

async fn check_directory<S: Directory + Clone>(open: &impl AsyncFn() -> S) -> Vec<String> {
    checks![
        open,
        filters_select_as_documented,
        text_is_compared_byte_for_byte,
        pages_follow_one_another_without_gap_or_overlap,
        removing_returns_the_ids_of_what_it_removed,
        trimming_ends_what_began_first,
        a_session_whose_id_changes_is_not_missed,
        the_sessions_of_a_user_are_known_after_every_change,
        a_healthy_store_says_so,
    ]
}

/// One check must not keep the others from being run.
async fn within(check: impl Future<Output = Verdict>) -> Verdict {
    tokio::time::timeout(6 * DEADLINE, check).await?
}

async fn prepared<S: Store>(mut store: S, table: &Table) -> Result<S, Box<dyn Error + Send + Sync>> {
    store.prepare(table, DEADLINE).await?;
    Ok(store)
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::needless_pass_by_value, reason = "most are made for the call")]
fn ensure<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}").into()) }
}

/// A table that no other check uses: a name, and what makes it unlike any other run's.
fn table(check: &str) -> Table {
    let mut random = [0; 6];
    getrandom::fill(&mut random).expect("the operating system has a random number generator");
    // PostgreSQL has 63 bytes for a name.
    let check: String = check.chars().take(40).collect();
    Table {
        name: format!("suite_{check}_{}", Hex(&random)),
        id: "id".to_owned(),
        state: "state".to_owned(),
        state_is_text: check.starts_with("text_state"),
        user: Some(column("user_id", ColumnType::Integer, true)),
        ip: Some("ip_addr".to_owned()),
        created: "created".to_owned(),
        expiration: "expiration".to_owned(),
        revision: "revision".to_owned(),
        projected: vec![
            column("tenant", ColumnType::Text, true),
            column("score", ColumnType::Real, false),
            column("visits", ColumnType::Integer, false),
            column("tag", ColumnType::Blob, false),
        ],
    }
}

const TENANT: usize = 0;

fn column(name: &str, ty: ColumnType, index: bool) -> TableColumn {
    TableColumn { name: name.to_owned(), ty, index }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn hour() -> Duration {
    Duration::from_hours(1)
}

fn id(n: u64) -> SessionId {
    let mut bytes = [0; 32];
    // Spread over the whole range, as ids are, and still in the order of `n`.
    bytes[0] = n.to_le_bytes()[0];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    SessionId::from_bytes(bytes)
}

fn row(n: u64) -> Row {
    Row {
        id: id(n),
        state: format!("\"state of {n}\"").into_bytes(),
        user: None,
        ip: None,
        created: now(),
        expiration: now().saturating_add(hour()),
        revision: 1,
        columns: vec![None; 4],
    }
}

fn full_row(n: u64) -> Row {
    Row {
        user: Some(Value::Integer(-7)),
        ip: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
        columns: vec![
            Some(Value::Text("ac'me\\ \u{1F36A}".to_owned())),
            Some(Value::Real(0.5)),
            Some(Value::Integer(i64::MIN)),
            Some(Value::Blob(vec![0, 255, 10])),
        ],
        ..row(n)
    }
}

fn of_user(n: u64, user: i64) -> Row {
    Row { user: Some(Value::Integer(user)), ..row(n) }
}

fn next(row: &Row) -> Row {
    Row { revision: row.revision + 1, ..row.clone() }
}

fn replace(row: &Row, scope: Scope, by: Row) -> Update {
    Update { id: row.id, expected: row.revision, scope, row: by }
}

fn is_user(user: i64) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(user))
}

async fn ids<S: Directory>(
    store: &S,
    filter: &Filter,
) -> Result<Vec<SessionId>, Box<dyn Error + Send + Sync>> {
    let rows = store.find(filter, Page { after: None, limit: 1_000 }).await?;
    Ok(rows.iter().map(|row| row.id).collect())
}

async fn a_row_comes_back_as_it_was_stored<S: Store>(store: S) -> Verdict {
    let long = Row { state: (0..=u8::MAX).cycle().take(64 * 1024).collect(), ..row(4) };
    for stored in [row(1), full_row(2), Row { state: Vec::new(), ..row(3) }, long] {
        store.insert(stored.clone()).await?;
        ensure("the row", store.load(stored.id).await?, Some(stored))?;
    }
    ensure("a row that was never stored", store.load(id(9)).await?, None)
}

async fn text_state_comes_back_as_it_was_stored<S: Store>(store: S) -> Verdict {
    let stored = Row { state: "{\"a\":\"\u{1F36A} '\\\\\"}".into(), ..full_row(1) };
    store.insert(stored.clone()).await?;
    ensure("the row", store.load(stored.id).await?, Some(stored.clone()))?;
    let after = Row { state: b"{}".to_vec(), ..next(&stored) };
    ensure(
        "the update",
        store.update(replace(&stored, Scope::State, after.clone())).await?,
        Outcome::Stored,
    )?;
    ensure("the row", store.load(stored.id).await?, Some(after))
}

async fn values_at_the_ends_of_their_ranges_come_back<S: Store>(store: S) -> Verdict {
    let mut low = Row { user: Some(Value::Integer(i64::MIN)), revision: 0, ..full_row(1) };
    low.created = Timestamp::from_millis(0);
    low.columns[..3].clone_from_slice(&[
        Some(Value::Text(String::new())),
        Some(Value::Real(f64::MIN)),
        Some(Value::Integer(i64::MIN)),
    ]);
    low.columns[3] = Some(Value::Blob(Vec::new()));
    let mut high = Row { user: Some(Value::Integer(i64::MAX)), revision: i64::MAX - 1, ..full_row(2) };
    high.expiration = now().saturating_add(Duration::from_hours(400 * 24));
    high.columns[..3].clone_from_slice(&[
        Some(Value::Text("\u{10FFFF} trailing ".to_owned())),
        Some(Value::Real(f64::MIN_POSITIVE)),
        Some(Value::Integer(i64::MAX)),
    ]);
    high.columns[3] = Some(Value::Blob(vec![0; 4096]));
    for stored in [low, high] {
        store.insert(stored.clone()).await?;
        ensure("the row", store.load(stored.id).await?, Some(stored.clone()))?;
        let outcome = store.update(replace(&stored, Scope::State, next(&stored))).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the row", store.load(stored.id).await?, Some(next(&stored)))?;
    }
    Ok(())
}

async fn a_second_row_of_one_id_is_refused_and_the_first_one_kept<S: Store>(store: S) -> Verdict {
    let first = row(1);
    store.insert(first.clone()).await?;
    ensure("inserting it again", store.insert(full_row(1)).await.is_ok(), false)?;
    ensure("the row", store.load(id(1)).await?, Some(first))
}

async fn ids_are_compared_byte_for_byte<S: Store>(store: S) -> Verdict {
    // Alike to one who folds case, trims spaces or zeros, or reads text.
    let alike = [[b'a'; 32], [b'A'; 32], [b' '; 32], [0; 32], [0xE4; 32], [0xC4; 32]];
    let mut tails = [[b'a'; 32]; 3];
    for (id, tail) in tails.iter_mut().zip([b' ', 0, b'\n']) {
        id[31] = tail;
    }
    let all: Vec<_> = alike.into_iter().chain(tails).map(SessionId::from_bytes).collect();
    for (n, id) in (1..).zip(&all) {
        ensure("a row that is yet to come", store.load(*id).await?, None)?;
        store.insert(Row { id: *id, revision: n, ..row(1) }).await?;
    }
    for (n, id) in (1..).zip(&all) {
        ensure("the revision", store.load(*id).await?.map(|row| row.revision), Some(n))?;
    }
    for (n, id) in all.iter().enumerate() {
        ensure("deleting it", store.delete(*id).await?, true)?;
        for other in &all[n + 1..] {
            ensure("another row", store.load(*other).await?.is_some(), true)?;
        }
    }
    Ok(())
}

async fn an_update_writes_what_its_scope_says<S: Store>(store: S) -> Verdict {
    let mut stored = row(1);
    store.insert(stored.clone()).await?;
    let state = Row { state: b"\"new\"".to_vec(), ..next(&stored) };
    let touched = Row { expiration: state.expiration.saturating_add(hour()), ..next(&state) };
    let whole = Row { revision: touched.revision + 1, ..full_row(1) };
    let bare = Row { revision: whole.revision + 1, ..row(1) };
    let steps =
        [(Scope::State, state), (Scope::Expiration, touched), (Scope::Row, whole), (Scope::Row, bare)];
    for (scope, after) in steps {
        let outcome = store.update(replace(&stored, scope, after.clone())).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the row", store.load(id(1)).await?, Some(after.clone()))?;
        stored = after;
    }
    Ok(())
}

async fn an_update_of_another_revision_is_a_conflict_and_changes_nothing<S: Store>(store: S) -> Verdict {
    let stored = row(1);
    store.insert(stored.clone()).await?;
    for expected in [0, 2, -1] {
        for scope in [Scope::State, Scope::Expiration, Scope::Row] {
            for to in [1, 2] {
                let stale = Update { id: id(1), expected, scope, row: full_row(to) };
                ensure("the update", store.update(stale).await?, Outcome::Conflict)?;
            }
        }
    }
    ensure("the row", store.load(id(1)).await?, Some(stored))?;
    ensure("the new id", store.load(id(2)).await?, None)
}

async fn an_update_of_a_missing_row_creates_nothing<S: Store>(store: S) -> Verdict {
    for scope in [Scope::State, Scope::Expiration, Scope::Row] {
        for to in [1, 2] {
            let late = replace(&row(1), scope, Row { revision: 2, ..full_row(to) });
            ensure("the update", store.update(late).await?, Outcome::Gone)?;
        }
    }
    ensure("the row", store.load(id(1)).await?, None)?;
    ensure("the new id", store.load(id(2)).await?, None)
}

async fn of_concurrent_updates_of_one_revision_one_wins<S: Store>(store: S) -> Verdict {
    let mut stored = row(1);
    store.insert(stored.clone()).await?;
    for _round in 0..5 {
        let attempts = join_all((0..20).map(|n| {
            let after = Row { state: format!("\"{n}\"").into_bytes(), ..next(&stored) };
            let update = store.update(replace(&stored, Scope::State, after.clone()));
            async move { Ok::<_, Box<dyn Error + Send + Sync>>((update.await?, after)) }
        }));
        let mut winners = Vec::new();
        for attempt in attempts.await {
            match attempt? {
                (Outcome::Stored, after) => winners.push(after),
                (outcome, _) => ensure("the update of a loser", outcome, Outcome::Conflict)?,
            }
        }
        ensure("the number of winners", winners.len(), 1)?;
        stored = winners.remove(0);
        ensure("the row", store.load(id(1)).await?, Some(stored.clone()))?;
    }
    Ok(())
}

async fn a_new_id_replaces_the_old_one_whatever_the_scope<S: Store>(store: S) -> Verdict {
    for (n, scope) in [(1, Scope::State), (2, Scope::Expiration), (3, Scope::Row)] {
        let stored = row(n);
        store.insert(stored.clone()).await?;
        let after = Row { revision: 2, ..full_row(n + 10) };
        let outcome = store.update(replace(&stored, scope, after.clone())).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the old id", store.load(id(n)).await?, None)?;
        ensure("the new id", store.load(id(n + 10)).await?, Some(after))?;
    }
    Ok(())
}

async fn a_new_id_that_is_taken_changes_neither_row<S: Store>(store: S) -> Verdict {
    let (one, two) = (row(1), row(2));
    store.insert(one.clone()).await?;
    store.insert(two.clone()).await?;
    let update = replace(&one, Scope::Row, Row { revision: 2, ..full_row(2) });
    ensure("the update", store.update(update).await.is_ok(), false)?;
    ensure("the row", store.load(id(1)).await?, Some(one))?;
    ensure("the other row", store.load(id(2)).await?, Some(two))
}

async fn of_concurrent_new_ids_for_one_row_one_wins<S: Store>(store: S) -> Verdict {
    for round in 0..5 {
        let base = round * 20;
        let stored = of_user(base, 7);
        store.insert(stored.clone()).await?;
        let attempts = join_all((1..10).map(|n| {
            let update =
                store.update(replace(&stored, Scope::Row, Row { id: id(base + n), ..next(&stored) }));
            async move { Ok::<_, Box<dyn Error + Send + Sync>>((update.await?, n)) }
        }));
        let mut winners = Vec::new();
        for attempt in attempts.await {
            if let (Outcome::Stored, n) = attempt? {
                winners.push(n);
            }
        }
        ensure("the number of winners", winners.len(), 1)?;
        for n in 0..10 {
            let exists = store.load(id(base + n)).await?.is_some();
            ensure("whether an id has the row", exists, winners.contains(&n))?;
        }
    }
    Ok(())
}

async fn a_replaced_id_is_gone_for_every_call<S: Store>(store: S) -> Verdict {
    let stored = of_user(1, 7);
    store.insert(stored.clone()).await?;
    let moved = Row { id: id(2), ..next(&stored) };
    ensure("the update", store.update(replace(&stored, Scope::Row, moved.clone())).await?, Outcome::Stored)?;
    for expected in [stored.revision, moved.revision] {
        let late = Update { id: id(1), expected, scope: Scope::State, row: next(&stored) };
        ensure("a late update", store.update(late).await?, Outcome::Gone)?;
        let again =
            Update { id: id(1), expected, scope: Scope::Row, row: Row { id: id(3), ..next(&stored) } };
        ensure("a late change of the id", store.update(again).await?, Outcome::Gone)?;
    }
    ensure("deleting the old id", store.delete(id(1)).await?, false)?;
    ensure("the row", store.load(id(2)).await?, Some(moved))?;
    ensure("deleting the new id", store.delete(id(2)).await?, true)?;
    for n in 1..=3 {
        ensure("what is left", store.load(id(n)).await?, None)?;
    }
    Ok(())
}

async fn deleting_tells_whether_there_was_a_row<S: Store>(store: S) -> Verdict {
    store.insert(full_row(1)).await?;
    ensure("deleting it", store.delete(id(1)).await?, true)?;
    ensure("deleting it again", store.delete(id(1)).await?, false)?;
    ensure("the row", store.load(id(1)).await?, None)?;
    // The id is free again, as if it had never been used.
    let again = row(1);
    store.insert(again.clone()).await?;
    ensure("the row", store.load(id(1)).await?, Some(again))
}

async fn an_update_racing_a_deletion_leaves_no_row<S: Store>(store: S) -> Verdict {
    for n in 0..40 {
        let mut stored = of_user(n, 7);
        store.insert(stored.clone()).await?;
        // Deleting may take a new connection, and that any time: only then it is known that a write comes late.
        let is_deleted = AtomicBool::new(false);
        let deletion = async {
            let deleted = store.delete(id(n)).await;
            is_deleted.store(true, Ordering::Relaxed);
            deleted
        };
        let writes = async {
            loop {
                let is_late = is_deleted.load(Ordering::Relaxed);
                let outcome = store.update(replace(&stored, Scope::Expiration, next(&stored))).await?;
                if is_late || outcome != Outcome::Stored {
                    return Ok::<_, super::StoreError>(outcome);
                }
                stored = next(&stored);
                // A store that answers at once would keep the deletion from going on.
                tokio::task::yield_now().await;
            }
        };
        let (deleted, last) = join(deletion, writes).await;
        ensure("deleting it", deleted?, true)?;
        // By the time it is told of, the row may have been there to conflict with.
        ensure("the last update", matches!(last?, Outcome::Gone | Outcome::Conflict), true)?;
        ensure("the row", store.load(id(n)).await?, None)?;
    }
    Ok(())
}

async fn a_new_id_racing_a_deletion_leaves_no_row_or_the_new_one<S: Store>(store: S) -> Verdict {
    for n in 0..40 {
        let (old, new) = (id(2 * n), id(2 * n + 1));
        let stored = of_user(2 * n, 7);
        store.insert(stored.clone()).await?;
        let rotated = store.update(replace(&stored, Scope::Row, Row { id: new, ..next(&stored) }));
        let (deleted, rotated) = join(store.delete(old), rotated).await;
        let (deleted, rotated) = (deleted?, rotated? == Outcome::Stored);
        ensure("that one of the two succeeds", deleted != rotated, true)?;
        ensure("the old id", store.load(old).await?, None)?;
        ensure("whether the new id has the row", store.load(new).await?.is_some(), rotated)?;
    }
    Ok(())
}

async fn pruning_keeps_to_its_limit_and_to_rows_that_have_expired<S: Store>(store: S) -> Verdict {
    let now = now();
    let at = |millis: i64| Timestamp::from_millis(now.as_millis() + millis);
    for (n, millis) in [(1, -2), (2, -1), (3, 0), (4, 1), (5, 60_000)] {
        store.insert(Row { created: at(-9), expiration: at(millis), ..of_user(n, 7) }).await?;
    }
    let mut pruned = 0;
    for _ in 0..10 {
        let batch = store.prune(now, 2).await?;
        ensure("that a batch keeps to its limit", batch <= 2, true)?;
        if batch == 0 {
            break;
        }
        pruned += batch;
    }
    ensure("that only what had expired was pruned", pruned <= 3, true)?;
    ensure("a row that lives", store.load(id(5)).await?.is_some(), true)?;
    if pruned == 3 {
        ensure("a row that has a moment left", store.load(id(4)).await?.is_some(), true)?;
        ensure("a row that has expired", store.load(id(3)).await?, None)?;
    }
    Ok(())
}

async fn preparing_again_keeps_the_rows<S: Store + Clone>(store: S) -> Verdict {
    let table = table("again");
    let first = prepared(store.clone(), &table).await?;
    let stored = full_row(1);
    first.insert(stored.clone()).await?;
    let attempts = join_all((0..4).map(|_| {
        let store = store.clone();
        let table = &table;
        async move { prepared(store, table).await }
    }));
    for attempt in attempts.await {
        ensure("the row", attempt?.load(id(1)).await?, Some(stored.clone()))?;
    }
    ensure("the row", first.load(id(1)).await?, Some(stored))
}

async fn a_clone_shares_the_rows<S: Store + Clone>(store: S) -> Verdict {
    let stored = full_row(1);
    store.clone().insert(stored.clone()).await?;
    ensure("the row", store.load(id(1)).await?, Some(stored))
}

async fn many_calls_at_once_are_all_answered<S: Store>(store: S) -> Verdict {
    let calls = join_all((0..100).map(|n| {
        let store = &store;
        async move {
            let stored = of_user(n, 7);
            store.insert(stored.clone()).await?;
            let outcome = store.update(replace(&stored, Scope::State, next(&stored))).await?;
            ensure("the update", outcome, Outcome::Stored)?;
            ensure("the row", store.load(id(n)).await?, Some(next(&stored)))
        }
    }));
    calls.await.into_iter().collect()
}

async fn filters_select_as_documented<S: Directory>(store: S) -> Verdict {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let base = now().saturating_add(hour());
    let later = |n: i64| Timestamp::from_millis(base.as_millis() + n);
    for (n, tenant) in [(1, Some("a")), (2, Some("b")), (3, Some("A")), (4, None)] {
        let mut row = Row { expiration: later(n * 10), ..of_user(n.cast_unsigned(), n) };
        row.columns[TENANT] = tenant.map(|tenant| Value::Text(tenant.to_owned()));
        row.ip = (n == 2).then(|| IpAddr::from([10, 0, 0, 2]));
        store.insert(row).await?;
    }
    let text = |text: &str| Value::Text(text.to_owned());
    let tenant = ColumnRef::Projected(TENANT);
    let user = |comparison, n| Filter::Compare(ColumnRef::User, comparison, Value::Integer(n));
    let is_a = || Filter::Compare(tenant, Eq, text("a"));
    let not = |filter| Filter::Not(Box::new(filter));
    let and = |left, right| Filter::And(Box::new(left), Box::new(right));
    let or = |left, right| Filter::Or(Box::new(left), Box::new(right));
    let cases: Vec<(Filter, &[u64])> = vec![
        (Filter::All, &[1, 2, 3, 4]),
        (not(Filter::All), &[]),
        (Filter::Id(id(3)), &[3]),
        (is_a(), &[1]),
        (Filter::Compare(tenant, Ne, text("a")), &[2, 3]),
        (Filter::Compare(tenant, Lt, text("a")), &[3]),
        (not(is_a()), &[2, 3, 4]),
        (not(not(is_a())), &[1]),
        (user(Eq, 2), &[2]),
        (user(Eq, 5), &[]),
        (user(Ne, 2), &[1, 3, 4]),
        (user(Lt, 2), &[1]),
        (user(Le, 2), &[1, 2]),
        (user(Gt, 2), &[3, 4]),
        (user(Ge, 2), &[2, 3, 4]),
        (Filter::OneOf(tenant, vec![text("a"), text("b"), text("zz")]), &[1, 2]),
        (Filter::OneOf(tenant, Vec::new()), &[]),
        (not(Filter::OneOf(tenant, Vec::new())), &[1, 2, 3, 4]),
        (Filter::OneOf(ColumnRef::User, vec![Value::Integer(4), Value::Integer(1)]), &[1, 4]),
        (Filter::IsNull(tenant), &[4]),
        (Filter::Compare(ColumnRef::Ip, Eq, text("10.0.0.2")), &[2]),
        (Filter::LiveAt(later(20)), &[3, 4]),
        (and(user(Eq, 3), Filter::LiveAt(later(20))), &[3]),
        (and(user(Eq, 2), Filter::LiveAt(later(20))), &[]),
        (and(or(is_a(), user(Eq, 4)), not(user(Eq, 1))), &[4]),
        (or(is_a(), and(user(Ge, 2), user(Le, 3))), &[1, 2, 3]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<_> = expected.iter().copied().map(id).collect();
        ensure(&format!("the count of {filter:?}"), store.count(&filter).await?, expected.len() as u64)?;
        ensure(&format!("what is found by {filter:?}"), ids(&store, &filter).await?, expected)?;
    }
    Ok(())
}

async fn text_is_compared_byte_for_byte<S: Directory>(store: S) -> Verdict {
    let texts = ["acme", "ACME", "acme ", " acme", "\u{E4}", "a\u{308}", "", "ss", "\u{DF}", "%", "_"];
    for (n, text) in (0..).zip(texts) {
        let mut row = row(n);
        row.columns[TENANT] = Some(Value::Text(text.to_owned()));
        store.insert(row).await?;
    }
    for (n, text) in (0..).zip(texts) {
        let value = Value::Text(text.to_owned());
        let tenant = ColumnRef::Projected(TENANT);
        let is = Filter::Compare(tenant, Comparison::Eq, value.clone());
        ensure(&format!("what equals {text:?}"), ids(&store, &is).await?, vec![id(n)])?;
        let one_of = Filter::OneOf(tenant, vec![value.clone()]);
        ensure(&format!("what is one of {text:?}"), ids(&store, &one_of).await?, vec![id(n)])?;
        let others = texts.len() as u64 - 1;
        let differs = Filter::Compare(tenant, Comparison::Ne, value.clone());
        ensure(&format!("what differs from {text:?}"), store.count(&differs).await?, others)?;
        let before = texts.iter().filter(|other| other.as_bytes() < text.as_bytes()).count() as u64;
        let less = Filter::Compare(tenant, Comparison::Lt, value);
        ensure(&format!("what is less than {text:?}"), store.count(&less).await?, before)?;
    }
    Ok(())
}

async fn pages_follow_one_another_without_gap_or_overlap<S: Directory>(store: S) -> Verdict {
    // Ids whose first bytes are alike and ids whose first bytes are not.
    let numbers = [5, 3, 1, 256 + 1, 4, 512 + 1, 2, 200];
    for n in numbers {
        store.insert(row(n)).await?;
    }
    let mut expected: Vec<_> = numbers.into_iter().map(id).collect();
    expected.sort_unstable();
    let filter = Filter::Or(Box::new(Filter::All), Box::new(Filter::Id(id(1))));
    for limit in [1, 2, 3, 100] {
        let mut seen = Vec::new();
        let mut after = None;
        for _ in 0..=2 * numbers.len() {
            let page = store.find(&filter, Page { after, limit }).await?;
            ensure("that a page keeps to its limit", page.len() as u64 <= u64::from(limit), true)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page.iter().map(|row| row.id));
        }
        ensure("the ids of all pages", &seen, &expected)?;
    }
    Ok(())
}

async fn removing_returns_the_ids_of_what_it_removed<S: Directory>(store: S) -> Verdict {
    for n in 1..=3 {
        store.insert(of_user(n, i64::from(n < 3))).await?;
    }
    let mut removed = store.remove(&is_user(1)).await?;
    removed.sort();
    ensure("what was removed", removed, vec![id(1), id(2)])?;
    ensure("what is left", ids(&store, &Filter::All).await?, vec![id(3)])?;
    ensure("what is removed again", store.remove(&is_user(1)).await?, Vec::new())?;
    ensure("what is removed at last", store.remove(&Filter::All).await?, vec![id(3)])?;
    ensure("what is left", store.count(&Filter::All).await?, 0)
}

async fn trimming_ends_what_began_first<S: Directory>(store: S) -> Verdict {
    let now = now();
    let at = |millis: i64| Timestamp::from_millis(now.as_millis() + millis);
    // Of two that began at once, the greater id stays.
    for (n, user, created, expiration) in [
        (1, 7, -40, 60_000),
        (2, 7, -30, 60_000),
        (3, 7, -30, 60_000),
        (4, 7, -10, 60_000),
        (5, 7, -5, 0),
        (6, 8, -50, 60_000),
    ] {
        store.insert(Row { created: at(created), expiration: at(expiration), ..of_user(n, user) }).await?;
    }
    let user = Value::Integer(7);
    let mut trimmed = store.trim(&user, 2, now).await?;
    trimmed.sort();
    ensure("what was trimmed", trimmed, vec![id(1), id(2)])?;
    ensure("what is trimmed again", store.trim(&user, 2, now).await?, Vec::new())?;
    let live = Filter::LiveAt(now);
    ensure("what lives", ids(&store, &live).await?, vec![id(3), id(4), id(6)])
}

/// Ends the sessions of a user while the id of one changes all the time: it must not slip through.
async fn a_session_whose_id_changes_is_not_missed<S: Directory>(store: S) -> Verdict {
    let user = Value::Integer(7);
    for round in 0..60 {
        let mut stored = of_user(1_000 * round, 7);
        store.insert(stored.clone()).await?;
        let is_over = AtomicBool::new(false);
        let end = async {
            // The change that is under way is to be at another point each time.
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            let ended = match round % 2 {
                0 => store.remove(&is_user(7)).await,
                _ => store.trim(&user, 0, now()).await,
            };
            is_over.store(true, Ordering::Relaxed);
            ended
        };
        let changes = async {
            // As many as ids were set aside for, should it be missed by a store that is slow to say so.
            for n in 1..1_000 {
                let is_late = is_over.load(Ordering::Relaxed);
                let renamed = Row { id: id(1_000 * round + n), ..next(&stored) };
                let outcome = store.update(replace(&stored, Scope::Row, renamed.clone())).await?;
                if outcome != Outcome::Stored {
                    break;
                }
                stored = renamed;
                if is_late {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, super::StoreError>(stored.id)
        };
        let (ended, last) = join(end, changes).await;
        let (ended, last) = (ended?, last?);
        ensure("what is left of the user", ids(&store, &is_user(7)).await?, Vec::new())?;
        ensure("the row", store.load(last).await?, None)?;
        ensure("what was ended", ended, vec![last])?;
    }
    Ok(())
}

async fn the_sessions_of_a_user_are_known_after_every_change<S: Directory>(store: S) -> Verdict {
    let stored = of_user(1, 7);
    store.insert(stored.clone()).await?;
    store.insert(row(9)).await?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, vec![id(1)])?;
    // A new id, as every log-in makes one; then another user under another id; then nobody.
    let renamed = Row { id: id(2), ..next(&stored) };
    ensure(
        "the update",
        store.update(replace(&stored, Scope::Row, renamed.clone())).await?,
        Outcome::Stored,
    )?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, vec![id(2)])?;
    let other = Row { id: id(3), user: Some(Value::Integer(8)), ..next(&renamed) };
    ensure("the update", store.update(replace(&renamed, Scope::Row, other.clone())).await?, Outcome::Stored)?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, Vec::new())?;
    ensure("whose they are", ids(&store, &is_user(8)).await?, vec![id(3)])?;
    let back = Row { user: Some(Value::Integer(7)), ..next(&other) };
    ensure("the update", store.update(replace(&other, Scope::Row, back.clone())).await?, Outcome::Stored)?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, vec![id(3)])?;
    ensure("whose they are", store.count(&is_user(8)).await?, 0)?;
    let touched = Row { expiration: back.expiration.saturating_add(hour()), ..next(&back) };
    let outcome = store.update(replace(&back, Scope::Expiration, touched)).await?;
    ensure("the update", outcome, Outcome::Stored)?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, vec![id(3)])?;
    ensure("deleting it", store.delete(id(3)).await?, true)?;
    ensure("whose they are", ids(&store, &is_user(7)).await?, Vec::new())
}

async fn a_healthy_store_says_so<S: Directory>(store: S) -> Verdict {
    store.health().await?;
    store.insert(row(1)).await?;
    store.health().await?;
    ensure("the number of rows", store.count(&Filter::All).await?, 1)
}
