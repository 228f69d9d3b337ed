//! How fast the stores are: `tests/servers cargo bench -p databag-tests --features servers`.
//!
//! Prints, for 1 and for 64 clients, how many rows of 600 bytes are loaded and saved in a second. Each client has
//! a row of its own.

use std::time::{Duration, Instant};

use databag_tests::rows::{row, soon, table, touch};
use databag_tests::server::url;
use futures_util::future::join_all;
use session_runtime::store::{Outcome, Row};
use session_runtime::{MemoryStore, MysqlStore, PostgresStore, RedisStore, SqliteStore, Store};

const TIME: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    println!("{:<16}{:>10}{:>10}{:>10}{:>10}", "per second", "load 1", "load 64", "save 1", "save 64");
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = SqliteStore::open(folder.path().join("sessions.db")).expect("a store");
    measure("memory", MemoryStore::new()).await;
    measure("sqlite", sqlite).await;
    let postgres = PostgresStore::connect(&url("POSTGRES_URL")).await;
    measure("postgres", postgres.expect("the server answers")).await;
    measure("mariadb", MysqlStore::connect(&url("MYSQL_URL")).await.expect("the server answers")).await;
    measure("redis", RedisStore::connect(&url("REDIS_URL")).await.expect("the server answers")).await;
    let cluster = RedisStore::connect(&url("REDIS_CLUSTER_URL")).await;
    measure("redis cluster", cluster.expect("the cluster answers")).await;
}

async fn measure<S: Store + Clone>(name: &str, mut store: S) {
    store.prepare(&table("measure"), DEADLINE).await.expect("the server answers");
    for n in 0..64 {
        store.insert(row(n), soon()).await.expect("it fits");
    }
    let mut line = format!("{name:<16}");
    let mut rows: Vec<_> = (0..64).map(row).collect();
    for clients in [1, 64] {
        let begun = Instant::now();
        let loads = rows[..clients].iter().map(|row| tokio::spawn(load(store.clone(), row.clone(), begun)));
        let done: u32 = join_all(loads).await.into_iter().map(|done| done.expect("it answers")).sum();
        line.push_str(&per_second(done, begun));
    }
    for clients in [1, 64] {
        let begun = Instant::now();
        let tasks = rows[..clients].iter().map(|row| tokio::spawn(save(store.clone(), row.clone(), begun)));
        let saved: Vec<_> = join_all(tasks).await.into_iter().map(|row| row.expect("it answers")).collect();
        let done: i64 = saved.iter().zip(&rows).map(|(after, before)| after.revision - before.revision).sum();
        let done = u32::try_from(done).expect("it has a few seconds");
        line.push_str(&per_second(done, begun));
        rows.splice(..clients, saved);
    }
    println!("{line}");
}

fn per_second(done: u32, begun: Instant) -> String {
    format!("{:>10.0}", f64::from(done) / begun.elapsed().as_secs_f64())
}

async fn load<S: Store>(store: S, row: Row, begun: Instant) -> u32 {
    let mut done = 0;
    while begun.elapsed() < TIME {
        store.load(row.id, soon()).await.expect("it answers").expect("it is there");
        done += 1;
    }
    done
}

async fn save<S: Store>(store: S, mut row: Row, begun: Instant) -> Row {
    while begun.elapsed() < TIME {
        let update = touch(&row);
        row = update.row.clone();
        assert_eq!(store.update(update, soon()).await.expect("it answers"), Outcome::Stored);
    }
    row
}
