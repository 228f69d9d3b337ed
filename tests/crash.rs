//! Crashes of the demo under load: what was acknowledged is there afterwards.
//!
//! `CRASH_CYCLES` says how many times it is killed; 5 by default.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use databag_tests::shop::{Running, Shop, Visitor};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

const WRITERS: usize = 4;

/// Every crash waits for so many acknowledged writes since the last one.
const WRITES: u64 = 60;

/// Somebody who counts for as long as the shop answers.
struct Writer {
    visitor: Visitor,
    /// The last count that was acknowledged.
    acknowledged: u64,
    /// Whether another count was asked for and not answered.
    in_flight: bool,
}

impl Writer {
    /// Checks what a shop has of this session, and goes on from there.
    fn resume(&mut self, shop: &Running) {
        self.visitor.moves_to(shop);
        let count = self.visitor.session()["count"].as_u64().expect("a number");
        let possible = self.acknowledged..=self.acknowledged + u64::from(self.in_flight);
        assert!(possible.contains(&count), "{count} is stored, and {possible:?} were possible");
        self.acknowledged = count;
        self.in_flight = false;
    }

    fn count_until_killed(&mut self, written: &AtomicU64) {
        let until = Instant::now() + Duration::from_mins(1);
        while Instant::now() < until {
            let path = if self.acknowledged.is_multiple_of(2) { "/count" } else { "/count-plain" };
            let known = self.visitor.cookie.is_some();
            let Ok(answer) = self.visitor.try_api(path, "") else {
                // Who has no cookie yet has no session to find the count in.
                self.in_flight = known;
                return;
            };
            self.acknowledged += 1;
            assert_eq!(answer.json()["count"], self.acknowledged);
            written.fetch_add(1, Ordering::Relaxed);
        }
        panic!("the shop was not killed");
    }
}

fn integrity(folder: &TempDir) -> String {
    let path = folder.path().join("shop.db");
    let database =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("there is a database");
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked")
}

#[test]
fn no_acknowledged_write_is_lost_however_often_the_shop_is_killed() {
    let cycles = std::env::var("CRASH_CYCLES").map_or(5, |cycles| cycles.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let start = || Shop::new(env!("CARGO_BIN_EXE_shop"), &folder).env("SHOP_DURABILITY", "full").start();
    let mut shop = start();
    let mut writers: [Writer; WRITERS] =
        std::array::from_fn(|_| Writer { visitor: Visitor::of(&shop), acknowledged: 0, in_flight: false });
    for cycle in 1..=cycles {
        let written = AtomicU64::new(0);
        thread::scope(|scope| {
            let counting: Vec<_> = writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.count_until_killed(&written)))
                .collect();
            while written.load(Ordering::Relaxed) < WRITES
                && !counting.iter().all(ScopedJoinHandle::is_finished)
            {
                thread::sleep(Duration::from_millis(1));
            }
            // Not always in the same moment of what a writer does.
            thread::sleep(Duration::from_micros(cycle * 7919 % 20_000));
            shop.kill();
        });
        shop = start();
        assert_eq!(integrity(&folder), "ok", "after crash {cycle}");
        for writer in &mut writers {
            writer.resume(&shop);
        }
    }
    let counts = writers.map(|writer| writer.acknowledged);
    assert!(counts.iter().sum::<u64>() >= cycles * WRITES, "{counts:?}");
    shop.stop();
    assert_eq!(integrity(&folder), "ok", "after a proper end");
}
