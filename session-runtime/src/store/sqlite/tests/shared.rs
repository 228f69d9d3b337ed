//! Rows kept in memory while other processes write, and changes that share a transaction.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::io::{BufRead as _, BufReader, Write as _};
use std::pin::pin;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::Poll;

use super::super::index::Index;
use super::*;

const PATH: &str = "DATABAG_TEST_DATABASE";

/// The number up to which another process counts.
const COUNTED: i64 = 4_000;

/// Another process with the same database: it executes a line of SQL, and answers when that is done.
struct Other {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::sqlite::tests::shared::another_process", "--ignored", "--nocapture"])
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers }
    }

    fn execute(&mut self, sql: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{sql}").unwrap();
        let mut answer = String::new();
        while !answer.ends_with("done\n") {
            answer.clear();
            assert!(self.answers.read_line(&mut answer).unwrap() > 0, "the other process has ended at {sql}");
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "another process of the tests here"]
fn another_process() {
    let Ok(path) = std::env::var(PATH) else { return };
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(TIMEOUT).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    for sql in std::io::stdin().lines() {
        let sql = sql.unwrap();
        if sql == "count" {
            for revision in 2..=COUNTED {
                connection.execute("UPDATE sessions SET revision = ?1", [revision]).unwrap();
                println!("{revision}");
                // Enough time for rows to be kept, between some.
                thread::sleep(Duration::from_micros(if revision % 4 == 0 { 500 } else { 0 }));
            }
        } else {
            connection.execute_batch(&sql).unwrap();
        }
        println!("done");
    }
}

/// The next of a sequence of numbers that look random, below a limit.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_row_is_never_older_than_what_another_process_has_written() {
    let fixture = fixture().await;
    let store = fixture.store.clone().durability(Durability::Normal);
    let mut other = Other::start(&fixture.path());
    let mut expected: BTreeMap<u64, i64> = BTreeMap::new();
    let rounds = std::env::var("CACHE_ROUNDS").map_or(1_500, |rounds| rounds.parse().unwrap());
    let (mut random, mut found) = (7, 0);
    for round in 0..rounds {
        let n = next(&mut random, 8);
        let key = format!("x'{}'", id(n));
        match next(&mut random, 14) {
            0 => other.execute("VACUUM"),
            1 => other.execute("PRAGMA wal_checkpoint(PASSIVE)"),
            2 => other.execute("PRAGMA wal_checkpoint(RESTART)"),
            3 => other.execute("PRAGMA wal_checkpoint(TRUNCATE)"),
            4 => other.execute("PRAGMA journal_mode = WAL"),
            5 => other = Other::start(&fixture.path()),
            6 => {
                other.execute(&format!("DELETE FROM sessions WHERE id = {key}"));
                expected.remove(&n);
            }
            7 => {
                other.execute(&format!("UPDATE sessions SET revision = revision + 1000 WHERE id = {key}"));
                if let Some(revision) = expected.get_mut(&n) {
                    *revision += 1_000;
                }
            }
            8 => other.execute(&format!(
                "BEGIN; UPDATE sessions SET revision = revision + 1000 WHERE id = {key}; ROLLBACK"
            )),
            9 => {
                store.delete(id(n), soon()).await.unwrap();
                expected.remove(&n);
            }
            _ => {
                if let Some(revision) = expected.get_mut(&n) {
                    let before = Row { revision: *revision, ..row(n) };
                    let stored = store.update(update(&before, Scope::State), soon()).await.unwrap();
                    assert_eq!(stored, Outcome::Stored, "round {round}");
                    *revision += 1;
                } else {
                    store.insert(row(n), soon()).await.unwrap();
                    expected.insert(n, 1);
                }
            }
        }
        for _ in 0..24 {
            let n = next(&mut random, 8);
            found += usize::from(
                store.database.cache.find(store.statements("find").unwrap().number, &id(n)).is_ok(),
            );
            let loaded = store.load(id(n), soon()).await.unwrap();
            assert_eq!(loaded.map(|row| row.revision), expected.get(&n).copied(), "round {round}, row {n}");
        }
    }
    assert!(found > rounds, "of {} reads only {found} needed no statement", rounds * 24);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_row_is_never_older_than_a_commit_that_another_process_has_announced() {
    let fixture = fixture().await;
    let store = fixture.store.clone().durability(Durability::Normal);
    store.insert(row(1), soon()).await.unwrap();
    let number = store.statements("find").unwrap().number;
    let mut other = Other::start(&fixture.path());
    writeln!(other.process.stdin.as_mut().unwrap(), "count").unwrap();
    let (announced, is_done) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, announced, is_done) = (store.clone(), announced.clone(), is_done.clone());
            tokio::spawn(async move {
                let (mut last, mut found) = (0, 0);
                while !is_done.load(Ordering::SeqCst) {
                    let committed = announced.load(Ordering::SeqCst).max(last);
                    if let Ok(row) = store.database.cache.find(number, &id(1)) {
                        found += 1;
                        assert!(row.revision >= committed, "{} after {committed}", row.revision);
                    }
                    last = store.load(id(1), soon()).await.unwrap().unwrap().revision;
                    assert!(last >= committed, "{last} after {committed}");
                    tokio::task::yield_now().await;
                }
                found
            })
        })
        .collect();
    let announce = move || {
        let mut line = String::new();
        while other.answers.read_line(&mut line).unwrap() > 0 && !line.ends_with("done\n") {
            if let Ok(revision) = line.trim().parse() {
                announced.store(revision, Ordering::SeqCst);
            }
            line.clear();
        }
        is_done.store(true, Ordering::SeqCst);
    };
    tokio::task::spawn_blocking(announce).await.unwrap();
    for reader in readers {
        assert!(reader.await.unwrap() > 100);
    }
    assert_eq!(store.load(id(1), soon()).await.unwrap().unwrap().revision, COUNTED);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_row_is_not_kept_if_another_process_has_committed_meanwhile() {
    let fixture = fixture().await;
    let (store, cache) = (&fixture.store, &fixture.store.database.cache);
    warm(store).await;
    store.insert(row(1), soon()).await.unwrap();
    let commit = || fixture.sql().execute("UPDATE sessions SET revision = revision + 1", []).unwrap();
    let number = store.statements("find").unwrap().number;
    let read = || loop {
        match cache.find(number, &id(1)) {
            Ok(row) => break Ok(row),
            Err(Some(header)) => break Err(header),
            Err(None) => {}
        }
    };
    let header = read().unwrap_err();
    commit();
    cache.keep(header, number, &row(1));
    assert!(read().is_err(), "a row that is older than the header");

    cache.keep(read().unwrap_err(), number, &row(1));
    assert!(read().is_ok());
    let before = cache.begin();
    commit();
    cache.end(before, Some(Vec::new()));
    assert!(read().is_ok(), "as if that commit had been its own");
    let before = cache.begin();
    commit();
    commit();
    cache.end(before, Some(Vec::new()));
    assert!(read().is_err(), "a commit that was not its own");
}

