//! Each store on its real server: the suite, and the faults that only that server can have.
//!
//! Run by `tests/servers cargo test -p databag-tests --features servers`. Without a server its tests fail.

use std::time::{Instant, SystemTime};

use databag_tests::rows::{row, soon, table, touch, with};
use databag_tests::{server, users};
use futures_util::TryStreamExt as _;
use session_runtime::store::{
    ColumnRef, Comparison, Filter, LimitedWrite, Outcome, Page, Scope, Table, TableColumn, Update, Write,
};
use session_runtime::{
    ColumnType, Databag, Directory, Error, Keyring, MysqlStore, PostgresStore, RedisStore, SessionId,
    Sessions, Snapshot, Store, StoreError, Timestamp, Value,
};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

fn tenant() -> TableColumn {
    TableColumn::new("tenant".to_owned(), ColumnType::Text).indexed()
}

async fn gains_a_column<S: Directory>(open: impl AsyncFn() -> S) {
    let (mut old, mut new) = (open().await, open().await);
    let mut table = table("columns");
    old.prepare(&table, DEADLINE).await.expect("a new table");
    old.insert(row(1), soon()).await.expect("it fits");
    table.projected.push(tenant());
    new.prepare(&table, DEADLINE).await.expect("a missing column is added");
    let mut loaded = new.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
    assert_eq!(loaded.columns, [None]);
    loaded.columns = vec![Some(Value::Text("acme".to_owned()))];
    let update = with(touch(&loaded), |it| it.scope = Scope::Row);
    assert_eq!(new.update(update, soon()).await.expect("it answers"), Outcome::Stored);
    // The old node does not know the column, continues to work, and does not erase it.
    let seen = old.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
    assert!(seen.columns.is_empty());
    let update = with(touch(&seen), |it| it.scope = Scope::Row);
    assert_eq!(old.update(update, soon()).await.expect("it answers"), Outcome::Stored);
    let kept = new.load(row(1).id, soon()).await.expect("it answers").expect("it is there");
    assert_eq!(kept.columns, [Some(Value::Text("acme".to_owned()))]);
}

async fn takes_any_name<S: Directory>(open: impl AsyncFn() -> S, [one, two, three]: [&str; 3]) {
    let mut store = open().await;
    let odd = with(table("names"), |it| {
        it.name = one.into();
        it.state = two.into();
        it.created = "where".into();
        it.projected = vec![with(tenant(), |it| it.name = three.into())];
    });
    store.prepare(&odd, DEADLINE).await.expect("every name is quoted");
    let stored = with(row(1), |it| it.columns = vec![None]);
    store.insert(stored.clone(), soon()).await.expect("it fits");
    assert_eq!(store.update(touch(&stored), soon()).await.expect("it answers"), Outcome::Stored);
    assert_eq!(store.remove(&Filter::All, soon()).await.expect("it answers"), [stored.id]);
}

async fn refuses<S: Store + std::fmt::Debug>(
    open: impl AsyncFn() -> S,
    cases: &[(&str, &str, &str)],
    create: impl AsyncFn(&str, (&str, &str)),
) {
    for (from, to, named) in cases {
        let table = table("unfit");
        create(&table.name, (from, to)).await;
        let mut store = open().await;
        match store.prepare(&table, DEADLINE).await {
            Ok(()) => {
                assert_eq!(*named, "", "{to:?} was accepted");
                store.insert(row(1), soon()).await.expect("it fits");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).expect("a cause").to_string();
                assert!(!named.is_empty() && cause.contains(named), "{to:?}: {cause}");
                assert!(cause.contains(&table.name), "{cause}");
            }
        }
    }
}

async fn starts_at_once<S: Directory>(open: impl AsyncFn() -> S) {
    let table = {
        let mut table = table("start");
        table.projected.push(tenant());
        table
    };
    let stores = futures_util::future::join_all((0..8).map(|_| open())).await;
    let prepared = stores.into_iter().map(async |mut store| {
        store.prepare(&table, DEADLINE).await.expect("one creates the table, the others find it");
        store
    });
    for store in futures_util::future::join_all(prepared).await {
        assert_eq!(store.count(&Filter::All, soon()).await.expect("it answers"), 0);
    }
}

/// Programs that start at once find out to which of their bags a table belongs.
async fn belongs_to_one_bag<S: Directory>(open: impl AsyncFn() -> S) {
    let [shared, own] = ["shared", "own"].map(table);
    let claims = (0..8).map(async |n| {
        open().await.claim(&shared, &format!("bag {n} of caf\u{E9}"), soon()).await.expect("it answers")
    });
    let owners = futures_util::future::join_all(claims).await;
    assert!(owners[0].starts_with("bag ") && owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    let store = open().await;
    assert_eq!(store.claim(&shared, "another", soon()).await.expect("it answers"), owners[0]);
    assert_eq!(store.claim(&own, "another", soon()).await.expect("it answers"), "another");
}

/// Connects to the real server through a proxy that changes the first digit of its version.
async fn refuses_an_old_server<S: std::fmt::Debug>(
    variable: &str,
    version: &str,
    connect: impl AsyncFn(&str) -> Result<S, StoreError>,
) {
    let shown = format!("0{}", &version[1..]);
    let url = server::url(variable);
    let address = server::address(&url);
    let disguised = server::disguise(address, version, &shown).to_string();
    let error = connect(&url.replace(&address.to_string(), &disguised)).await.expect_err("it is too old");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains(&shown) && cause.contains(" is too old: "), "{cause}");
    assert!(cause.ends_with(" or later is needed"), "{cause}");
}

fn is_user(user: i64) -> Filter {
    Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(user))
}

/// Returns everything that a log could show of an error.
fn shown(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    format!("{text} ({error:?})")
}

/// Starts a call that waits for another connection's lock.
async fn meanwhile<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let call = tokio::spawn(call);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    call
}

/// The ways to end the sessions of a user.
#[derive(Clone, Copy, Debug)]
enum Revocation {
    ByUser,
    OfAll,
    Limit,
}

/// Logs the user in where one session is allowed, logs out, and returns the ids of the sessions that this has ended.
async fn end_others<S: Store>(store: &S, user: &Value) -> Result<Vec<SessionId>, StoreError> {
    let number = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970").as_nanos().to_be_bytes();
    let newcomer = with(row(u8::MAX), |it| {
        it.id = SessionId::from_bytes([[u8::MAX; 16], number].concat().try_into().expect("32 bytes"));
        it.user = Some(user.clone());
    });
    let id = newcomer.id;
    let now = newcomer.created;
    let (outcome, ended) =
        store.write_limited(LimitedWrite::new(Write::Insert(newcomer), 1, now), soon()).await?;
    assert_eq!((outcome, store.delete(id, soon()).await?), (Outcome::Stored, true));
    Ok(ended)
}

/// Changes the id of a session repeatedly while the session is revoked, in hundreds of rounds.
async fn misses_none<S: Directory + Clone>(mut store: S) {
    store.prepare(&table("revoked"), DEADLINE).await.expect("it is ready");
    let user = Value::Integer(7);
    let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, user.clone());
    let mut met = 0;
    for round in 0..400_u32 {
        let id = |n: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&(8 * round + n).wrapping_mul(2_654_435_761).to_be_bytes());
            SessionId::from_bytes(id)
        };
        let session = |n: u32| {
            with(row(1), |it| {
                it.id = id(n);
                it.revision = i64::from(n);
                it.user = Some(user.clone());
            })
        };
        store.insert(session(0), soon()).await.expect("it fits");
        let made = tokio::sync::watch::Sender::new(0);
        let rotation = async {
            for n in 1..=4 {
                let update = Update::new(id(n - 1), i64::from(n - 1), session(n));
                if store.update(update, soon()).await.expect("it answers") != Outcome::Stored {
                    return n - 1;
                }
                made.send_replace(n);
            }
            4
        };
        let way = [Revocation::ByUser, Revocation::Limit, Revocation::OfAll][round as usize % 3];
        let revocation = async {
            // After some time, or after some of the new ids.
            match round % 8 {
                n @ 0..4 => drop(made.subscribe().wait_for(|made| *made >= n).await),
                n => tokio::time::sleep(DEADLINE / 10_000 * (n - 4)).await,
            }
            match way {
                Revocation::ByUser => store.remove(&of_user, soon()).await,
                Revocation::OfAll => store.remove(&Filter::All, soon()).await,
                Revocation::Limit => end_others(&store, &user).await,
            }
        };
        let (renamed, revoked) = tokio::join!(rotation, revocation);
        let revoked = revoked.expect("it answers");
        let live = store.count(&of_user, soon()).await.expect("it answers");
        assert_eq!((live, revoked.len()), (0, 1), "{way:?}, {renamed} new ids, round {round}");
        assert_eq!(revoked, [id(renamed)], "{way:?}, round {round}");
        met += u32::from(renamed > 0 && renamed < 4);
    }
    assert!(met > 10, "the two met in {met} rounds of 400");
}

/// Every call begins after its deadline, so none of them may change a row.
async fn makes_no_late_write<S: Directory>(mut store: S) {
    store.prepare(&table("late"), DEADLINE).await.expect("a new table");
    let stored = row(1);
    store.insert(stored.clone(), soon()).await.expect("it fits");
    let update = touch(&stored);
    let renamed = with(row(2), |it| it.revision = 2);
    let rename = Update::new(stored.id, 1, renamed.clone());
    for _ in 0..20 {
        let late = Instant::now();
        store.insert(row(3), late).await.expect_err("an insertion is late");
        store.update(update.clone(), late).await.expect_err("an update is late");
        store.update(rename.clone(), late).await.expect_err("a change of the id is late");
        store.delete(stored.id, late).await.expect_err("a deletion is late");
        store.remove(&Filter::All, late).await.expect_err("a removal is late");
    }
    assert_eq!(store.load(stored.id, soon()).await.expect("it answers"), Some(stored));
    for id in [renamed.id, row(3).id] {
        assert_eq!(store.load(id, soon()).await.expect("it answers"), None);
    }
}

/// Of a state that is too long the store returns one byte more than is accepted.
async fn cuts_a_long_state<S: Directory>(mut store: S) {
    let table = with(table("long"), |it| it.max_state = 1_000);
    store.prepare(&table, DEADLINE).await.expect("a new table");
    for (n, length) in [(1, 1_000), (2, 1_001), (3, 1_000_000)] {
        let stored = with(row(n), |it| it.state = vec![n; length]);
        store.insert(stored.clone(), soon()).await.expect("it fits");
        let loaded = store.load(stored.id, soon()).await.expect("it answers").expect("it is there");
        assert_eq!(loaded.state.len(), length.min(1_001));
        let listed =
            store.find(&Filter::Id(stored.id), Page::new(None, 1), soon()).await.expect("it answers");
        assert_eq!(listed, [loaded]);
    }
}

/// A row with a text state of characters that take several bytes.
async fn cuts_a_long_text<S: Store>(mut store: S) {
    let table = with(table("text"), |it| {
        it.max_state = 1_000;
        it.state_is_text = true;
    });
    store.prepare(&table, DEADLINE).await.expect("a new table");
    for (n, characters, length) in [(1, 250, 1_000), (2, 251, 1_001), (3, 100_000, 1_001)] {
        let stored = with(row(n), |it| it.state = "\u{1F36A}".repeat(characters).into_bytes());
        store.insert(stored.clone(), soon()).await.expect("it fits");
        let loaded = store.load(stored.id, soon()).await.expect("it answers").expect("it is there");
        assert_eq!(loaded.state.len(), length);
    }
}

