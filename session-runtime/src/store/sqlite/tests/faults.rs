//! The file: its modes, the processes that share it, and its faults.

use std::fs;

use super::*;

impl Fixture {
    fn companion(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("sessions.db{suffix}"))
    }
}

fn cause_of<T: fmt::Debug>(result: Result<T, StoreError>) -> String {
    cause(&result.unwrap_err())
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;

    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_access_the_files() {
    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&fixture.companion(suffix)), 0o600, "{suffix}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_access_of_other_users_to_a_database_is_removed() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (c);").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = folder.path().join(format!("sessions.db{suffix}"));
        fs::set_permissions(file, fs::Permissions::from_mode(0o664)).unwrap();
    }
    let modes =
        || ["", "-wal", "-shm"].map(|suffix| mode(&folder.path().join(format!("sessions.db{suffix}"))));
    let mut store = SqliteStore::open(&path).unwrap();
    let foreign = Table::new("t");
    assert!(store.prepare(&foreign, TIMEOUT).await.is_err(), "it is a table of the other program");
    assert_eq!(modes(), [0o664; 3]);
    assert_eq!(store.claim(&table(), "shop", soon()).await.unwrap(), "shop");
    store.prepare(&table(), TIMEOUT).await.unwrap();
    assert_eq!(modes(), [0o600; 3]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let _store = SqliteStore::open(&path).unwrap();
    assert_eq!(modes(), [0o600; 3], "it has sessions");
}

#[cfg(unix)]
#[tokio::test]
async fn a_supplied_database_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let connection = Connection::open(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let mut store = SqliteStore::from_connection(connection).unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    assert_eq!(mode(&path), 0o660);
}

