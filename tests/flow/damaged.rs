//! Rows that another program has damaged: a list leaves them out, and a visitor of one is anonymous.

use futures_util::TryStreamExt as _;
use session_runtime::{
    CheckReport, Databag, Error, Keyring, LIST_LIMIT, Rejection, SessionId, Sessions, Snapshot, SqliteStore,
};

use crate::app::{Shop, World, id, keys, read_session, rejected, shop, shop_with};

/// What another program can do to a row, the column that it damages, and whether the session's id still finds the row.
const DAMAGES: [(&str, bool); 14] = [
    // The id of the key that the row is sealed under.
    ("state = substr(state, 1, 1) || x'00112233' || substr(state, 6)", true),
    ("state = x''", true),
    ("state = 5", true),
    ("state = zeroblob(10000000)", true),
    ("ip_addr = 'x'", true),
    ("ip_addr = x'00'", true),
    ("created = 'x'", true),
    ("expiration = 'x'", true),
    ("revision = 'x'", true),
    ("tenant = x'ff'", true),
    ("user_id = 7.5, tenant = 'acme'", true),
    ("created = 9223372036854775807", true),
    ("id = x'01', created = 9223372036854775807", false),
    ("id = zeroblob(33)", false),
];

fn ids<'a>(sessions: impl IntoIterator<Item = &'a Snapshot<Shop>>) -> Vec<SessionId> {
    let mut ids: Vec<_> = sessions.into_iter().map(Snapshot::id).collect();
    ids.sort_unstable();
    ids
}

fn damage(world: &World, session: SessionId, damage: &str) {
    let sql = format!("UPDATE sessions SET {damage} WHERE id = ?1");
    assert_eq!(
        world.database().execute(&sql, [session.as_bytes().as_slice()]).expect("good SQL"),
        1,
        "{damage}"
    );
}

/// Makes a row that is damaged and two that are not, all of the user 7.
async fn world_with(damaged: &str) -> (World, databag_tests::Browser, Vec<SessionId>) {
    let world = shop().await;
    let (one, bad, other) = (world.user(7).await, world.user(7).await, world.user(7).await);
    for browser in [&one, &bad, &other] {
        browser.post("/tenant/acme").await;
    }
    damage(&world, id(&bad), damaged);
    let mut good = vec![id(&one), id(&other)];
    good.sort_unstable();
    (world, bad, good)
}

#[actix_web::test]
async fn one_damaged_row_denies_no_list() {
    for (damaged, _) in DAMAGES {
        let (world, _, good) = world_with(damaged).await;
        let sessions = &world.sessions;
        let acme = || sessions.find(Shop::TENANT.eq("acme"));
        assert_eq!(ids(&sessions.of_user(7).await.expect(damaged)), good, "{damaged}");
        assert_eq!(ids(&acme().await.expect(damaged)), good, "{damaged}");
        let newest = acme().limit(1).await.expect(damaged);
        assert!(newest.len() == 1 && good.contains(&newest[0].id()), "{damaged}: it hides no older session");
        let streamed: Vec<_> = acme().stream().try_collect().await.expect(damaged);
        assert_eq!(ids(&streamed), good, "{damaged}");
        let streamed: Vec<_> = sessions.stream().try_collect().await.expect(damaged);
        assert_eq!(ids(&streamed), good, "{damaged}");
        let report = sessions.check().await.expect(damaged);
        assert_eq!((report.live, report.expired, report.skipped), (2, 0, 1), "{damaged}");
        assert!(sessions.clear().await.is_ok(), "{damaged}");
        assert_eq!(world.rows(), 0, "{damaged}");
    }
}

#[actix_web::test]
async fn any_number_of_damaged_rows_hides_no_older_session() {
    let (world, _, good) = world_with(DAMAGES[0].0).await;
    let copies = world
        .database()
        .execute(
            "WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < 800)
             INSERT INTO sessions (id, state, user_id, ip_addr, created, expiration, revision, tenant)
             SELECT randomblob(32), state, user_id, ip_addr, created + 1000, expiration, revision, tenant
             FROM sessions, copy",
            [],
        )
        .expect("good SQL");
    assert_eq!(copies, 2_400);
    let sessions = &world.sessions;
    assert_eq!(ids(&sessions.of_user(7).await.expect("answers")), good);
    let newest = sessions.find(Shop::TENANT.eq("acme")).limit(1).await.expect("answers");
    assert!(newest.len() == 1 && good.contains(&newest[0].id()));
}