#[derive(Databag)]
#[databag(table = "damaged")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<std::net::IpAddr>,
    #[databag(column)]
    tenant: Option<String>,
}

/// Damages one row after the other, each in another way, and checks that no call fails and every good row is found.
async fn survives_damaged_rows<S: Directory + Clone>(
    store: S,
    damages: &[&str],
    damage: impl AsyncFn(SessionId, &str),
) {
    let keyring = || Keyring::generate();
    let sessions =
        Sessions::<Shop>::builder(store.clone()).keyring(keyring()).build().await.expect("it is ready");
    sessions.clear().await.expect("it answers");
    let bag = |user| Shop { user_id: Some(user), tenant: Some("acme".to_owned()), ..Shop::defaults() };
    let mut good = vec![sessions.create(bag(7)).await.expect("it fits").1.id()];
    for damaged in damages {
        let (token, session) = sessions.create(bag(7)).await.expect("it fits");
        damage(session.id(), damaged).await;
        match sessions.load(&token).await {
            Ok(loaded) => assert!(loaded.is_none(), "{damaged}"),
            Err(error) => assert!(matches!(error, Error::UnknownKey { .. }), "{damaged}: {error:?}"),
        }
    }
    good.push(sessions.create(bag(7)).await.expect("it fits").1.id());
    good.sort_unstable();
    let ids = |mut found: Vec<Snapshot<Shop>>| {
        found.sort_unstable_by_key(Snapshot::id);
        found.iter().map(Snapshot::id).collect::<Vec<_>>()
    };
    assert_eq!(ids(sessions.of_user(7).await.expect("it answers")), good);
    assert_eq!(ids(sessions.find(Shop::TENANT.eq("acme")).await.expect("it answers")), good);
    let newest = sessions.find(Shop::TENANT.eq("acme")).limit(1).await.expect("it answers");
    assert_eq!(newest.len(), 1, "a row that cannot be opened hides no older one");
    assert_eq!(ids(sessions.stream().try_collect().await.expect("it answers")), good);
    let of_acme = sessions.find(Shop::TENANT.eq("acme")).stream().try_collect().await;
    assert_eq!(ids(of_acme.expect("it answers")), good);
    let report = sessions.check().await.expect("it answers");
    assert_eq!((report.live, report.expired, report.skipped), (2, 0, damages.len() as u64));
    sessions.reseal_all(|_, _| ()).await.expect("it answers");
    sessions.revoke_user(7).await.expect("it answers");
    assert!(sessions.of_user(7).await.expect("it answers").is_empty());
    sessions.clear().await.expect("it answers");
    assert_eq!(store_count(store).await, 0);
}

async fn store_count<S: Directory>(mut store: S) -> u64 {
    let table = with(Table::new("damaged"), |it| {
        it.user = Some(TableColumn::new("user_id", ColumnType::Integer).indexed());
        it.ip = Some("ip_addr".to_owned());
        it.projected = vec![TableColumn::new("tenant", ColumnType::Text)];
    });
    store.prepare(&table, DEADLINE).await.expect("it is ready");
    store.count(&Filter::All, soon()).await.expect("it answers")
}