/// Makes commits until rows are kept over a commit of the store.
async fn warm(store: &SqliteStore) {
    for n in 1_000..1_100 {
        store.insert(row(n), soon()).await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_an_update_leaves_in_memory_is_what_another_process_reads() {
    let fixture = fixture().await;
    let store = fixture.store.clone().durability(Durability::Normal);
    warm(&store).await;
    store.insert(row(1), soon()).await.unwrap();
    let number = store.statements("find").unwrap().number;
    let (mut found, mut current) = (0, row(1));
    for round in 0..200 {
        for _ in 0..40 {
            store.load(id(1), soon()).await.unwrap();
        }
        let scope = [Scope::State, Scope::Expiration, Scope::Row][round % 3];
        let mut change = update(&current, scope);
        change.row.state = vec![7; 50 + round];
        change.row.expiration = change.row.expiration.saturating_add(Duration::from_secs(1));
        change.row.columns[0] = Some(Value::Text(format!("tenant {round}")));
        assert_eq!(store.update(change, soon()).await.unwrap(), Outcome::Stored);
        let kept = store.database.cache.find(number, &id(1));
        current = open(&fixture.path(), &table()).await.unwrap().load(id(1), soon()).await.unwrap().unwrap();
        if let Ok(kept) = kept {
            found += 1;
            assert_eq!(kept, current, "{scope:?}");
        }
    }
    assert!(found > 100, "only {found} rows were kept over an update");
}

#[tokio::test]
async fn of_two_changes_in_one_transaction_the_last_one_is_read() {
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let store = fixture.store.clone().durability(durability);
        warm(&store).await;
        for n in 0..100 {
            store.insert(row(n), soon()).await.unwrap();
            store.load(id(n), soon()).await.unwrap();
            let change = update(&row(n), Scope::State);
            let (updated, deleted) = tokio::join!(store.update(change, soon()), store.delete(id(n), soon()));
            assert_eq!(updated.unwrap(), Outcome::Stored);
            assert!(deleted.unwrap());
            assert_eq!(store.load(id(n), soon()).await.unwrap(), None);
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_session_that_a_limited_write_has_ended_is_not_read_from_memory() {
    let of_user = |n| Row { user: Some(Value::Integer(7)), ..row(n) };
    let of_another = Row { user: Some(Value::Integer(8)), ..row(9) };
    let user = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7));
    let change = |former: &Row, n| Update {
        row: Row { revision: former.revision + 1, ..of_user(n) },
        ..update(former, Scope::Row)
    };
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let store = fixture.store.clone().durability(durability);
        let number = store.statements("find").unwrap().number;
        warm(&store).await;
        for row in [of_user(1), of_user(2), of_user(3), of_user(4), of_another.clone()] {
            store.insert(row, soon()).await.unwrap();
        }
        // All are of the same age, so the one with the lowest id is the first to go.
        let (inserted, renewed) = (of_user(5), change(&of_user(5), 5));
        let renamed = change(&of_user(4), 6);
        let writes: [(_, _, &[u64], _); 3] = [
            (Write::Insert(inserted), 4, &[1], None),
            (Write::Update(renewed), 2, &[2, 3], None),
            (Write::Update(renamed), 1, &[5], Some(4)),
        ];
        for (write, max, ended, renamed) in writes {
            for id in ids(&store, user.clone()).await.into_iter().chain([id(9)]) {
                let mut reads = 0;
                while store.database.cache.find(number, &id).is_err() {
                    store.load(id, soon()).await.unwrap();
                    reads += 1;
                    assert!(reads < 100, "{id} is not kept");
                }
            }
            let limited = LimitedWrite::new(write, max, Timestamp::from_millis(2));
            let written = limited.row().clone();
            let (outcome, mut removed) = store.write_limited(limited, soon()).await.unwrap();
            removed.sort_unstable();
            assert_eq!(outcome, Outcome::Stored);
            assert_eq!(removed, ended.iter().map(|n| id(*n)).collect::<Vec<_>>());
            for n in ended.iter().copied().chain(renamed) {
                assert_eq!(store.load(id(n), soon()).await.unwrap(), None, "row {n}, {durability:?}");
            }
            for row in [&written, &of_another] {
                assert_eq!(store.load(row.id, soon()).await.unwrap().as_ref(), Some(row), "{durability:?}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_store_that_is_closed_drops_no_lock_of_another_one_on_its_file() {
    use std::os::unix::fs::MetadataExt as _;

    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    let index = fixture.folder.path().join("sessions.db-shm");
    let inode = format!(":{} ", std::fs::metadata(index).unwrap().ino());
    // A connection holds the lock of byte 128 as long as it is open. The list may change while it is read.
    let is_locked = || {
        (0..100).any(|_| {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|lock| lock.contains(&inode) && lock.ends_with(" 128 128"))
        })
    };
    assert!(is_locked());
    for n in 2..5 {
        let second = open(&fixture.path(), &table()).await.unwrap();
        second.insert(row(n), soon()).await.unwrap();
        second.load(id(1), soon()).await.unwrap();
        drop(second);
        assert!(is_locked());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_index_of_a_database_that_nobody_uses_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    for n in 0..20 {
        let store = open(&path, &table()).await.unwrap();
        store.insert(row(n), soon()).await.unwrap();
        store.load(id(n), soon()).await.unwrap();
    }
    let opened = std::fs::read_dir("/proc/self/fd").unwrap().filter(|descriptor| {
        let target = std::fs::read_link(descriptor.as_ref().unwrap().path());
        target.is_ok_and(|target| target.starts_with(folder.path()))
    });
    assert!(opened.count() <= 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn changes_of_many_callers_share_transactions() {
    let fixture = fixture().await;
    let store = fixture.store.clone().durability(Durability::Normal);
    store.insert(row(0), soon()).await.unwrap();
    let index = Index::open(&fixture.path()).unwrap();
    let before = index.header().unwrap().commits();
    let writers: Vec<_> = (1..=400)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.insert(row(n), soon()).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let commits = index.header().unwrap().commits() - before;
    assert!(commits < 100, "400 changes took {commits} commits");
}

#[tokio::test]
async fn a_caller_that_is_not_polled_again_keeps_no_other_from_writing() {
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let store = fixture.store.clone().durability(durability);
        let mut first = pin!(store.insert(row(1), soon()));
        poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_ready())).await;
        store.insert(row(2), soon()).await.unwrap();
        assert_eq!(ids(&store, Filter::All).await, [id(1), id(2)]);
    }
}

#[test]
fn a_change_is_made_even_if_its_runtime_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for durability in [Durability::Full, Durability::Normal] {
        let outer = runtime();
        let fixture = outer.block_on(fixture());
        let store = fixture.store.clone().durability(durability);
        let mut waits = pin!(store.insert(row(1), soon()));
        runtime().block_on(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_ready())));
        outer.block_on(async { tokio::time::timeout(TIMEOUT, waits).await }).unwrap().unwrap();
        assert_eq!(outer.block_on(ids(&store, Filter::All)), [id(1)]);
    }
}

#[test]
fn a_blocked_worker_delays_no_other_one() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for durability in [Durability::Full, Durability::Normal] {
        let free = runtime();
        let fixture = free.block_on(fixture());
        let store = fixture.store.clone().durability(durability);
        let (blocked, blocks) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let worker = {
            let store = store.clone();
            thread::spawn(move || {
                runtime().block_on(async move {
                    let mut waits = pin!(store.insert(row(1), soon()));
                    poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_ready())).await;
                    blocked.send(()).unwrap();
                    ends.recv().unwrap();
                    drop(waits.await);
                });
            })
        };
        blocks.recv().unwrap();
        free.block_on(async { tokio::time::timeout(TIMEOUT, store.insert(row(2), soon())).await })
            .unwrap()
            .unwrap();
        end.send(()).unwrap();
        worker.join().unwrap();
    }
}