#[actix_web::test]
async fn the_visitor_of_a_damaged_row_is_anonymous_and_the_row_is_kept() {
    for (damaged, is_found) in DAMAGES {
        if damaged.starts_with("state = substr") {
            continue; // A missing key is 503: see `a_missing_key_of_one_session_is_503_for_its_visitor_alone`.
        }
        let (world, bad, _) = world_with(damaged).await;
        let (logs, _guard) = databag_tests::Logs::of_this_thread();
        world.events.take();
        assert_eq!(read_session(&bad).await["is_new"], true, "{damaged}");
        let reason = match damaged {
            "state = zeroblob(10000000)" => Rejection::TooLarge,
            _ if is_found => Rejection::Tampered,
            _ => Rejection::Unknown,
        };
        assert_eq!(world.events.take(), rejected(reason), "{damaged}");
        let warned = logs.lines(&["WARN", "a session is not accepted"]);
        assert_eq!(warned.len(), usize::from(is_found), "{damaged}: {}", logs.text());
        assert_eq!(world.rows(), 3, "{damaged}: the row is kept as evidence");
    }
}

#[actix_web::test]
async fn a_missing_key_of_one_session_is_503_for_its_visitor_alone() {
    let (world, bad, good) = world_with(DAMAGES[0].0).await;
    assert_eq!(bad.get("/").await.status, 503);
    let error = world.sessions.get(id(&bad)).await.expect_err("its key is missing");
    assert!(matches!(error, Error::UnknownKey { .. }), "{error}");
    assert_eq!(ids(&world.sessions.of_user(7).await.expect("answers")), good);
}

#[actix_web::test]
async fn one_damaged_row_does_not_stop_the_rotation_of_keys() {
    for (damaged, _) in DAMAGES {
        let (world, _, good) = world_with(damaged).await;
        let new = Keyring::generate_text();
        let rotated = world.elsewhere_with(keys(&format!("{},{}", *new, world.key))).await;
        assert_eq!(rotated.reseal_all(|_, _| ()).await.expect(damaged), 2, "{damaged}");
        let only_new = world.elsewhere_with(keys(&new)).await;
        for session in good {
            assert!(only_new.get(session).await.expect(damaged).is_some(), "{damaged}");
        }
    }
}

#[derive(Databag)]
#[databag(table = "moved", name = "Moved")]
struct Before {
    tenant: Option<String>,
}

#[derive(Databag)]
#[databag(table = "moved", name = "Moved")]
struct After {
    #[databag(column)]
    tenant: Option<String>,
}

#[actix_web::test]
async fn a_value_that_the_store_refuses_does_not_stop_the_rotation_of_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("moved.db");
    let open = || SqliteStore::open(&path).expect("a database");
    let (old, new) = (Keyring::generate_text(), Keyring::generate_text());
    let before = Sessions::<Before>::builder(open()).keyring(keys(&old)).build().await.expect("builds");
    for tenant in ["x".repeat(200), "a".to_owned(), "b".to_owned(), "c".to_owned()] {
        before.create(Before { tenant: Some(tenant) }).await.expect("it is stored");
    }
    drop(before);
    // As a migration of the operator's adds it.
    let column = "ALTER TABLE moved ADD COLUMN tenant TEXT CHECK (length(tenant) < 100)";
    rusqlite::Connection::open(&path).and_then(|raw| raw.execute_batch(column)).expect("good SQL");
    let rotated = keys(&format!("{},{}", *new, *old));
    let after = Sessions::<After>::builder(open()).keyring(rotated).build().await.expect("builds");
    let (logs, _guard) = databag_tests::Logs::of_this_thread();
    assert_eq!(after.reseal_all(|_, _| ()).await.expect("one row denies no rotation"), 3);
    assert_eq!(logs.lines(&["WARN", "reseal_all", "count=1"]).len(), 1, "{}", logs.text());
}

#[actix_web::test]
async fn rows_that_were_skipped_are_one_warning_with_their_number() {
    let world = shop().await;
    let mut bad = Vec::new();
    for _ in 0..3 {
        bad.push(id(&world.user(7).await));
    }
    world.user(7).await;
    for (session, damaged) in bad.iter().zip(["created = 'x'", "ip_addr = 'x'", DAMAGES[0].0]) {
        damage(&world, *session, damaged);
    }
    let calls: [(&str, bool); 5] =
        [("of_user", true), ("find", true), ("stream", true), ("reseal_all", false), ("check", true)];
    for (call, opens_all) in calls {
        let (logs, _guard) = databag_tests::Logs::of_this_thread();
        match call {
            "of_user" => drop(world.sessions.of_user(7).await.expect("answers")),
            "find" => drop(world.sessions.find(Shop::TENANT.is_none()).await.expect("answers")),
            "stream" => drop(world.sessions.stream().try_collect::<Vec<_>>().await.expect("answers")),
            "check" => drop(world.sessions.check().await.expect("answers")),
            _ => drop(world.sessions.reseal_all(|_, _| ()).await.expect("answers")),
        }
        // A row under the current key is not opened to be sealed again.
        let skipped = if opens_all { 3 } else { 1 };
        assert_eq!(logs.lines(&["WARN"]).len(), 1, "{}", logs.text());
        let number = format!("count={skipped}");
        assert_eq!(logs.lines(&["WARN", call, &number]).len(), 1, "{call}: {}", logs.text());
        let named = bad.iter().filter(|id| !logs.lines(&["DEBUG", &format!("{id:?}")]).is_empty()).count();
        assert_eq!(named, skipped, "{call}: {}", logs.text());
    }
}