/// The tests of every store. The module of a store has names that must be quoted (`NAMES`).
macro_rules! every_store {
    ($store:ident, $variable:literal, $refused:literal) => {
        async fn store() -> $store {
            $store::connect(&server::url($variable)).await.expect("the server answers")
        }

        #[tokio::test]
        async fn it_keeps_the_promises_of_a_store() {
            suite::run(store).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn parallel_log_ins_leave_as_many_sessions_as_allowed() {
            let is_snapshot = !std::any::type_name::<$store>().ends_with("RedisStore");
            users::parallel_log_ins(store, is_snapshot).await;
        }

        #[actix_web::test]
        async fn a_changed_password_ends_all_other_sessions() {
            users::password_change(store().await).await;
        }

        #[tokio::test]
        async fn a_write_whose_deadline_has_passed_is_not_made() {
            makes_no_late_write(store().await).await;
        }

        #[tokio::test]
        async fn a_state_that_is_too_long_is_cut() {
            cuts_a_long_state(store().await).await;
            cuts_a_long_text(store().await).await;
        }

        #[tokio::test]
        async fn a_missing_column_is_added_and_old_handles_continue_to_work() {
            gains_a_column(store).await;
        }

        #[tokio::test]
        async fn any_name_that_can_be_quoted_works() {
            takes_any_name(store, NAMES).await;
        }

        #[tokio::test]
        async fn a_table_belongs_to_one_bag() {
            belongs_to_one_bag(store).await;
        }

        #[tokio::test]
        async fn several_processes_can_start_at_once() {
            starts_at_once(store).await;
        }

        #[tokio::test]
        async fn no_credential_is_in_debug_or_in_an_error() {
            let store = format!("{:?}", store().await);
            let error = format!("{:?}", $store::connect($refused).await.expect_err("nobody is there"));
            assert!(!store.contains("databag:") && !error.contains("hunter2"), "{store} {error}");
        }
    };
}

/// The tests of a store with tables. The module of a store has a table that fits (`GOOD`); replacements in it that make it
/// unfit, each with the name in the error (`UNFIT`); two parameters of a statement (`PARAMETERS`); a last column with room
/// for 20 characters and unique values (`TENANT_OF_20`); texts of its start-up queries
/// (`ASKED`); the variable of the URL of a user with a password (`GUARDED`); and values that its columns cannot hold, each with
/// the position and the name of the column (`unholdable`).
macro_rules! every_store_of_tables {
    ($store:ident, $database:ident, $pool:ident, $variable:literal, $version:literal) => {
        async fn pool() -> sqlx::$pool {
            sqlx::$pool::connect(&server::url($variable)).await.expect("the server answers")
        }

        async fn create(table: &str, (from, to): (&str, &str)) {
            let sql = format!("CREATE TABLE {table} ({})", GOOD.replace(from, to));
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool().await).await.expect("it is a table");
        }

        async fn version() -> String {
            sqlx::query_scalar($version).fetch_one(&pool().await).await.expect("the server answers")
        }

        #[tokio::test]
        async fn a_table_that_does_not_fit_is_refused_and_its_column_is_named() {
            refuses(store, UNFIT, create).await;
        }

        #[tokio::test]
        async fn an_old_server_is_refused() {
            refuses_an_old_server($variable, &version().await, $store::connect).await;
        }

        #[tokio::test]
        async fn a_url_of_another_kind_of_server_is_refused_and_not_repeated() {
            let url = server::url($variable);
            let (scheme, rest) = url.split_once("://").expect("a scheme");
            let error = $store::connect(&format!("https://{rest}")).await.expect_err("it is no database");
            let shown = shown(&error);
            assert!(shown.contains(&format!("does not begin with `{scheme}://`")), "{shown}");
            assert!(!shown.contains("127.0.0.1"), "{shown}");
        }

        async fn prepared(table: &Table) -> $store {
            let mut store = store().await;
            store.prepare(table, DEADLINE).await.expect("it is ready");
            store
        }

        /// Starts a transaction that changes the id of a row.
        async fn rename(table: &Table, from: u8, to: u8) -> sqlx::Transaction<'static, sqlx::$database> {
            let mut change = pool().await.begin().await.expect("the server answers");
            let sql = format!(
                "UPDATE {} SET id = {}, revision = 2 WHERE id = {}",
                table.name, PARAMETERS[0], PARAMETERS[1]
            );
            let renamed = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(vec![to; 32]).bind(vec![from; 32]);
            assert_eq!(renamed.execute(&mut *change).await.expect("it is there").rows_affected(), 1);
            change
        }

        #[tokio::test]
        async fn a_damaged_row_fails_no_list() {
            let table = "CREATE TABLE IF NOT EXISTS damaged (user_id BIGINT, ip_addr ";
            let table = format!("{table} {TEXT}, tenant {TEXT}, {})", GOOD.replace("BIGINT", "BIGINT NULL"));
            sqlx::query(sqlx::AssertSqlSafe(table)).execute(&pool().await).await.expect("it is a table");
            survives_damaged_rows(store().await, DAMAGES, async |id, damage| {
                let sql = format!("UPDATE damaged SET {damage} WHERE id = {}", PARAMETERS[0]);
                let damaged = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.as_bytes().to_vec());
                let damaged = damaged.execute(&pool().await).await.expect("it fits");
                assert_eq!(damaged.rows_affected(), 1, "{damage}");
            })
            .await;
        }

        #[tokio::test]
        async fn a_session_is_ended_while_another_transaction_changes_its_id() {
            for (to, is_trim) in [(9, false), (5, false), (9, true), (5, true)] {
                let table = table("moving");
                let store = prepared(&table).await;
                store.insert(row(7), soon()).await.expect("it fits");
                let change = rename(&table, 7, to).await;
                let other = store.clone();
                let ending = meanwhile(async move {
                    match is_trim {
                        true => end_others(&other, &Value::Integer(7)).await,
                        false => other.remove(&is_user(7), soon()).await,
                    }
                })
                .await;
                change.commit().await.expect("the server answers");
                let ended = ending.await.expect("no panic").expect("it answers");
                assert_eq!(store.count(&Filter::All, soon()).await.expect("it answers"), 0, "{ended:?}");
                assert_eq!(ended, [row(to).id]);
            }
        }

        #[tokio::test]
        async fn a_session_whose_new_id_is_behind_the_scan_is_ended() {
            for is_trim in [false, true] {
                let table = table("behind");
                let store = prepared(&table).await;
                let of_7 = |n| with(row(n), |it| it.user = Some(Value::Integer(7)));
                store.insert(of_7(6), soon()).await.expect("it fits");
                store.insert(of_7(8), soon()).await.expect("it fits");
                let mut lock = pool().await.begin().await.expect("the server answers");
                let select = format!("SELECT 1 FROM {} WHERE id = {} FOR UPDATE", table.name, PARAMETERS[0]);
                let select = sqlx::query(sqlx::AssertSqlSafe(select)).bind(vec![6_u8; 32]);
                select.execute(&mut *lock).await.expect("it is locked");
                let other = store.clone();
                let ending = meanwhile(async move {
                    match is_trim {
                        true => end_others(&other, &Value::Integer(7)).await,
                        false => other.remove(&is_user(7), soon()).await,
                    }
                })
                .await;
                let moved = with(touch(&of_7(8)), |it| {
                    it.row = with(of_7(5), |it| it.revision = 2);
                    it.scope = Scope::Row;
                });
                assert_eq!(store.update(moved, soon()).await.expect("it answers"), Outcome::Stored);
                lock.rollback().await.expect("the server answers");
                let mut ended = ending.await.expect("no panic").expect("it answers");
                ended.sort();
                assert_eq!(store.count(&Filter::All, soon()).await.expect("it answers"), 0, "{ended:?}");
                assert_eq!(ended, [row(5).id, row(6).id]);
            }
        }

        #[tokio::test]
        async fn the_newest_session_is_kept_while_its_id_changes() {
            for to in [9, 5] {
                let table = table("kept");
                let store = prepared(&table).await;
                let newest = row(7);
                let earlier = newest.created.as_millis() - 1;
                let created = session_runtime::Timestamp::from_millis(earlier);
                let older = with(row(6), |it| {
                    it.created = created;
                    it.user = newest.user.clone();
                });
                store.insert(older, soon()).await.expect("it fits");
                store.insert(newest, soon()).await.expect("it fits");
                let change = rename(&table, 7, to).await;
                let other = store.clone();
                let trim = meanwhile(async move {
                    let newcomer = with(row(20), |it| it.user = Some(Value::Integer(7)));
                    let write = LimitedWrite::new(Write::Insert(newcomer), 2, row(7).created);
                    other.write_limited(write, soon()).await.map(|(_, ended)| ended)
                })
                .await;
                change.commit().await.expect("the server answers");
                assert_eq!(trim.await.expect("no panic").expect("it answers"), [row(6).id]);
                assert!(store.load(row(to).id, soon()).await.expect("it answers").is_some());
            }
        }

        #[tokio::test]
        async fn a_removal_that_a_deadlock_rolled_back_is_retried() {
            let table = table("deadlock");
            let store = prepared(&table).await;
            store.insert(row(1), soon()).await.expect("it fits");
            store.insert(row(2), soon()).await.expect("it fits");
            let mut rival = rename(&table, 2, 3).await;
            // The server rolls back the transaction with fewer changes, or the one that waited longer. The removal meets
            // these rows last.
            let insert = format!(
                "INSERT INTO {} (id, state, created, expiration, revision, user_id) \
                 VALUES ({}, 'x', 1, 9000000000000000, 1, 9)",
                table.name, PARAMETERS[0]
            );
            for n in 100..150_u8 {
                let insert = sqlx::query(sqlx::AssertSqlSafe(insert.clone())).bind(vec![n; 32]);
                insert.execute(&mut *rival).await.expect("it fits");
            }
            let other = store.clone();
            let removal = meanwhile(async move { other.remove(&Filter::All, soon()).await }).await;
            let delete = format!("DELETE FROM {} WHERE id = {}", table.name, PARAMETERS[0]);
            let delete = sqlx::query(sqlx::AssertSqlSafe(delete)).bind(vec![1_u8; 32]).execute(&mut *rival);
            delete.await.expect("the other is undone");
            rival.rollback().await.expect("the server answers");
            let mut removed =
                removal.await.expect("no panic").map_err(|error| shown(&error)).expect("it is tried again");
            removed.sort();
            assert_eq!(removed, [row(1).id, row(2).id]);
        }

        #[tokio::test]
        async fn a_taken_id_is_an_error_that_says_so() {
            let store = prepared(&table("taken")).await;
            store.insert(row(65), soon()).await.expect("it fits");
            store.insert(row(66), soon()).await.expect("it fits");
            let insert = store.insert(row(65), soon()).await.expect_err("it is taken");
            let update = Update::new(row(66).id, 1, row(65));
            for error in [insert, store.update(update, soon()).await.expect_err("it is taken")] {
                let shown = shown(&error);
                assert!(shown.contains(": there is a row of this id (") && !shown.contains("AAA"), "{shown}");
            }
        }

        #[tokio::test]
        async fn no_error_shows_a_value() {
            let mut table = table("shown");
            create(&table.name, ("revision BIGINT", TENANT_OF_20)).await;
            table.projected.push(tenant());
            let store = prepared(&table).await;
            let of =
                |n, tenant: &str| with(row(n), |it| it.columns = vec![Some(Value::Text(tenant.to_owned()))]);
            store.insert(of(1, "hunter2"), soon()).await.expect("it fits");
            for (n, tenant) in [(2, "hunter2"), (3, "hunter3"), (4, "hunter4hunter4hunter4hunter4")] {
                let shown = shown(&store.insert(of(n, tenant), soon()).await.expect_err("it does not fit"));
                assert!(!shown.contains("hunter") && !shown.contains("7575"), "{shown}");
                assert_eq!(store.load(row(n).id, soon()).await.expect("it answers"), None);
            }
        }

        #[tokio::test]
        async fn a_server_that_falls_silent_at_start_up_is_an_error() {
            let url = server::url($variable);
            let begun = std::time::Instant::now();
            let silenced = async |word: &'static str| {
                let address = server::address(&url);
                let is_last = move |said: &[u8]| said.windows(word.len()).any(|part| part == word.as_bytes());
                let silent = server::silence(address, is_last).to_string();
                let mut store = $store::connect(&url.replace(&address.to_string(), &silent)).await?;
                store.prepare(&table("silent"), DEADLINE).await
            };
            let [version, kind, columns] = ASKED;
            let (version, kind, columns) = tokio::join!(silenced(version), silenced(kind), silenced(columns));
            for answer in [version, kind, columns] {
                let shown = shown(&answer.expect_err("nobody answers"));
                assert!(shown.contains("the deadline has passed"), "{shown}");
            }
            assert!(begun.elapsed().as_secs() < 15, "it took {:?}", begun.elapsed());
        }

        /// Counts what the store sends. A connection is idle for longer than one that a write asks whether it lives.
        #[tokio::test]
        async fn a_call_costs_one_round_trip_however_long_its_connection_was_idle() {
            use std::sync::atomic::AtomicUsize;
            use std::sync::atomic::Ordering::SeqCst;
            let url = server::url($variable);
            let address = server::address(&url);
            let sent = std::sync::Arc::new(AtomicUsize::new(0));
            let sum = std::sync::Arc::clone(&sent);
            let counting = server::silence(address, move |_| {
                sum.fetch_add(1, SeqCst);
                false
            });
            let url = url.replace(&address.to_string(), &counting.to_string());
            let mut store = $store::connect(&url).await.expect("the server answers");
            store.prepare(&table("trips"), DEADLINE).await.expect("it is ready");
            let stored = row(1);
            // The first use of a statement prepares it.
            for is_prepared in [false, true] {
                sent.store(0, SeqCst);
                store.insert(stored.clone(), soon()).await.expect("it fits");
                for call in 0..3 {
                    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
                    match call {
                        0 => assert!(store.load(stored.id, soon()).await.expect("it answers").is_some()),
                        1 => assert_eq!(
                            store.update(touch(&stored), soon()).await.expect("it answers"),
                            Outcome::Stored
                        ),
                        _ => assert!(store.delete(stored.id, soon()).await.expect("it answers")),
                    }
                }
                let sent = sent.load(SeqCst);
                assert!(!is_prepared || sent == 4, "{sent} messages for 4 calls");
            }
        }

        #[tokio::test]
        async fn a_value_that_a_column_cannot_hold_is_refused_for_good_and_names_it() {
            let mut table = table("refused");
            create(&table.name, ("revision BIGINT", TENANT_OF_20)).await;
            table.projected = vec![with(tenant(), |it| it.index = false)];
            table.projected.push(TableColumn::new("note".to_owned(), ColumnType::Text).indexed());
            table.projected.push(TableColumn::new("score".to_owned(), ColumnType::Real));
            let store = prepared(&table).await;
            let of = |n, column: usize, value: Value| {
                with(row(n), |it| {
                    it.columns = vec![None; 3];
                    it.columns[column] = Some(value);
                })
            };
            let text = |text: &str| Value::Text(text.to_owned());
            let refused = [
                // The server would cut the spaces off, and the session would not open.
                (0, "tenant", text(&format!("{:>20} ", "hunter2"))),
                (0, "tenant", text(&"\u{1F36A}".repeat(21))),
            ];
            for (column, name, value) in refused.into_iter().chain(unholdable()) {
                let unfit = of(2, column, value);
                let unfit_update = Update::new(
                    row(1).id,
                    1,
                    with(of(1, 0, text("a")), |it| {
                        it.revision = 2;
                        it.columns.clone_from(&unfit.columns);
                    }),
                );
                store.insert(of(1, 0, text(&"\u{1F36A}".repeat(20))), soon()).await.expect("it fits");
                let insert = store.insert(unfit, soon()).await.expect_err("it does not fit");
                let update = store.update(unfit_update, soon()).await.expect_err("it does not fit");
                for error in [insert, update] {
                    assert!(error.is_refused() && error.column() == Some(name), "{}", shown(&error));
                    assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
                }
                assert_eq!(store.load(row(2).id, soon()).await.expect("it answers"), None);
                assert!(store.delete(row(1).id, soon()).await.expect("it answers"), "nothing was changed");
            }
            // The server itself refuses it.
            let by_check = of(2, 0, text("hunter3"));
            let error = store.insert(by_check, soon()).await.expect_err("a constraint forbids it");
            assert!(error.is_refused() && !shown(&error).contains("hunter3"), "{}", shown(&error));
            assert!(shown(&error).contains("tenant"), "{}", shown(&error));
            // Another row has it, and another id would not do.
            store.insert(of(3, 0, text("hunter2")), soon()).await.expect("it fits");
            let again = store.insert(of(4, 0, text("hunter2")), soon()).await.expect_err("it is unique");
            assert!(again.is_refused() && !shown(&again).contains("hunter2"), "{}", shown(&again));
            assert!(shown(&again).contains("tenant"), "{}", shown(&again));
            store.insert(of(5, 0, text("c")), soon()).await.expect("it fits");
            let taken = store.insert(of(5, 0, text("d")), soon()).await.expect_err("it is there");
            assert!(!taken.is_refused(), "{}", shown(&taken));
            store.health(soon()).await.expect("the store is well");
        }

        #[tokio::test]
        async fn a_filter_by_a_value_that_no_column_can_hold_means_what_it_says() {
            let table = with(table("unholdable"), |it| {
                it.user = Some(TableColumn::new("user_id", ColumnType::Text).indexed());
                it.projected = vec![TableColumn::new("score".to_owned(), ColumnType::Real)];
            });
            let store = prepared(&table).await;
            let rows =
                [("a", -1.5), ("a\u{1}", 0.0), ("b", 7.0)].into_iter().zip(1..).map(|((user, score), n)| {
                    with(row(n), |it| {
                        it.user = Some(Value::Text(user.to_owned()));
                        it.columns = vec![Some(Value::Real(score))];
                    })
                });
            let none = with(row(9), |it| {
                it.user = None;
                it.columns = vec![None];
            });
            let rows: Vec<_> = rows.chain([none]).collect();
            for row in &rows {
                store.insert(row.clone(), soon()).await.expect("it fits");
            }
            let texts = ["a\0", "\0", "a\0b", "b\0", "a\u{1}\0"];
            let texts = texts.map(|text| (ColumnRef::User, Value::Text(text.to_owned())));
            let reals = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let reals = reals.map(|real| (ColumnRef::Projected(0), Value::Real(real)));
            for (column, value) in texts.into_iter().chain(reals) {
                use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
                let compared = [Eq, Ne, Lt, Le, Gt, Ge]
                    .map(|comparison| Filter::Compare(column, comparison, value.clone()));
                let others = [Filter::OneOf(column, vec![value.clone()])];
                for filter in compared.into_iter().chain(others) {
                    for filter in [filter.clone(), Filter::Not(Box::new(filter))] {
                        let expected = rows.iter().filter(|row| filter.matches(row)).count();
                        let found = store.count(&filter, soon()).await.map_err(|error| shown(&error));
                        assert_eq!(found, Ok(expected as u64), "{filter:?}");
                    }
                }
            }
            let nobody = Value::Text("a\0b".to_owned());
            match end_others(&store, &nobody).await {
                Ok(ended) => assert!(ended.is_empty(), "{ended:?}"),
                Err(error) => assert!(error.is_refused(), "{}", shown(&error)),
            }
        }

        #[tokio::test]
        async fn a_table_with_a_dot_in_its_name_is_refused() {
            let mut store = store().await;
            let table = with(table("dotted"), |it| it.name = format!("app.{}", it.name));
            let error = store.prepare(&table, DEADLINE).await.expect_err("it would not be in that schema");
            assert!(shown(&error).contains("has a dot in its name"), "{}", shown(&error));
            store.claim(&table, "shop", soon()).await.expect_err("it would not be in that schema");
        }

        #[tokio::test]
        async fn a_parameter_of_the_url_without_effect_is_refused() {
            for name in ["schema", "currentSchema", "search_path", "charset", "autocommit", "connect_timeout"]
            {
                let url = server::url($variable);
                let error = $store::connect(&format!("{url}&{name}=hunter2")).await.expect_err(name);
                let shown = shown(&error);
                assert!(shown.contains(name) && !shown.contains("hunter2"), "{shown}");
            }
        }

        /// What went wrong is said, and not that a wait was in vain.
        #[tokio::test]
        async fn an_error_of_a_connection_names_its_cause() {
            let url = server::url($variable);
            let address = server::address(&url).to_string();
            let away = url.replace(&address, "127.0.0.1:1");
            let unknown = url.replace(&address, "nowhere.invalid:1");
            let (away, unknown) = tokio::join!($store::connect(&away), $store::connect(&unknown));
            let away = shown(&away.expect_err("there is no server"));
            assert!(away.contains("cannot connect to the server") && away.contains("refused"), "{away}");
            let unknown = shown(&unknown.expect_err("there is no such host"));
            assert!(
                unknown.contains("cannot connect to the server") && unknown.contains("lookup"),
                "{unknown}"
            );
            let guarded = server::url(GUARDED).replace(":open-sesame@", ":hunter2@");
            let error = $store::connect(&guarded).await.expect_err("the password is wrong");
            let shown = shown(&error);
            assert!(shown.contains("guarded") && !shown.contains("hunter2"), "{shown}");
        }

        #[tokio::test]
        async fn a_server_is_reached_by_its_ipv6_address() {
            if std::net::TcpListener::bind("[::1]:0").is_err() {
                eprintln!("not tested: this machine has no IPv6");
                return;
            }
            let url = server::url($variable).replace("127.0.0.1:", "[::1]:");
            let mut store =
                $store::connect(&url).await.map_err(|error| shown(&error)).expect("the server answers");
            store.prepare(&table("six"), DEADLINE).await.expect("it is ready");
            store.insert(row(1), soon()).await.expect("it fits");
        }
    };
}