#[tokio::test]
async fn the_connections_have_the_documented_settings() {
    let Fixture { store, folder: _folder } = fixture().await;
    let settings = |connection: &Connection| {
        let text = |name| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let numbers = ["trusted_schema", "cell_size_check", "mmap_size", "synchronous"].map(number);
        (text("journal_mode"), numbers)
    };
    let wal = || "wal".to_owned();
    let reader = store.database.readers.read(Instant::now() + TIMEOUT, |connection| Ok(settings(connection)));
    let listing =
        store.database.listings.read(Instant::now() + TIMEOUT, |connection| Ok(settings(connection)));
    assert_eq!(reader.unwrap(), (wal(), [0, 1, 0, 2]));
    assert_eq!(listing.unwrap(), (wal(), [0, 1, 0, 2]));
    let read_only = store
        .database
        .readers
        .read(Instant::now() + TIMEOUT, |connection| Ok(connection.is_readonly("main")?));
    assert!(read_only.unwrap());

    let (full, normal) = (2, 1);
    for (durability, synchronous) in
        [(Durability::Full, full), (Durability::Normal, normal), (Durability::Full, full)]
    {
        let handle = store.clone().durability(durability);
        let seen = handle
            .write("read", Affected::Rows([None; 2]), soon(), move |_, connection| Ok(settings(connection)))
            .await
            .unwrap();
        assert_eq!(seen, (wal(), [0, 1, 0, synchronous]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_write_can_be_read() {
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let writers: Vec<_> = (0..64)
            .map(|writer| {
                let store = fixture.store.clone().durability(durability);
                tokio::spawn(async move {
                    for n in 0..20 {
                        let row = row(writer * 100 + n);
                        store.insert(row.clone(), soon()).await.unwrap();
                        assert_eq!(
                            store.update(update(&row, Scope::State), soon()).await.unwrap(),
                            Outcome::Stored
                        );
                        assert_eq!(store.load(row.id, soon()).await.unwrap().unwrap().revision, 2);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let stored: i64 = fixture
            .sql()
            .query_row("SELECT count(*) FROM sessions WHERE revision = 2", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, 64 * 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_never_fail_with_busy() {
    let fixture = fixture().await;
    let mut writers = Vec::new();
    for (n, durability) in [(0, Durability::Full), (1, Durability::Normal), (2, Durability::Normal)] {
        let store = open(&fixture.path(), &table()).await.unwrap().durability(durability);
        for task in 0..4 {
            let store = store.clone();
            writers.push(tokio::spawn(async move {
                for step in 0..50 {
                    let row = row(n * 10_000 + task * 1_000 + step);
                    store.insert(row.clone(), soon()).await.unwrap();
                    assert!(store.load(row.id, soon()).await.unwrap().is_some());
                }
            }));
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(fixture.store.count(&Filter::All, soon()).await.unwrap(), 3 * 4 * 50);
}

#[tokio::test]
async fn a_failing_write_does_not_affect_the_others_of_its_transaction() {
    let fixture = fixture().await;
    fixture.store.insert(row(5), soon()).await.unwrap();
    // The writes wait until another connection releases the write lock, and then share one transaction.
    let other = fixture.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writes: Vec<_> = (0..10)
        .map(|n| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.insert(full_row(n), soon()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.execute_batch("COMMIT").unwrap();
    for (n, write) in (0..).zip(writes) {
        assert_eq!(write.await.unwrap().is_ok(), n != 5, "{n}");
    }
    assert_eq!(fixture.store.count(&Filter::All, soon()).await.unwrap(), 10);
    assert_eq!(fixture.store.load(id(5), soon()).await.unwrap(), Some(row(5)));
}

#[tokio::test]
async fn writes_to_a_locked_database_fail_at_the_deadline_and_work_afterwards() {
    let fixture = fixture().await;
    let timeout = Duration::from_millis(200);
    let store = &fixture.store;
    store.insert(row(1), soon()).await.unwrap();
    let other = fixture.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for durability in [Durability::Full, Durability::Normal] {
        let store = store.clone().durability(durability);
        let begun = Instant::now();
        assert!(cause_of(store.insert(row(2), begun + timeout).await).contains("deadline"));
        assert!(cause_of(store.health(Instant::now() + timeout).await).contains("deadline"));
        assert!(begun.elapsed() >= timeout && begun.elapsed() < timeout * 10, "{:?}", begun.elapsed());
        assert!(store.load(id(1), soon()).await.unwrap().is_some());
    }
    other.execute_batch("ROLLBACK").unwrap();
    // The write that failed was not made later.
    store.insert(row(2), soon()).await.unwrap();
    store.health(soon()).await.unwrap();
}

#[tokio::test]
async fn a_write_whose_deadline_has_passed_is_not_made() {
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let store = fixture.store.clone().durability(durability);
        store.insert(row(1), soon()).await.unwrap();
        let past = Instant::now();
        assert!(cause_of(store.insert(row(2), past).await).contains("deadline"));
        assert!(cause_of(store.delete(id(1), past).await).contains("deadline"));
        assert_eq!(ids(&store, Filter::All).await, [id(1)]);
    }
}

#[tokio::test]
async fn reads_of_an_exclusively_locked_database_wait_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let timeout = Duration::from_millis(200);
    let store = open(&path, &table()).await.unwrap();
    store.insert(row(1), soon()).await.unwrap();
    // A connection can lock readers out only while no other connection is open.
    drop(store);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM sessions;").unwrap();
    let readers = Readers::of_file(Arc::new(File::create(&path).unwrap()), 1);
    let statements = TableStatements::new(&table());
    assert!(readers.try_read(|connection| statements.load(connection, id(1))).is_none());
    let begun = Instant::now();
    let read = readers.read(begun + timeout, |connection| statements.load(connection, id(1)));
    assert!(matches!(read, Err(Failure::Deadline)));
    assert!(begun.elapsed() >= timeout);
    drop(other);
    let read = readers.read(Instant::now() + timeout, |connection| statements.load(connection, id(1)));
    assert_eq!(read.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn a_read_uses_a_free_connection_while_others_are_in_use() {
    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    let readers = Readers::of_file(Arc::new(File::create(&fixture.path()).unwrap()), 2);
    let statements = TableStatements::new(&table());
    let nested = readers.try_read(|_| {
        let second = readers.try_read(|connection| {
            assert!(readers.try_read(|_| Ok(())).is_none());
            statements.load(connection, id(1))
        });
        second.expect("a connection")
    });
    assert_eq!(nested.expect("a connection").unwrap(), Some(row(1)));
}

#[tokio::test]
async fn reads_of_a_read_only_database_work_and_writes_fail() {
    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    let access = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    // Without a path, the store cannot open the file again with write access.
    let link =
        Link::writer(Connection::open_with_flags(fixture.path(), access).unwrap(), None, TIMEOUT).unwrap();
    let mut store = SqliteStore::new(None, link).unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(row(1)));
    assert!(cause_of(store.insert(row(2), soon()).await).contains("readonly"));
    assert!(cause_of(store.delete(id(1), soon()).await).contains("readonly"));
    assert!(cause_of(store.health(soon()).await).contains("readonly"));
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn a_full_disk_fails_the_whole_transaction_and_the_next_one_recovers() {
    let fixture = fixture().await;
    let limit = |pages: i64| {
        fixture.store.database.writer.with_connection(|connection| {
            Ok(connection
                .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
        })
    };
    limit(16).unwrap();
    let big = |n| Row { state: vec![7; 200_000], ..row(n) };
    let other = fixture.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writes: Vec<_> = [row(1), big(2), row(3)]
        .into_iter()
        .map(|row| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.insert(row, soon()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.execute_batch("COMMIT").unwrap();
    let mut acknowledged = Vec::new();
    for (n, write) in (1..).zip(writes) {
        match write.await.unwrap() {
            Ok(()) => acknowledged.push(id(n)),
            Err(error) => assert!(cause(&error).contains("full"), "{}", cause(&error)),
        }
    }
    assert!(!acknowledged.contains(&id(2)));
    assert_eq!(ids(&fixture.store, Filter::All).await, acknowledged);
    limit(1_000_000).unwrap();
    fixture.store.insert(big(2), soon()).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_deleted_database_is_an_error_and_never_created_again() {
    for durability in [Durability::Full, Durability::Normal] {
        let fixture = fixture().await;
        let store = fixture.store.clone().durability(durability);
        store.insert(row(1), soon()).await.unwrap();
        assert!(store.load(id(1), soon()).await.unwrap().is_some());
        fs::remove_file(fixture.path()).unwrap();
        assert!(cause_of(store.insert(row(2), soon()).await).contains("no longer at its path"));
        store.insert(row(3), soon()).await.unwrap_err();
        store.delete(id(1), soon()).await.unwrap_err();
        store.health(soon()).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        store.load(id(1), soon()).await.unwrap_err();
        assert!(!fixture.path().exists());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_that_replaces_another_one_is_used_without_a_restart() {
    let fixture = fixture().await;
    fixture.store.insert(row(1), soon()).await.unwrap();
    let backup = fixture.folder.path().join("backup.db");
    fixture.sql().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    fixture.store.insert(row(2), soon()).await.unwrap();
    assert!(fixture.store.load(id(2), soon()).await.unwrap().is_some());
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(fixture.companion(suffix)).unwrap();
    }
    fs::rename(backup, fixture.path()).unwrap();
    // Only the write that finds the new file fails.
    fixture.store.insert(row(3), soon()).await.unwrap_err();
    fixture.store.insert(row(4), soon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for (n, is_there) in [(1, true), (2, false), (3, false), (4, true)] {
        assert_eq!(fixture.store.load(id(n), soon()).await.unwrap().is_some(), is_there, "{n}");
    }
    fixture.store.health(soon()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let notes = "not a database, and longer than the header of one would be: ".repeat(20);
    fs::write(&path, &notes).unwrap();
    #[cfg(unix)]
    let before = mode(&path);
    assert!(cause_of(SqliteStore::open(&path)).contains("not a database"));
    assert_eq!(fs::read_to_string(&path).unwrap(), notes);
    #[cfg(unix)]
    assert_eq!(mode(&path), before);
}

#[test]
fn a_path_without_a_folder_or_to_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = SqliteStore::open(folder.path().join("missing/sessions.db")).unwrap_err();
    assert!(cause(&error).contains("missing/sessions.db") && cause(&error).contains("folder"));
    for name in ["", ":memory:"] {
        assert!(cause_of(SqliteStore::open(name)).contains("in_memory"));
    }
    assert!(cause_of(SqliteStore::open(folder.path())).contains("is a folder"));
    for url in ["sqlite:sessions.db", "sqlite:///tmp/sessions.db", "postgres://localhost/shop"] {
        assert!(cause_of(SqliteStore::open(url)).contains("AnyStore::connect"), "{url}");
    }
}

#[tokio::test]
async fn a_corrupt_database_is_an_error_and_is_not_recreated() {
    let fixture = fixture().await;
    for n in 0..200 {
        fixture.store.insert(full_row(n), soon()).await.unwrap();
    }
    let path = fixture.path();
    let Fixture { store, folder: _folder } = fixture;
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let (_, content) = bytes.split_at_mut(8 * 1024);
    content.fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let mut store = SqliteStore::open(&path).unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    store.load(id(100), soon()).await.unwrap_err();
    store.insert(full_row(1_000), soon()).await.unwrap_err();
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64);
}

#[tokio::test]
async fn a_supplied_connection_writes_and_readers_open_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let mut store = SqliteStore::from_connection(Connection::open(&path).unwrap()).unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    store.insert(full_row(1), soon()).await.unwrap();
    assert_eq!(store.load(id(1), soon()).await.unwrap(), Some(full_row(1)));
    assert_eq!(open(&path, &table()).await.unwrap().count(&Filter::All, soon()).await.unwrap(), 1);
}

#[test]
fn a_connection_inside_a_transaction_is_refused() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("BEGIN").unwrap();
    assert!(cause_of(SqliteStore::from_connection(connection)).contains("transaction"));
}

/// SQLite counts the bytes of a text, and compares them, in the encoding of the database.
#[test]
fn a_database_whose_text_is_not_utf_8_is_refused_and_left_alone() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let connection = || {
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "encoding", encoding).unwrap();
            connection
        };
        let is_refused = |store| {
            let cause = cause_of(store);
            assert!(cause.contains(encoding) && cause.contains("PRAGMA encoding = 'UTF-8'"), "{cause}");
        };
        is_refused(SqliteStore::from_connection(connection()));
        connection().execute_batch("CREATE TABLE other (id)").unwrap();
        let before = fs::read(&path).unwrap();
        is_refused(SqliteStore::from_connection(Connection::open(&path).unwrap()));
        is_refused(SqliteStore::open(&path));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_in_memory_serves_every_call_over_one_connection() {
    let mut store = SqliteStore::in_memory().unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let durability = if n % 2 == 0 { Durability::Full } else { Durability::Normal };
            let store = store.clone().durability(durability);
            tokio::spawn(async move {
                store.insert(full_row(n), soon()).await.unwrap();
                assert_eq!(store.load(id(n), soon()).await.unwrap(), Some(full_row(n)));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.count(&Filter::All, soon()).await.unwrap(), 16);
    store.health(soon()).await.unwrap();
}

#[tokio::test]
async fn a_write_is_made_even_if_its_caller_stops_waiting() {
    let fixture = fixture().await;
    let other = fixture.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let insert = fixture.store.insert(row(1), soon());
    tokio::time::timeout(Duration::from_millis(20), insert).await.unwrap_err();
    other.execute_batch("COMMIT").unwrap();
    let path = fixture.path();
    let Fixture { store, folder: _folder } = fixture;
    drop(store);
    let there =
        Connection::open(path).unwrap().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0));
    assert_eq!(there, Ok(1));
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_file_and_leaves_no_log() {
    let fixture = fixture().await;
    let store = fixture.store.clone();
    store.insert(row(1), soon()).await.unwrap();
    store.load(id(1), soon()).await.unwrap();
    store.count(&Filter::All, soon()).await.unwrap();
    assert!(fixture.companion("-wal").exists());
    drop(store);
    assert!(fixture.companion("-wal").exists());
    let Fixture { store, folder } = fixture;
    drop(store);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sessions.db"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_starts_over_under_constant_load() {
    let fixture = fixture().await;
    let store = fixture.store.clone().durability(Durability::Normal);
    let mut row = row(1);
    store.insert(row.clone(), soon()).await.unwrap();
    let mut longest = 0;
    // 300 MiB of pages, in a log that is to stay between 64 and 128.
    for n in 0..4_500_u32 {
        row.state = vec![n.to_le_bytes()[0]; 64 * 1024];
        assert_eq!(store.update(update(&row, Scope::State), soon()).await.unwrap(), Outcome::Stored);
        row.revision += 1;
        longest = longest.max(fs::metadata(fixture.companion("-wal")).unwrap().len());
    }
    assert!(longest < 140 << 20, "the log grew to {} MiB", longest >> 20);
}

#[test]
fn debug_shows_neither_path_nor_table() {
    assert_eq!(format!("{:?}", SqliteStore::in_memory().unwrap()), "SqliteStore { durability: Normal, .. }");
}

/// A deferred constraint of the application is checked at `COMMIT`, which fails and leaves the transaction open.
#[tokio::test]
async fn a_commit_that_fails_under_a_limit_leaves_no_half_write_and_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch(
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY);
         INSERT INTO accounts VALUES (-7);
         CREATE TABLE sessions (id BLOB PRIMARY KEY, state BLOB NOT NULL, user_id INTEGER, ip_addr TEXT,
             created INTEGER NOT NULL, expiration INTEGER NOT NULL, revision INTEGER NOT NULL, tenant TEXT, score REAL,
             visits INTEGER REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED, tag BLOB)",
    )
    .unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    let mut store = SqliteStore::from_connection(connection).unwrap();
    store.prepare(&table(), TIMEOUT).await.unwrap();
    for durability in [Durability::Full, Durability::Normal] {
        let store = store.clone().durability(durability);
        let session = |n, visits| {
            let mut row = Row { user: Some(Value::Integer(-7)), ..row(n) };
            row.columns[2] = visits;
            row
        };
        let of_user = || ids(&store, Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(-7)));
        let log_in = |row: Row| {
            store.write_limited(LimitedWrite::new(Write::Insert(row), 2, Timestamp::from_millis(2)), soon())
        };
        let rename = |from: u64, row: Row| {
            let update = Update::new(id(from), 1, row);
            store
                .write_limited(LimitedWrite::new(Write::Update(update), 1, Timestamp::from_millis(2)), soon())
        };
        for n in [1, 2] {
            store.insert(session(n, None), soon()).await.unwrap();
        }
        // There is no account 99.
        let refused = session(3, Some(Value::Integer(99)));
        let causes = [cause_of(log_in(refused.clone()).await), cause_of(rename(2, refused).await)];
        assert!(causes.iter().all(|cause| cause.contains("FOREIGN KEY constraint failed")), "{causes:?}");
        assert_eq!(of_user().await, [id(1), id(2)], "{durability:?}");
        // Another program gets the write lock at once.
        sql.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        let (outcome, ended) = log_in(session(4, Some(Value::Integer(-7)))).await.unwrap();
        assert_eq!((outcome, ended, of_user().await), (Outcome::Stored, vec![id(1)], vec![id(2), id(4)]));
        let (outcome, ended) = rename(2, session(5, None)).await.unwrap();
        assert_eq!((outcome, ended, of_user().await), (Outcome::Stored, vec![id(4)], vec![id(5)]));
        store.remove(&Filter::All, soon()).await.unwrap();
    }
}
