//! Two shops on one database file, and several visitors at each of them, some in the same session.
//!
//! `PROCESS_REQUESTS` is the number of all requests, 2000 by default.

use std::thread;
use std::time::Instant;

use databag_tests::demo::{Running, Shop, Visitor};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

const THREADS_PER_SHOP: usize = 2;
const SHARED_SESSIONS: usize = 3;

/// The acknowledged counts of one thread.
#[derive(Default)]
struct Tally {
    requests: u64,
    /// Its counts in each of the shared sessions.
    shared: [u64; SHARED_SESSIONS],
}

/// One thread with a session of its own and the shared ones.
struct Worker {
    name: String,
    own: Visitor,
    shared: [Visitor; SHARED_SESSIONS],
}

impl Worker {
    fn run(mut self, requests: u64) -> Tally {
        let mut tally = Tally::default();
        let (mut own_count, mut own_tea) = (0_u64, 0_u64);
        while tally.requests < requests {
            let step = tally.requests;
            let session = usize::try_from(step / 10).expect("few") % SHARED_SESSIONS;
            let shared = &mut self.shared[session];
            tally.requests += 1;
            match step % 10 {
                // Other threads count in the same session, in both processes.
                0 | 2 | 4 | 8 => {
                    let count = shared.api("/count", "")["count"].as_u64().expect("a number");
                    tally.shared[session] += 1;
                    assert!(count >= tally.shared[session], "{count}");
                }
                1 => drop(shared.session()),
                3 => assert_eq!(shared.get("/").status, 200),
                5 => {
                    own_count += 1;
                    assert_eq!(self.own.api("/count-plain", "")["count"], own_count);
                }
                6 => {
                    own_tea += 2;
                    assert_eq!(self.own.api("/cart", "sku=tea&qty=2")["cart"], json!({"tea": own_tea}));
                }
                7 if step % 50 == 7 => {
                    let mut guest = self.own.clone();
                    guest.cookie = None;
                    assert_eq!(guest.api("/login", "user=7")["user_id"], 7);
                    assert_eq!(guest.api("/logout", "")["is_new"], true);
                    tally.requests += 1;
                }
                7 => assert_eq!(shared.api("/theme", "theme=dark")["theme"], "dark"),
                _ => assert_eq!(self.own.get("/api/devices").status, 200),
            }
        }
        let own = self.own.session();
        assert_eq!(own["count"], own_count, "{}", self.name);
        assert_eq!(own["cart"]["tea"], own_tea, "{}", self.name);
        tally
    }
}

#[test]
fn two_processes_on_one_file_lose_no_write_and_answer_no_error() {
    let requests =
        std::env::var("PROCESS_REQUESTS").map_or(2000, |requests| requests.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let shops = [(); 2].map(|()| Shop::new(env!("CARGO_BIN_EXE_shop"), &folder).start());
    let shared: [Visitor; SHARED_SESSIONS] = std::array::from_fn(|_| {
        let mut visitor = Visitor::of(&shops[0]);
        visitor.api("/tenant", "tenant=acme");
        visitor
    });

    let since = Instant::now();
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let workers: Vec<_> = (0..shops.len() * THREADS_PER_SHOP)
            .map(|thread| {
                let shop = &shops[thread % shops.len()];
                let mut own = Visitor::of(shop);
                own.api("/login", &format!("user={thread}"));
                let mut shared = shared.clone();
                for visitor in &mut shared {
                    visitor.moves_to(shop);
                }
                let worker = Worker { name: format!("thread {thread}"), own, shared };
                let share = requests / (shops.len() * THREADS_PER_SHOP) as u64;
                scope.spawn(move || worker.run(share))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("every answer is as it must be")).collect()
    });

    let answered: u64 = tallies.iter().map(|tally| tally.requests).sum();
    println!("two processes on one file: {answered} requests in {:.0?}", since.elapsed());
    for (session, mut visitor) in shared.into_iter().enumerate() {
        let acknowledged: u64 = tallies.iter().map(|tally| tally.shared[session]).sum();
        assert!(acknowledged > 0);
        assert_eq!(visitor.session()["count"], acknowledged, "session {session}");
    }
    shops.into_iter().for_each(Running::stop);
    let database =
        Connection::open_with_flags(folder.path().join("shop.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("there is a database");
    let integrity: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked");
    assert_eq!(integrity, "ok");
    let log = std::fs::read_to_string(folder.path().join("log")).expect("there is a log");
    let trouble: Vec<_> =
        log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
    assert_eq!(trouble, [""; 0]);
}