mod postgres {
    use session_runtime::store::suite;

    use super::*;

    every_store!(PostgresStore, "POSTGRES_URL", "postgres://eve:hunter2@127.0.0.1:1/x?x=%");
    every_store_of_tables!(PostgresStore, Postgres, PgPool, "POSTGRES_URL", "SHOW server_version");

    /// Reserved words, quotes, spaces, and the greatest length of a name.
    const NAMES: [&str; 3] = [
        "select \"from\" x; --",
        "\u{FC}ser \u{1F36A}",
        "n123456789012345678901234567890123456789012345678901234567890x",
    ];

    const PARAMETERS: [&str; 2] = ["$1", "$2"];

    const TEXT: &str = "TEXT";

    /// The first flips the id of the key.
    const DAMAGES: &[&str] = &[
        "state = overlay(state placing '\\x00112233'::bytea from 2)",
        "state = ''",
        "state = decode(repeat('00', 1000000), 'hex')",
        "state = NULL",
        "ip_addr = 'x'",
        "created = NULL",
        "revision = NULL",
        "created = 9223372036854775806",
        "tenant = repeat('x', 1000000)",
        "user_id = 8",
        "id = '\\x01', created = 9223372036854775807",
        "id = decode(repeat('00', 33), 'hex')",
    ];

    const TENANT_OF_20: &str =
        "revision BIGINT, user_id BIGINT, tenant VARCHAR(20) UNIQUE CHECK (tenant <> 'hunter3')";

    const ASKED: [&str; 3] = ["SHOW server_version", "FROM pg_class", "FROM pg_attribute"];

    const GUARDED: &str = "POSTGRES_TLS_URL";

    fn unholdable() -> Vec<(usize, &'static str, Value)> {
        let text = |text: &str| Value::Text(text.to_owned());
        vec![(0, "tenant", text("hunter2\0")), (1, "note", text("\0")), (1, "note", text(&"x".repeat(2_601)))]
    }

    const GOOD: &str =
        "id BYTEA PRIMARY KEY, state BYTEA, created BIGINT, expiration BIGINT, revision BIGINT";

    #[derive(Databag)]
    #[databag(table = "named_users")]
    struct Named {
        #[databag(user_id)]
        user_id: Option<String>,
        #[databag(column, index)]
        tenant: Option<String>,
    }

    /// No visitor can sign in by such a name, so nobody is found by it.
    #[tokio::test]
    async fn a_user_with_a_nul_is_refused_for_good_and_has_no_sessions() {
        let keyring = Keyring::generate();
        let sessions = Sessions::<Named>::builder(store().await).keyring(keyring).build().await;
        let sessions = sessions.expect("it is ready");
        let user = || "a\0b".to_owned();
        let error =
            sessions.create(Named { user_id: Some(user()), tenant: None }).await.expect_err("refused");
        assert!(
            matches!(&error, Error::Store(error) if error.is_refused() && error.column() == Some("user_id")),
            "{error:?}"
        );
        let long = Named { user_id: Some("x".repeat(3_000)), tenant: Some("acme".to_owned()) };
        let error = sessions.create(long).await.expect_err("it is too long for its index");
        assert!(matches!(&error, Error::Store(error) if error.column() == Some("user_id")), "{error:?}");
        assert!(sessions.of_user(user()).await.expect("it answers").is_empty());
        assert!(sessions.find(Named::TENANT.eq(user())).await.expect("it answers").is_empty());
        assert!(sessions.find(Named::TENANT.one_of([user()])).await.expect("it answers").is_empty());
        sessions.revoke_user(user()).await.expect("it answers");
        sessions.health().await.expect("the store is well");
    }

    const UNFIT: &[(&str, &str, &str)] = &[
        ("state BYTEA", "state TEXT", "\"state\" declared text"),
        ("created BIGINT", "created INTEGER", "\"created\" declared integer"),
        ("created BIGINT", "created TIMESTAMPTZ", "timestamp with time zone"),
        ("id BYTEA PRIMARY KEY", "id BYTEA", "primary key"),
        ("id BYTEA PRIMARY KEY", "id TEXT PRIMARY KEY", "\"id\" declared text"),
        (", revision BIGINT", "", "no column \"revision\""),
        ("revision BIGINT", "revision BIGINT, user_id TEXT", "\"user_id\" declared text"),
        ("revision BIGINT", "revision BIGINT, user_id BIGINT NOT NULL", "\"user_id\" that must be allowed"),
        ("revision BIGINT", "revision BIGINT, other TEXT NOT NULL", "\"other\""),
        ("revision BIGINT", "revision BIGINT, other TEXT NOT NULL DEFAULT ''", ""),
        ("created BIGINT", "created BIGINT GENERATED ALWAYS AS (1) STORED", "generated"),
    ];
}

mod mysql {
    use session_runtime::store::suite;
    use sqlx::Executor as _;

    use super::*;

    every_store!(MysqlStore, "MYSQL_URL", "mysql://eve:hunter2@127.0.0.1:1/x?x=%");
    every_store_of_tables!(MysqlStore, MySql, MySqlPool, "MYSQL_URL", "SELECT VERSION()");

    /// Reserved words, quotes, spaces, and the greatest length of a name. MySQL allows no characters above U+FFFF.
    const NAMES: [&str; 3] = [
        "select `from` x; --",
        "\u{FC}ser \u{20AC}",
        "n1234567890123456789012345678901234567890123456789012345678901x",
    ];

    const PARAMETERS: [&str; 2] = ["?"; 2];

    const TEXT: &str = "MEDIUMTEXT CHARACTER SET utf8mb4";

    /// The first flips the id of the key.
    const DAMAGES: &[&str] = &[
        "state = INSERT(state, 2, 4, x'00112233')",
        "state = ''",
        "state = REPEAT('x', 1000000)",
        "state = NULL",
        "ip_addr = 'x'",
        "created = NULL",
        "revision = NULL",
        "created = 9223372036854775806",
        "tenant = REPEAT('x', 1000000)",
        "user_id = 8",
        "id = x'01', created = 9223372036854775807",
        "id = x''",
    ];

    const TENANT_OF_20: &str = "revision BIGINT, user_id BIGINT, \
         tenant VARCHAR(20) CHARACTER SET utf8mb4 UNIQUE CHECK (tenant <> 'hunter3')";

    const ASKED: [&str; 3] = ["SELECT VERSION()", "@@sql_mode", "information_schema.TABLES"];

    const GUARDED: &str = "MYSQL_TLS_URL";

    fn unholdable() -> Vec<(usize, &'static str, Value)> {
        let real = |real| (2, "score", Value::Real(real));
        vec![real(f64::NAN), real(f64::INFINITY), real(f64::NEG_INFINITY)]
    }

    const GOOD: &str =
        "id VARBINARY(32) PRIMARY KEY, state MEDIUMBLOB, created BIGINT, expiration BIGINT, revision BIGINT";

    const UNFIT: &[(&str, &str, &str)] = &[
        ("state MEDIUMBLOB", "state MEDIUMTEXT", "\"state\" declared mediumtext"),
        ("created BIGINT", "created INT", "\"created\" declared int"),
        ("created BIGINT", "created BIGINT UNSIGNED", "unsigned"),
        ("created BIGINT", "created DATETIME", "datetime"),
        ("VARBINARY(32) PRIMARY KEY", "VARBINARY(32)", "primary key"),
        ("VARBINARY(32) PRIMARY KEY", "VARCHAR(32) PRIMARY KEY", "\"id\" declared varchar"),
        (", revision BIGINT", "", "no column \"revision\""),
        ("revision BIGINT", "revision BIGINT, user_id TEXT", "\"user_id\" declared text"),
        ("revision BIGINT", "revision BIGINT, user_id BIGINT NOT NULL", "\"user_id\" that must be allowed"),
        ("revision BIGINT", "revision BIGINT, other INT NOT NULL", "\"other\""),
        ("revision BIGINT", "revision BIGINT, other INT NOT NULL DEFAULT 1", ""),
        ("created BIGINT", "created BIGINT AS (1)", "generated"),
        ("VARBINARY(32)", "VARBINARY(31)", "\"id\" declared varbinary(31) where VARBINARY(32) is needed"),
        ("VARBINARY(32)", "BINARY(31)", "\"id\" declared binary(31) where VARBINARY(32) is needed"),
        ("VARBINARY(32)", "BINARY(32)", ""),
        ("VARBINARY(32)", "VARBINARY(100)", ""),
        ("state MEDIUMBLOB", "state BINARY(32)", "\"state\" declared binary(32) where MEDIUMBLOB is needed"),
        ("state MEDIUMBLOB", "state TINYBLOB", "\"state\" declared tinyblob where MEDIUMBLOB is needed"),
        ("state MEDIUMBLOB", "state BLOB", "\"state\" declared blob where MEDIUMBLOB is needed"),
        (
            "state MEDIUMBLOB",
            "state VARBINARY(60000)",
            "\"state\" declared varbinary(60000) where MEDIUMBLOB",
        ),
        ("state MEDIUMBLOB", "state LONGBLOB", ""),
    ];