#[actix_web::test]
async fn a_column_without_a_value_where_one_is_needed_denies_no_list() {
    // A table that the application has made allows NULL.
    let world = shop_with(|builder| builder).await;
    world
        .database()
        .execute_batch(
            "DROP TABLE sessions; CREATE TABLE sessions (id BLOB PRIMARY KEY, state BLOB, user_id INTEGER, \
         ip_addr TEXT, created INTEGER, expiration INTEGER, revision INTEGER, tenant TEXT)",
        )
        .expect("good SQL");
    let good = id(&world.user(7).await);
    for column in ["state", "created", "revision", "id"] {
        let bad = id(&world.user(7).await);
        damage(&world, bad, &format!("{column} = NULL"));
    }
    assert_eq!(ids(&world.sessions.of_user(7).await.expect("answers")), [good]);
    let report = world.sessions.check().await.expect("answers");
    assert_eq!((report.live, report.expired, report.skipped), (1, 0, 4));
    assert!(world.sessions.clear().await.is_ok());
    assert_eq!(world.rows(), 0);
}

#[actix_web::test]
async fn a_check_counts_expired_sessions() {
    let world = shop().await;
    world.user(7).await;
    world.clock.advance(std::time::Duration::from_mins(31));
    world.user(7).await;
    let report: CheckReport = world.sessions.check().await.expect("answers");
    assert_eq!((report.live, report.expired, report.skipped), (1, 1, 0));
}

#[actix_web::test]
async fn a_list_has_the_newest_sessions_and_a_bound_and_a_stream_has_all() {
    let world = shop().await;
    let mut newest = Vec::new();
    for count in 0..u64::from(LIST_LIMIT) + 300 {
        let bag = Shop { count, user_id: Some(7), tenant: Some("acme".to_owned()), ..Shop::defaults() };
        newest.push(world.sessions.create(bag).await.expect("stored").1.id());
        world.clock.advance(std::time::Duration::from_millis(1));
    }
    newest.reverse();
    let limit = LIST_LIMIT as usize;
    let order = |sessions: &[Snapshot<Shop>]| sessions.iter().map(Snapshot::id).collect::<Vec<_>>();
    let find = || world.sessions.find(Shop::TENANT.eq("acme"));
    assert_eq!(order(&world.sessions.of_user(7).await.expect("answers")), newest[..limit]);
    assert_eq!(order(&find().await.expect("answers")), newest[..limit]);
    assert_eq!(order(&find().limit(3).await.expect("answers")), newest[..3]);
    assert_eq!(order(&find().limit(5_000).await.expect("answers")), newest);
    assert!(find().limit(0).await.expect("answers").is_empty());
    let streamed: Vec<_> = find().limit(3).stream().try_collect().await.expect("answers");
    newest.sort_unstable();
    assert_eq!(order(&streamed), newest, "in the order of the ids");
    assert_eq!(find().count().await.expect("answers"), u64::from(LIST_LIMIT) + 300);
    assert_eq!(world.sessions.revoke_user(7).await.expect("answers"), u64::from(LIST_LIMIT) + 300);
}

#[actix_web::test]
async fn a_session_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let world = shop_with(|builder| builder.max_state_bytes(20_000)).await;
    let of = |length: usize| Shop { pin: Some("x".repeat(length)), ..Shop::defaults() };
    let mut longest = 20_000;
    let (token, _) = loop {
        match world.sessions.create(of(longest)).await {
            Ok(created) => break created,
            Err(Error::TooLarge { .. }) => longest -= 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(world.sessions.load(&token).await.expect("answers").is_some());
    // A node with a lower limit does not read it.
    let lower = Sessions::<Shop>::builder(world.store.clone())
        .keyring(keys(&world.key))
        .cleanup(session_runtime::Cleanup::Never)
        .clock(world.clock.clone())
        .max_state_bytes(10_000);
    let lower = lower.build().await.expect("good settings");
    assert!(lower.load(&token).await.expect("answers").is_none());
    assert_eq!(lower.check().await.expect("answers").skipped, 1);
    assert_eq!(world.sessions.check().await.expect("answers").live, 1);
}