    #[tokio::test]
    async fn a_value_that_does_not_fit_is_refused_in_every_sql_mode() {
        let raw = pool().await;
        let mut table = table("lax");
        create(&table.name, ("revision BIGINT", TENANT_OF_20)).await;
        table.projected.push(tenant());
        raw.execute("SET GLOBAL sql_mode = ''").await.expect("it is a setting");
        let mut ours = store().await;
        let prepared = ours.prepare(&table, DEADLINE).await;
        let long = with(row(1), |it| it.columns = vec![Some(Value::Text("x".repeat(21)))]);
        let inserted = ours.insert(long, soon()).await;
        raw.execute("SET GLOBAL sql_mode = DEFAULT").await.expect("it is a setting");
        prepared.expect("it is ready");
        let shown = shown(&inserted.expect_err("it does not fit"));
        assert!(shown.contains("cannot hold more than 20 characters"), "{shown}");
    }

    #[tokio::test]
    async fn a_pool_whose_settings_would_lose_data_is_refused() {
        for (set, refusal) in [
            ("sql_mode = ''", "set STRICT_ALL_TABLES"),
            ("sql_mode = 'STRICT_TRANS_TABLES'", ""),
            ("sql_mode = 'TRADITIONAL'", ""),
            ("sql_mode = 'ORACLE,STRICT_ALL_TABLES'", ""),
            ("autocommit = 0", "set autocommit = 1"),
            ("completion_type = 'CHAIN'", "set completion_type = NO_CHAIN"),
            ("sql_select_limit = 1000", "set sql_select_limit = DEFAULT"),
        ] {
            let options = sqlx::mysql::MySqlPoolOptions::new().after_connect(move |connection, _| {
                let set = sqlx::AssertSqlSafe(format!("SET SESSION {set}"));
                Box::pin(async move { connection.execute(set).await.map(drop) })
            });
            let pool = options.connect(&server::url("MYSQL_URL")).await.expect("the server answers");
            match MysqlStore::from_pool(pool).await {
                Ok(_) => assert_eq!(refusal, "", "{set}"),
                Err(error) => {
                    assert!(!refusal.is_empty() && shown(&error).contains(refusal), "{set}: {error:?}");
                }
            }
        }
    }

    /// The lock of a table has the FNV-1a hash of its name, as in the store.
    #[tokio::test]
    async fn start_up_waits_for_the_lock_of_another_process() {
        let table = table("held");
        let number = table.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut holder = pool().await.acquire().await.expect("the server answers");
        let lock = format!("SELECT GET_LOCK('databag {}', 0)", number.cast_signed());
        holder.execute(sqlx::AssertSqlSafe(lock)).await.expect("it is free");
        let error = store().await.prepare(&table, DEADLINE).await.expect_err("another holds it");
        assert!(shown(&error).contains("has held the lock"), "{}", shown(&error));
    }
}

mod redis_cluster {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use session_runtime::store::suite;

    use super::redis::{DAMAGES, NAMES, damage};
    use super::*;

    every_store!(RedisStore, "REDIS_CLUSTER_URL", "redis-cluster://eve:hunter2@127.0.0.1:1");

    #[tokio::test]
    async fn a_session_is_revoked_while_its_id_changes() {
        misses_none(store().await).await;
    }

    #[tokio::test]
    async fn a_damaged_row_fails_no_list() {
        let nodes = server::url("REDIS_CLUSTER_URL").replace("redis-cluster://", "");
        let nodes = nodes.split(',').map(|node| format!("redis://{node}"));
        let client = ::redis::cluster::ClusterClient::new(nodes).expect("URLs");
        survives_damaged_rows(store().await, DAMAGES, async |id, done| {
            damage(&mut client.get_async_connection().await.expect("the cluster answers"), id, done).await;
        })
        .await;
    }

    /// A proxy to a cluster. Once armed, it drops the next answer `stored` and closes the connection.
    fn lossy() -> (String, Arc<AtomicBool>) {
        let url = server::url("REDIS_CLUSTER_URL");
        let nodes: Vec<_> =
            url.trim_start_matches("redis-cluster://").split(',').map(str::to_owned).collect();
        let armed = Arc::new(AtomicBool::new(false));
        let ways: Arc<std::sync::OnceLock<Vec<String>>> = Arc::default();
        let opened = nodes.iter().map(|node| {
            let (armed, ways, nodes) = (Arc::clone(&armed), Arc::clone(&ways), nodes.clone());
            let address = node.parse().expect("an address");
            let way = server::between(
                move || address,
                move |bytes| {
                    // The cluster announces its nodes; all ports have five digits.
                    for (node, way) in nodes.iter().zip(ways.get().into_iter().flatten()) {
                        server::replace(bytes, &port(node), &port(way));
                    }
                    let is_done = bytes.windows(6).any(|word| word == b"stored");
                    !(is_done && armed.swap(false, Ordering::SeqCst))
                },
            );
            way.to_string()
        });
        let opened: Vec<_> = opened.collect();
        ways.set(opened.clone()).expect("it is empty");
        (format!("redis-cluster://{}", opened.join(",")), armed)
    }

    /// The form of slots and redirections: `:16379`.
    fn port(address: &str) -> String {
        format!(":{}", address.rsplit(':').next().expect("a port"))
    }

    #[tokio::test]
    async fn a_call_whose_answer_was_lost_is_sent_again_with_the_same_result() {
        let (url, armed) = lossy();
        let mut store = RedisStore::connect(&url).await.expect("the cluster answers");
        // Without a user each call is one script, except a change of the id.
        store.prepare(&with(table("again"), |it| it.user = None), DEADLINE).await.expect("it is ready");
        let lose = || armed.store(true, Ordering::SeqCst);
        let is_lost = || assert!(!armed.load(Ordering::SeqCst), "no answer was lost");
        for n in 1..=8 {
            let stored = with(row(n), |it| it.user = None);
            lose();
            store.insert(stored.clone(), soon()).await.expect("it is the same call");
            is_lost();
            lose();
            assert_eq!(store.update(touch(&stored), soon()).await.expect("it answers"), Outcome::Stored);
            is_lost();
            let renamed = with(with(row(n + 100), |it| it.user = None), |it| it.revision = 3);
            let update = Update::new(stored.id, 2, renamed.clone());
            lose();
            assert_eq!(store.update(update, soon()).await.expect("it answers"), Outcome::Stored);
            is_lost();
            lose();
            assert!(
                store.delete(renamed.id, soon()).await.expect("it answers"),
                "it was removed by this very call"
            );
            is_lost();
            assert!(
                !store.delete(renamed.id, soon()).await.expect("it answers"),
                "another call finds nothing"
            );
        }
    }
}

mod redis {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use ::redis::aio::MultiplexedConnection;
    use databag_tests::rows::marks::{MOVED, PENDING};
    use session_runtime::store::suite;

    use super::*;

    every_store!(RedisStore, "REDIS_URL", "redis://eve:hunter2@127.0.0.1:1");

    pub(super) const NAMES: [&str; 3] = ["a}b{c}", "\u{FC}ser \u{1F36A}", ":%7D"];

    /// A connection beside the store's.
    async fn raw() -> MultiplexedConnection {
        let client = ::redis::Client::open(server::url("REDIS_URL")).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("the server answers")
    }

    async fn version() -> String {
        let info: String = ::redis::cmd("INFO")
            .arg("server")
            .query_async(&mut raw().await)
            .await
            .expect("the server answers");
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version.expect("it says which").to_owned()
    }

    #[tokio::test]
    async fn an_old_server_is_refused() {
        refuses_an_old_server("REDIS_URL", &version().await, RedisStore::connect).await;
    }

    /// The raw fields of a row, by its key.
    pub(super) fn key(table: &str, id: SessionId) -> String {
        format!("databag:{{{table}:{:02x}}}:{id}", id.as_bytes()[0])
    }

    /// Leaves what a rename has done before a crash: one of [`marks`](databag_tests::rows::marks).
    async fn mark(raw: &mut MultiplexedConnection, script: &str, key: &str, other: SessionId) {
        let mut mark = ::redis::cmd("EVAL");
        mark.arg(script).arg(1).arg(key).arg(other.as_bytes());
        mark.exec_async(raw).await.expect("the server answers");
    }

    #[tokio::test]
    async fn a_session_is_revoked_while_its_id_changes() {
        misses_none(store().await).await;
    }

    /// What another program can do to a row: scripts that change `row`. Its user begins at byte 142, its state at `state`.
    pub(super) const DAMAGES: &[&str] = &[
        // The id of its key.
        "replace(state + 1, 'abcd')",
        "row = string.sub(row, 1, state - 1)",
        "row = row .. string.rep('x', 1000000)",
        "row = 'r'",
        "row = 'm'",
        "row = 'x'",
        "row = string.sub(row, 1, 120)",
        "row = string.sub(row, 1, 143)",
        "row = string.sub(row, 1, state - 2)",
        // The revision, the expiration, when it was created.
        "replace(110, 'xxxxxxxx')",
        "replace(118, 'xxxxxxxx')",
        r"replace(126, '\127\255\255\255\255\255\255\255')",
        // The lengths of the user and of the columns, and of the name and the value of the first column.
        r"replace(134, '\255\255\255\255')",
        r"replace(138, '\255\255\255\255')",
        r"replace(142 + number(134), '\255\255\255\255')",
        r"replace(146 + number(134) + number(142 + number(134)), '\255\255\255\255')",
        // The user.
        "replace(142, 'x')",
        "replace(142, 't')",
        // The columns.
        "columns('ip_addr', 'x')",
        "columns('tenant', 'i7')",
        "columns('tenant', 'x')",
        "columns('tenant', string.rep('x', 1000000))",
        "redis.call('DEL', KEYS[1]); redis.call('RPUSH', KEYS[1], 'x'); do return end",
        "redis.call('DEL', KEYS[1]); redis.call('HSET', KEYS[1], 'x', 'x'); do return end",
    ];

    pub(super) async fn damage(raw: &mut impl ::redis::aio::ConnectionLike, id: SessionId, damage: &str) {
        let mut script = ::redis::cmd("EVAL");
        script.arg(format!(
            "
            local row = redis.call('GET', KEYS[1])
            local function number(at) return struct.unpack('>I4', row, at) end
            local state = 142 + number(134) + number(138)
            local function replace(at, with)
                row = string.sub(row, 1, at - 1) .. with .. string.sub(row, at + #with)
            end
            local function columns(name, value)
                local pair = struct.pack('>I4', #name) .. name .. struct.pack('>I4', #value) .. value
                local head = string.sub(row, 1, 137) .. struct.pack('>I4', #pair)
                row = head .. string.sub(row, 142, 141 + number(134)) .. pair .. string.sub(row, state)
            end
            {damage}
            redis.call('SET', KEYS[1], row, 'KEEPTTL')
            "
        ));
        script.arg(1).arg(key("damaged", id));
        script.exec_async(raw).await.expect("the server answers");
    }

    #[tokio::test]
    async fn a_damaged_row_fails_no_list() {
        survives_damaged_rows(store().await, DAMAGES, async |id, done| {
            damage(&mut raw().await, id, done).await;
        })
        .await;
    }

    /// Another program has stored a word that scripts return.
    #[tokio::test]
    async fn stored_bytes_are_never_taken_for_the_answer_of_the_server() {
        let mut store = store().await;
        let table = table("words");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        for word in ["stored", "conflict", "gone", "taken", "more"] {
            for (n, is_rename) in [(1, false), (2, true)] {
                store.insert(row(n), soon()).await.expect("it fits");
                let mut replace = ::redis::cmd("SET");
                replace.arg(key(&table.name, row(n).id)).arg(word);
                replace.exec_async(&mut raw().await).await.expect("the server answers");
                let update = if is_rename { Update::new(row(n).id, 1, row(n + 2)) } else { touch(&row(n)) };
                assert_eq!(store.update(update, soon()).await.expect("it answers"), Outcome::Gone, "{word}");
                store.delete(row(n).id, soon()).await.expect("it answers");
                for id in [row(n).id, row(n + 2).id] {
                    assert_eq!(store.load(id, soon()).await.expect("it answers"), None, "{word}");
                }
            }
        }
    }

    /// Two versions of a program: the old one does not know a column, and perhaps not the user.
    #[tokio::test]
    async fn a_rename_keeps_what_only_another_version_of_the_program_knows() {
        for variable in ["REDIS_URL", "REDIS_CLUSTER_URL"] {
            let connect =
                async || RedisStore::connect(&server::url(variable)).await.expect("the server answers");
            let [mut new, mut old, mut userless] = [connect().await, connect().await, connect().await];
            let known = with(table("versions"), |it| {
                it.projected = vec![TableColumn::new("tenant", ColumnType::Text)];
            });
            let wide = with(known.clone(), |it| {
                it.ip = Some("ip_addr".to_owned());
                it.projected.push(TableColumn::new("plan", ColumnType::Text));
            });
            new.prepare(&wide, DEADLINE).await.expect("it is ready");
            old.prepare(&known, DEADLINE).await.expect("it is ready");
            let without_user = with(known.clone(), |it| it.user = None);
            userless.prepare(&without_user, DEADLINE).await.expect("it is ready");
            let text = |text: &str| Some(Value::Text(text.to_owned()));
            // The rename is made at once, or its first step was made before.
            for (n, is_started) in [(1, false), (2, true)] {
                for (n, store, knows_user) in [(n * 10, &old, true), (n * 10 + 5, &userless, false)] {
                    let stored = with(row(n), |it| {
                        it.ip = Some("203.0.113.7".parse().expect("an address"));
                        it.columns = vec![text("acme"), text("gold")];
                    });
                    new.insert(stored.clone(), soon()).await.expect("it fits");
                    let renamed = with(row(n + 1), |it| {
                        it.user = knows_user.then_some(Value::Integer(7));
                        it.revision = 2;
                        it.columns = vec![text("other")];
                    });
                    if is_started {
                        store.insert(renamed.clone(), soon()).await.expect("it fits");
                        let key = key(&known.name, renamed.id);
                        let mut mark = ::redis::cmd("EVAL");
                        mark.arg(PENDING).arg(1).arg(key).arg(stored.id.as_bytes());
                        match variable {
                            "REDIS_URL" => mark.exec_async(&mut raw().await).await.expect("it answers"),
                            _ => continue,
                        }
                    }
                    let rename = Update::new(stored.id, 1, renamed.clone());
                    assert_eq!(store.update(rename, soon()).await.expect("it answers"), Outcome::Stored);
                    let user = if knows_user { 7 } else { n.into() };
                    let expected = with(renamed, |it| {
                        it.user = Some(Value::Integer(user));
                        it.ip = stored.ip;
                        it.columns = vec![text("other"), text("gold")];
                    });
                    let loaded = new.load(expected.id, soon()).await.expect("it answers");
                    assert_eq!(loaded, Some(expected), "{variable} {knows_user} {is_started}");
                    let removed = new.remove(&is_user(user), soon()).await.expect("it answers");
                    assert_eq!(removed, [row(n + 1).id], "it is in the set of its user");
                }
            }
        }
    }

    /// Marks that another program has written lead from one row to the other and back.
    #[tokio::test]
    async fn marks_in_a_circle_fail_no_call() {
        let mut store = store().await;
        let table = table("circle");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let of_7 = |n| with(row(n), |it| it.user = Some(Value::Integer(7)));
        for n in 1..=3 {
            store.insert(of_7(n), soon()).await.expect("it fits");
        }
        for (from, to) in [(1, 2), (2, 1)] {
            mark(&mut raw().await, MOVED, &key(&table.name, row(from).id), row(to).id).await;
        }
        let found = store.find(&is_user(7), Page::newest(9), soon()).await.expect("it answers");
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [row(3).id]);
        assert_eq!(store.count(&is_user(7), soon()).await.expect("it answers"), 1);
        assert_eq!(store.remove(&Filter::All, soon()).await.expect("it answers"), [row(3).id]);
    }

    /// More rows of one user, and of one shard, than are read at a time.
    #[tokio::test]
    async fn a_user_and_a_shard_are_read_in_parts() {
        const ROWS: u32 = 2_500;
        let mut store = store().await;
        store.prepare(&table("parts"), DEADLINE).await.expect("it is ready");
        let now = row(1).created.as_millis();
        let of = |n: u32| {
            with(row(1), |it| {
                let mut id = [5; 32];
                id[1..5].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
                it.id = SessionId::from_bytes(id);
                it.created = Timestamp::from_millis(now - i64::from(n));
                it.user = Some(Value::Integer(7));
            })
        };
        for rows in (0..ROWS).collect::<Vec<_>>().chunks(500) {
            let inserts = rows.iter().map(|n| store.insert(of(*n), soon()));
            futures_util::future::try_join_all(inserts).await.expect("they fit");
        }
        let mut ids: Vec<_> = (0..ROWS).map(|n| of(n).id).collect();
        for filter in [Filter::All, is_user(7)] {
            assert_eq!(store.count(&filter, soon()).await.expect("it answers"), u64::from(ROWS));
            let newest = store.find(&filter, Page::newest(10), soon()).await.expect("it answers");
            assert_eq!(newest.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..10]);
        }
        ids.sort_unstable();
        for filter in [Filter::All, is_user(7)] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.find(&filter, Page::new(after, 900), soon()).await.expect("it answers");
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                seen.extend(page.iter().map(|row| row.id));
            }
            assert!(seen == ids, "{} rows of {ROWS} in order", seen.len());
        }
        let removed = store.remove(&is_user(7), soon()).await.expect("it answers");
        assert_eq!(removed.len(), ROWS as usize);
    }

    /// The id changes after it was read from a list, and before its row is.
    #[tokio::test]
    async fn a_session_whose_id_changes_after_it_was_listed_is_revoked() {
        // A limited write reads no list.
        for of_user in [true, false] {
            let server = server::address(&server::url("REDIS_URL"));
            let table = table("listed");
            let (old, new) = (
                row(200),
                with(row(200), |it| {
                    it.id = row(100).id;
                    it.revision = 2;
                }),
            );
            let rename = Update::new(old.id, 1, new.clone());
            let armed = Arc::new(AtomicBool::new(false));
            let (renamed, is_armed) = (table.clone(), Arc::clone(&armed));
            let url = server::between(
                move || server,
                move |bytes| {
                    let id = rename.id.to_string();
                    let is_listed = bytes.windows(id.len()).any(|word| word == id.as_bytes());
                    if is_listed && is_armed.swap(false, Ordering::SeqCst) {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                        let outcome = runtime.expect("a runtime").block_on(async {
                            let mut store = store().await;
                            store.prepare(&renamed, DEADLINE).await.expect("it is ready");
                            store.update(rename.clone(), soon()).await
                        });
                        assert_eq!(outcome.expect("it answers"), Outcome::Stored);
                    }
                    true
                },
            );
            let mut store = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
            store.prepare(&table, DEADLINE).await.expect("it is ready");
            let filter = if of_user { is_user(200) } else { Filter::All };
            store.insert(old.clone(), soon()).await.expect("it fits");
            armed.store(true, Ordering::SeqCst);
            let revoked = store.remove(&filter, soon()).await;
            assert!(!armed.load(Ordering::SeqCst), "{filter:?}: the id was not listed");
            assert_eq!(revoked.expect("it answers"), [new.id], "{filter:?}");
        }
    }

    /// A rename is complete and the session has ended, or the rename was taken back; then its steps arrive a second time.
    #[tokio::test]
    async fn late_rename_steps_revive_no_session() {
        let server = server::address(&server::url("REDIS_URL"));
        let said = Arc::new(std::sync::Mutex::new(Vec::new()));
        let url = record(server, Arc::clone(&said));
        let mut store = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
        store.prepare(&table("late"), DEADLINE).await.expect("it is ready");
        let take = || std::mem::take(&mut *said.lock().expect("no panic"));
        let live = Filter::LiveAt(SystemTime::now().into());
        // The first time the server learns the scripts.
        for n in [10, 20] {
            let (old, new) = (row(n), row(n + 1));
            store.insert(old.clone(), soon()).await.expect("it fits");
            take();
            let conflict = Update::new(old.id, 7, row(n + 2));
            assert_eq!(store.update(conflict, soon()).await.expect("it answers"), Outcome::Conflict);
            let conflict = take();
            let renamed = Update::new(old.id, 1, new.clone());
            assert_eq!(store.update(renamed, soon()).await.expect("it answers"), Outcome::Stored);
            let renamed = take();
            assert!(store.delete(new.id, soon()).await.expect("it answers"));
            for steps in [first_step(&conflict), first_step(&renamed), &conflict, &renamed] {
                assert!(replay(server, steps).await.contains("stored"));
                assert_eq!(store.count(&live, soon()).await.expect("it answers"), 0);
                for id in [old.id, new.id, row(n + 2).id] {
                    assert_eq!(store.load(id, soon()).await.expect("it answers"), None);
                }
            }
        }
        assert!(store.remove(&Filter::All, soon()).await.expect("it answers").is_empty());
    }

    /// What a client has said of a rename, up to the command of its second step.
    fn first_step(said: &[u8]) -> &[u8] {
        // Its value is the new id, of 32 bytes.
        let mark = said.windows(7).position(|word| word == b"\r\n$32\r\n").expect("it has a second step");
        let command =
            said[..mark].windows(3).rposition(|word| word == b"\r\n*").expect("it has a first step");
        &said[..command + 2]
    }

    /// The answer of a rename was lost, so it is sent again; the session has ended since, or has another id.
    #[tokio::test]
    async fn a_rename_that_is_sent_again_revives_no_session() {
        let mut store = store().await;
        store.prepare(&table("ended"), DEADLINE).await.expect("it is ready");
        for (n, ends) in [(10, true), (20, false)] {
            let (old, new, next) = (row(n), row(n + 1), row(n + 2));
            store.insert(old.clone(), soon()).await.expect("it fits");
            let rename = Update::new(old.id, 1, new.clone());
            assert_eq!(store.update(rename.clone(), soon()).await.expect("it answers"), Outcome::Stored);
            if ends {
                assert!(store.delete(new.id, soon()).await.expect("it answers"));
            } else {
                let onward = Update::new(new.id, new.revision, next.clone());
                assert_eq!(store.update(onward, soon()).await.expect("it answers"), Outcome::Stored);
            }
            store.update(rename, soon()).await.expect_err("it is not known what became of it");
            assert_eq!(store.load(new.id, soon()).await.expect("it answers"), None);
            assert_eq!(store.load(next.id, soon()).await.expect("it answers").is_some(), !ends);
        }
        assert_eq!(
            store.count(&Filter::LiveAt(SystemTime::now().into()), soon()).await.expect("it answers"),
            1
        );
    }

    /// Whoever sends a rename that met a conflict again is told so.
    #[tokio::test]
    async fn a_rename_that_met_a_conflict_meets_it_again() {
        let mut store = store().await;
        store.prepare(&table("conflict"), DEADLINE).await.expect("it is ready");
        store.insert(row(1), soon()).await.expect("it fits");
        for _ in 0..2 {
            let conflict = Update::new(row(1).id, 7, row(2));
            assert_eq!(store.update(conflict, soon()).await.expect("it answers"), Outcome::Conflict);
        }
        assert_eq!(
            store.count(&Filter::LiveAt(SystemTime::now().into()), soon()).await.expect("it answers"),
            1
        );
    }

    #[tokio::test]
    async fn a_call_that_does_not_fit_the_table_is_refused_for_good() {
        let mut store = store().await;
        let userless = with(table("unfit"), |table| table.user = None);
        store.prepare(&userless, DEADLINE).await.expect("it is ready");
        let find = store.find(&is_user(7), Page::newest(9), soon()).await.expect_err("there are no users");
        let wide = with(row(1), |row| row.columns.push(None));
        let insert = store.insert(wide, soon()).await.expect_err("there is no such column");
        assert!(find.is_refused() && insert.is_refused(), "{find:?} {insert:?}");
    }

    #[tokio::test]
    async fn resp3_works_too() {
        for variable in ["REDIS_URL", "REDIS_CLUSTER_URL", "REDIS_SENTINEL_URL"] {
            let url = format!("{}?protocol=resp3", server::url(variable));
            let mut store = RedisStore::connect(&url).await.expect("the server answers");
            store.prepare(&table("resp3"), DEADLINE).await.expect("it is ready");
            store.insert(row(1), soon()).await.expect("it fits");
            assert_eq!(
                store.load(row(1).id, soon()).await.expect("it answers").expect("it is there").id,
                row(1).id
            );
            assert_eq!(store.remove(&Filter::All, soon()).await.expect("it answers"), [row(1).id]);
        }
    }

    /// Another call completes the rename after a script has met the mark of the new row, and before the old id is read.
    #[tokio::test]
    async fn a_rename_that_is_completed_meanwhile_hides_no_row() {
        let server = server::address(&server::url("REDIS_URL"));
        let table = table("settled");
        let (old, new) = (row(1), row(2));
        let (old_key, new_key) = (key(&table.name, old.id), key(&table.name, new.id));
        let settled = new_key.clone();
        let url = server::between(
            move || server,
            move |bytes| {
                if bytes.windows(32).any(|word| word == row(1).id.as_bytes()) {
                    let client = ::redis::Client::open(server::url("REDIS_URL")).expect("a URL");
                    let mut raw = client.get_connection().expect("the server answers");
                    let mut settle = ::redis::cmd("EVAL");
                    settle.arg(
                        "local row = redis.call('GET', KEYS[1])
                        row = 'r' .. string.sub(row, 2, 13) .. string.sub(row, 46)
                        return redis.call('SET', KEYS[1], row, 'KEEPTTL')",
                    );
                    settle.arg(1).arg(&settled).exec(&mut raw).expect("the server answers");
                    ::redis::cmd("DEL").arg(&old_key).exec(&mut raw).expect("the server answers");
                }
                true
            },
        );
        let mut store = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        store.insert(new.clone(), soon()).await.expect("it fits");
        let mut raw = raw().await;
        let mut meet = async || mark(&mut raw, PENDING, &new_key, old.id).await;
        meet().await;
        assert_eq!(store.load(new.id, soon()).await.expect("it answers"), Some(new.clone()));
        meet().await;
        assert_eq!(store.update(touch(&new), soon()).await.expect("it answers"), Outcome::Stored);
        meet().await;
        assert!(store.delete(new.id, soon()).await.expect("it answers"));
    }

    /// The server removes rows by itself; the lists of their ids must not grow.
    #[tokio::test]
    async fn a_list_loses_the_entries_of_rows_that_the_server_has_dropped() {
        let mut store = store().await;
        let table = table("lists");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut raw = raw().await;
        let list = format!("databag:{{{}:05}}", table.name);
        let now: i64 = Timestamp::from(SystemTime::now()).as_millis();
        let in_shard = |n: u8| {
            let mut id = [n; 32];
            id[0] = 5;
            with(row(n), |it| it.id = SessionId::from_bytes(id))
        };
        // Rows and marks that expired an hour ago, and some that expire in a minute.
        let mut entries = ::redis::pipe();
        for n in 0..40 {
            let [dead, ended] = [100 + n, 150 + n].map(|n| in_shard(n).id.to_string());
            entries.zadd(&list, dead, now - 3_600_000).zadd(&list, ended, -(now - 3_600_000));
        }
        let mark = in_shard(200).id.to_string();
        entries.zadd(&list, mark, -(now + 60_000));
        entries.query_async::<()>(&mut raw).await.expect("the server answers");
        for n in 0..10 {
            store.insert(in_shard(n), soon()).await.expect("it fits");
        }
        let left: u64 = ::redis::cmd("ZCARD").arg(&list).query_async(&mut raw).await.expect("it answers");
        assert_eq!(left, 11);
        assert_eq!(store.count(&Filter::All, soon()).await.expect("it answers"), 10);
        // A rename leaves the same number of entries, and counts do not include its mark.
        let renamed = with(touch(&in_shard(0)), |it| it.scope = Scope::Row);
        let renamed = with(renamed, |it| it.row.id = in_shard(50).id);
        assert_eq!(store.update(renamed, soon()).await.expect("it answers"), Outcome::Stored);
        let live = Filter::LiveAt(SystemTime::now().into());
        assert_eq!(store.count(&live, soon()).await.expect("it answers"), 10);
        assert_eq!(store.prune(SystemTime::now().into(), 100, soon()).await.expect("it answers"), 0);
    }

    /// The deadline is enough for a part of the rows.
    #[tokio::test]
    async fn a_removal_that_misses_its_deadline_continues_at_the_next_call() {
        const ROWS: u32 = 4_000;
        let mut store = store().await;
        let table = table("many");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        for rows in (0..ROWS).collect::<Vec<_>>().chunks(500) {
            let inserts = rows.iter().map(|n| {
                let id = n.wrapping_mul(2_654_435_761).to_be_bytes().repeat(8);
                let id = SessionId::from_bytes(id.try_into().expect("it has 32 bytes"));
                store.insert(
                    with(row(1), |it| {
                        it.id = id;
                        it.user = None;
                    }),
                    soon(),
                )
            });
            futures_util::future::try_join_all(inserts).await.expect("they fit");
        }
        let mut failed = 0;
        while store.remove(&Filter::All, Instant::now() + DEADLINE / 200).await.is_err() {
            failed += 1;
            let left = store.count(&Filter::All, soon()).await.expect("it answers");
            assert!(failed < 400, "it does not get further: {left} rows are left");
        }
        assert!(failed > 0, "the deadline was enough");
        assert_eq!(store.count(&Filter::All, soon()).await.expect("it answers"), 0);
    }

    #[tokio::test]
    async fn a_page_reads_no_more_lists_than_it_needs() {
        let mut store = store().await;
        let table = table("pages");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        for n in 0..=u8::MAX {
            store.insert(row(n), soon()).await.expect("it fits");
        }
        let server = server::address(&server::url("REDIS_URL"));
        let said = Arc::new(AtomicUsize::new(0));
        let sum = Arc::clone(&said);
        let url = server::between(
            move || server,
            move |bytes| {
                sum.fetch_add(bytes.len(), Ordering::Relaxed);
                true
            },
        );
        let mut counted = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
        counted.prepare(&table, DEADLINE).await.expect("it is ready");
        said.store(0, Ordering::Relaxed);
        let page = Page::new(Some(row(9).id), 1);
        assert_eq!(counted.find(&Filter::All, page, soon()).await.expect("it answers")[0].id, row(10).id);
        // One row of 600 bytes and the few ids of the shards 9, 10 and 11, of 64 bytes; all ids have more than 16,000.
        let said = said.load(Ordering::Relaxed);
        assert!(said < 3_000, "the server said {said} bytes");
    }

    /// Counts how often the server answers: it answers commands that arrive together at once.
    #[tokio::test]
    async fn a_call_takes_no_more_round_trips_than_it_needs() {
        let server = server::address(&server::url("REDIS_URL"));
        let answers = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answers);
        let url = server::between(
            move || server,
            move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                true
            },
        );
        let mut store = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
        store.prepare(&table("trips"), DEADLINE).await.expect("it is ready");
        // The fewest of some rounds: the server learns the scripts in the first, and a message may arrive in two parts.
        let mut fewest = std::collections::BTreeMap::new();
        for n in 1..=5 {
            let stored = row(n);
            let mut note = |call| {
                let trips = answers.swap(0, Ordering::Relaxed);
                let fewest = fewest.entry(call).or_insert(trips);
                *fewest = trips.min(*fewest);
            };
            answers.store(0, Ordering::Relaxed);
            store.insert(stored.clone(), soon()).await.expect("it fits");
            note("an insert");
            store.load(stored.id, soon()).await.expect("it answers").expect("it is there");
            note("a load");
            assert_eq!(store.update(touch(&stored), soon()).await.expect("it answers"), Outcome::Stored);
            note("an update of the state");
            let expiration = with(touch(&stored), |it| {
                (it.expected, it.row.revision, it.scope) = (2, 3, Scope::Expiration);
            });
            assert_eq!(store.update(expiration, soon()).await.expect("it answers"), Outcome::Stored);
            note("an update of the expiry");
            let renamed = with(row(n + 100), |it| it.revision = 4);
            let rename = Update::new(stored.id, 3, renamed.clone());
            assert_eq!(store.update(rename, soon()).await.expect("it answers"), Outcome::Stored);
            note("a rename");
            assert!(store.delete(renamed.id, soon()).await.expect("it answers"));
            note("a deletion");
            store.health(soon()).await.expect("it answers");
            note("the health check");
        }
        let needed = [
            ("a deletion", 2),
            ("a load", 1),
            ("a rename", 3),
            ("an insert", 1),
            ("an update of the expiry", 1),
            ("an update of the state", 1),
            ("the health check", 1),
        ];
        assert_eq!(fewest, needed.into());
    }

    /// A server refuses some times of expiry, and a refusal in the middle of a script would break the set of a user.
    #[tokio::test]
    async fn any_expiration_leaves_the_other_sessions_of_the_user_alone() {
        for variable in ["REDIS_URL", "REDIS_CLUSTER_URL"] {
            let mut store = RedisStore::connect(&server::url(variable)).await.expect("the server answers");
            store.prepare(&table("extremes"), DEADLINE).await.expect("it is ready");
            let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7));
            let of = |n: u8| with(row(n), |it| it.user = Some(Value::Integer(7)));
            store.insert(of(1), soon()).await.expect("it fits");
            let year_9999 = 253_402_300_799_999;
            let extremes =
                [i64::MIN, i64::MIN + 1, -1, 0, 1, year_9999, year_9999 + 1, 1 << 53, i64::MAX - 1, i64::MAX];
            for (n, millis) in (10..).step_by(10).zip(extremes) {
                let is_live = millis >= year_9999;
                let stored = with(of(n), |it| it.expiration = Timestamp::from_millis(millis));
                store.insert(stored.clone(), soon()).await.expect("any time is stored");
                let loaded = store.load(stored.id, soon()).await.expect("it answers");
                assert_eq!(loaded, is_live.then_some(stored.clone()), "{millis}");
                let live = Filter::LiveAt(SystemTime::now().into());
                assert_eq!(store.count(&live, soon()).await.expect("it answers"), 1 + u64::from(is_live));
                assert_eq!(store.delete(stored.id, soon()).await.expect("it answers"), is_live);
                let (moved, renamed) = (of(n + 1), of(n + 2));
                store.insert(moved.clone(), soon()).await.expect("it fits");
                let change = with(touch(&moved), |it| {
                    (it.row.id, it.row.expiration, it.scope) = (renamed.id, stored.expiration, Scope::Row);
                });
                assert_eq!(store.update(change, soon()).await.expect("it answers"), Outcome::Stored);
                let back =
                    with(touch(&renamed), |it| (it.expected, it.row.revision, it.scope) = (2, 3, Scope::Row));
                let outcome = if is_live { Outcome::Stored } else { Outcome::Gone };
                assert_eq!(store.update(back, soon()).await.expect("it answers"), outcome, "{millis}");
                let extended = with(touch(&of(1)), |it| {
                    (it.row.expiration, it.scope, it.expected) = (stored.expiration, Scope::Expiration, 0);
                });
                assert_eq!(store.update(extended, soon()).await.expect("it answers"), Outcome::Conflict);
                store.delete(renamed.id, soon()).await.expect("it answers");
                assert_eq!(store.count(&of_user, soon()).await.expect("it answers"), 1, "{millis}");
                assert_eq!(
                    store.prune(Timestamp::from_millis(millis.min(0)), 9, soon()).await.expect("it answers"),
                    0
                );
            }
        }
    }

    #[tokio::test]
    async fn an_insert_that_is_refused_adds_no_session_and_stops_no_log_in() {
        let mut store = store().await;
        let table = table("refused");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        store.insert(row(1), soon()).await.expect("it fits");
        let of_2 = |n| with(row(n), |it| it.user = Some(Value::Integer(2)));
        store.insert(of_2(1), soon()).await.expect_err("there is a row of this id");
        // The script fails in the middle: the list of its shard is no list.
        let list = format!("databag:{{{}:03}}", table.name);
        let mut damage = ::redis::cmd("SET");
        damage.arg(list).arg("x").exec_async(&mut raw().await).await.expect("the server answers");
        store.insert(of_2(3), soon()).await.expect_err("the server refuses a part of it");
        store.insert(of_2(4), soon()).await.expect("it fits");
        let now = SystemTime::now().into();
        let write = LimitedWrite::new(Write::Insert(of_2(5)), 3, now);
        let limited = store.write_limited(write, soon()).await.expect("it fits");
        assert_eq!(limited, (Outcome::Stored, Vec::new()));
        let found = store.find(&is_user(2), Page::new(None, 9), soon()).await.expect("it answers");
        assert!(found.iter().any(|found| found.id == row(4).id), "{found:?}");
        // What the server has stored of a refused row can be revoked.
        let left = found.iter().any(|found| found.id == row(3).id);
        assert_eq!(store.load(row(3).id, soon()).await.expect("it answers").is_some(), left);
        assert_eq!(store.count(&is_user(1), soon()).await.expect("it answers"), 1);
    }

    /// The set of the user was lost, or the insert was sent twice: then the second one adds the entry, and meets the row.
    #[tokio::test]
    async fn a_row_that_is_inserted_again_keeps_its_entry_in_the_set_of_its_user() {
        let mut store = store().await;
        let table = table("entry");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let of_7 = |n| with(row(n), |it| it.user = Some(Value::Integer(7)));
        let mut raw = raw().await;
        let mut lose = async || {
            let mut lose = ::redis::cmd("DEL");
            lose.arg(format!("databag:{{{}:user:i7}}", table.name));
            lose.exec_async(&mut raw).await.expect("the server answers");
        };
        store.insert(of_7(1), soon()).await.expect("it fits");
        lose().await;
        store.insert(of_7(1), soon()).await.expect_err("there is a row of this id");
        assert_eq!(store.count(&is_user(7), soon()).await.expect("it answers"), 1);
        let rename = Update::new(row(1).id, 1, of_7(2));
        assert_eq!(store.update(rename.clone(), soon()).await.expect("it answers"), Outcome::Stored);
        lose().await;
        assert_eq!(store.update(rename, soon()).await.expect("it answers"), Outcome::Stored);
        assert_eq!(store.remove(&is_user(7), soon()).await.expect("it answers"), [row(2).id]);
    }

    /// The first of two sends of a call arrives last, when the session has changed or ended.
    #[tokio::test]
    async fn a_call_that_arrives_again_later_changes_nothing() {
        let server = server::address(&server::url("REDIS_URL"));
        let said = Arc::new(std::sync::Mutex::new(Vec::new()));
        let url = record(server, Arc::clone(&said));
        let mut store = RedisStore::connect(&format!("redis://{url}")).await.expect("the server answers");
        store.prepare(&table("late"), DEADLINE).await.expect("it is ready");
        let again = async |request: Vec<u8>| replay(server, &request).await;
        let take = || std::mem::take(&mut *said.lock().expect("no panic"));
        // The server learns the scripts.
        store.insert(row(9), soon()).await.expect("it fits");
        assert_eq!(store.update(touch(&row(9)), soon()).await.expect("it answers"), Outcome::Stored);
        assert!(store.delete(row(9).id, soon()).await.expect("it answers"));

        let (stored, renamed) = (row(1), with(row(2), |it| it.revision = 4));
        take();
        store.insert(stored.clone(), soon()).await.expect("it fits");
        let insert = take();
        assert_eq!(store.update(touch(&stored), soon()).await.expect("it answers"), Outcome::Stored);
        let update = take();
        let next = with(touch(&stored), |it| (it.expected, it.row.revision) = (2, 3));
        assert_eq!(store.update(next.clone(), soon()).await.expect("it answers"), Outcome::Stored);
        // Another call was between the two: it is the same call, and no conflict.
        assert!(again(update.clone()).await.contains("stored"));
        again(insert.clone()).await;
        assert_eq!(
            store.load(stored.id, soon()).await.expect("it answers").expect("it is there").revision,
            3
        );
        let rename = Update::new(stored.id, 3, renamed.clone());
        assert_eq!(store.update(rename, soon()).await.expect("it answers"), Outcome::Stored);
        for request in [&insert, &update] {
            again(request.clone()).await;
            assert_eq!(store.load(stored.id, soon()).await.expect("it answers"), None);
            assert!(store.load(renamed.id, soon()).await.expect("it answers").is_some());
        }
        take();
        store.insert(row(3), soon()).await.expect("it fits");
        let insert = take();
        assert!(store.delete(row(3).id, soon()).await.expect("it answers"));
        let delete = take();
        again(insert).await;
        assert_eq!(store.load(row(3).id, soon()).await.expect("it answers"), None);
        assert!(again(delete).await.contains("stored"));
    }

    /// Says to a server what a client has said, and returns its answers.
    async fn replay(server: std::net::SocketAddr, requests: &[u8]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut raw = tokio::net::TcpStream::connect(server).await.expect("it listens");
        raw.write_all(requests).await.expect("it reads");
        raw.write_all(b"PING\r\n").await.expect("it reads");
        let mut answers = Vec::new();
        while !answers.ends_with(b"+PONG\r\n") {
            assert!(raw.read_buf(&mut answers).await.expect("it answers") > 0);
        }
        String::from_utf8_lossy(&answers).into_owned()
    }

    /// Starts a proxy that notes what clients say.
    fn record(server: std::net::SocketAddr, said: Arc<std::sync::Mutex<Vec<u8>>>) -> std::net::SocketAddr {
        server::silence(server, move |bytes| {
            said.lock().expect("no panic").extend_from_slice(bytes);
            false
        })
    }

    /// A rename that stopped after its first step, and one that stopped after its second.
    #[tokio::test]
    async fn a_crash_between_two_rename_steps_leaves_exactly_one_usable_id() {
        let mut store = store().await;
        let table = table("crash");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut raw = raw().await;
        for steps in [1, 2] {
            let (old, new) = (row(steps * 10), row(steps * 10 + 1));
            let (old_key, new_key) = (key(&table.name, old.id), key(&table.name, new.id));
            store.insert(old.clone(), soon()).await.expect("it fits");
            store.insert(new.clone(), soon()).await.expect("it fits");
            mark(&mut raw, PENDING, &new_key, old.id).await;
            if steps == 2 {
                mark(&mut raw, MOVED, &old_key, new.id).await;
            }

            let (works, other) = if steps == 1 { (&old, &new) } else { (&new, &old) };
            // The writes come first, and meet the marks as the crash left them.
            assert_eq!(store.update(touch(other), soon()).await.expect("it answers"), Outcome::Gone);
            assert!(!store.delete(other.id, soon()).await.expect("it answers"));
            assert_eq!(store.load(other.id, soon()).await.expect("it answers"), None);
            assert_eq!(store.update(touch(works), soon()).await.expect("it answers"), Outcome::Stored);
            assert!(store.load(works.id, soon()).await.expect("it answers").is_some());
            let listed: Vec<_> = store
                .find(&Filter::All, Page::new(None, 10), soon())
                .await
                .expect("it answers")
                .iter()
                .map(|row| row.id)
                .collect();
            assert!(listed.contains(&works.id) && !listed.contains(&other.id), "{listed:?}");
            assert!(store.delete(works.id, soon()).await.expect("it answers"));
            assert_eq!(store.load(works.id, soon()).await.expect("it answers"), None);
        }
    }

    /// The answer was lost, or the server has made some of the steps only.
    #[tokio::test]
    async fn a_rename_that_is_sent_again_continues_where_it_stopped() {
        let mut store = store().await;
        let table = table("again");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut raw = raw().await;
        for steps in [1, 2, 3] {
            let (old, new) = (row(steps * 10), row(steps * 10 + 1));
            let (old_key, new_key) = (key(&table.name, old.id), key(&table.name, new.id));
            store.insert(old.clone(), soon()).await.expect("it fits");
            let rename = with(touch(&old), |it| {
                it.scope = Scope::Row;
                it.row.id = new.id;
            });
            if steps == 3 {
                assert_eq!(store.update(rename.clone(), soon()).await.expect("it answers"), Outcome::Stored);
            } else {
                store.insert(rename.row.clone(), soon()).await.expect("it fits");
                mark(&mut raw, PENDING, &new_key, old.id).await;
                if steps == 2 {
                    mark(&mut raw, MOVED, &old_key, new.id).await;
                }
            }
            let again = store.update(rename.clone(), soon()).await.expect("it answers");
            assert_eq!(again, Outcome::Stored, "after {steps} steps");
            assert_eq!(store.load(new.id, soon()).await.expect("it answers"), Some(rename.row));
            assert_eq!(store.load(old.id, soon()).await.expect("it answers"), None);
        }
    }

    #[tokio::test]
    async fn the_sessions_of_a_user_are_found_again_after_their_set_was_lost() {
        let mut store = store().await;
        let table = table("heals");
        store.prepare(&table, DEADLINE).await.expect("it is ready");
        let mut stored = row(7);
        store.insert(stored.clone(), soon()).await.expect("it fits");
        let mut raw = raw().await;
        let set = format!("databag:{{{}:user:i7}}", table.name);
        let _: () = ::redis::cmd("DEL").arg(&set).query_async(&mut raw).await.expect("the server answers");
        // The next extension of the session's expiry.
        stored.expiration = stored.expiration.saturating_add(DEADLINE);
        let update = with(touch(&stored), |it| it.scope = Scope::Expiration);
        assert_eq!(store.update(update, soon()).await.expect("it answers"), Outcome::Stored);
        let of_user = Filter::Compare(ColumnRef::User, Comparison::Eq, Value::Integer(7));
        assert_eq!(store.count(&of_user, soon()).await.expect("it answers"), 1);
    }
}
