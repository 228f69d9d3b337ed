//! Crashes of the demo shop under load: every acknowledged write survives.
//!
//! One shop on a database file, and two shops of which one or both are killed. `CRASH_CYCLES` is the number of crashes, 5
//! by default.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use databag_tests::demo::{Running, Shop, Visitor};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

const WRITERS: usize = 4;

/// Each crash waits for this many acknowledged writes since the last one.
const WRITES: u64 = 60;

/// The surviving shops acknowledge this many more before the next start.
const WRITES_AFTER: u64 = 20;

/// A visitor who counts while the shop answers.
struct Writer {
    visitor: Visitor,
    /// The last count that was acknowledged.
    acknowledged: u64,
    /// Whether another count was sent and not answered.
    in_flight: bool,
}

impl Writer {
    /// Checks the count in a shop and continues from there.
    fn resume(&mut self, shop: &Running) -> Result<(), String> {
        self.visitor.moves_to(shop);
        let count = self.visitor.session()["count"].as_u64().expect("a number");
        let possible = self.acknowledged..=self.acknowledged + u64::from(self.in_flight);
        if !possible.contains(&count) {
            return Err(format!("{count} is stored, and {possible:?} were possible"));
        }
        self.acknowledged = count;
        self.in_flight = false;
        Ok(())
    }

    /// Counts until the shop is killed. A shop that is not killed must answer until the load is over.
    fn count(&mut self, dies: bool, load: &Load) {
        let until = Instant::now() + Duration::from_mins(1);
        while Instant::now() < until {
            if !dies && load.over.load(Ordering::Relaxed) {
                return;
            }
            let path = if self.acknowledged.is_multiple_of(2) { "/count" } else { "/count-plain" };
            let known = self.visitor.cookie.is_some();
            let answer = match self.visitor.try_api(path, "") {
                Ok(answer) => answer,
                Err(error) => {
                    assert!(dies, "a shop that was not killed does not answer: {error}");
                    // Without a cookie there is no session with a count.
                    self.in_flight = known;
                    return;
                }
            };
            self.acknowledged += 1;
            assert_eq!(answer.json()["count"], self.acknowledged);
            load.written.fetch_add(1, Ordering::Relaxed);
        }
        panic!("the shop was not killed");
    }
}

/// The acknowledged writes of a cycle, and whether they are enough.
#[derive(Default)]
struct Load {
    written: AtomicU64,
    over: AtomicBool,
}

impl Load {
    /// Waits until so many writes are acknowledged or a writer has ended.
    fn wait_for(&self, writes: u64, has_ended: impl Fn() -> bool) {
        while self.written.load(Ordering::Relaxed) < writes && !has_ended() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn integrity(folder: &TempDir) -> String {
    let path = folder.path().join("shop.db");
    let database =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("there is a database");
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked")
}

/// Kills shops on one file, as `dies` decides by cycle and shop, and checks every acknowledged write.
fn crash_often<const SHOPS: usize>(dies: impl Fn(u64, usize) -> bool) {
    let cycles = std::env::var("CRASH_CYCLES").map_or(5, |cycles| cycles.parse().expect("a number"));
    let since = Instant::now();
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let start = || Shop::new(env!("CARGO_BIN_EXE_shop"), &folder).env("SHOP_DURABILITY", "full").start();
    let mut shops = [(); SHOPS].map(|()| Some(start()));
    let mut writers: [Writer; WRITERS] = std::array::from_fn(|n| {
        let shop = shops[n % SHOPS].as_ref().expect("it runs");
        Writer { visitor: Visitor::of(shop), acknowledged: 0, in_flight: false }
    });
    for cycle in 1..=cycles {
        let load = Load::default();
        // The visitors of one shop continue at the next one, which has everything that the first has acknowledged.
        let place = |writer: usize| (writer + usize::try_from(cycle).expect("few")) % SHOPS;
        for (n, writer) in writers.iter_mut().enumerate() {
            let found = writer.resume(shops[place(n)].as_ref().expect("it runs"));
            found.unwrap_or_else(|lost| panic!("before cycle {cycle}, writer {n}: {lost}"));
        }
        thread::scope(|scope| {
            let counting: Vec<_> = writers
                .iter_mut()
                .enumerate()
                .map(|(n, writer)| {
                    let dies = dies(cycle, place(n));
                    (
                        dies,
                        scope.spawn({
                            let load = &load;
                            move || writer.count(dies, load)
                        }),
                    )
                })
                .collect();
            load.wait_for(WRITES, || counting.iter().any(|(_, writer)| writer.is_finished()));
            // At different moments of a write.
            thread::sleep(Duration::from_micros(cycle * 7919 % 20_000));
            for shop in (0..SHOPS).filter(|shop| dies(cycle, *shop)) {
                shops[shop].take().expect("it runs").kill();
            }
            if shops.iter().any(Option::is_some) {
                let enough = load.written.load(Ordering::Relaxed) + WRITES_AFTER;
                load.wait_for(enough, || counting.iter().any(|(dies, writer)| !dies && writer.is_finished()));
                assert_eq!(integrity(&folder), "ok", "after crash {cycle}, while another one writes");
            }
            load.over.store(true, Ordering::Relaxed);
        });
        for shop in &mut shops {
            shop.get_or_insert_with(start);
        }
        assert_eq!(integrity(&folder), "ok", "after crash {cycle}");
    }
    for writer in &mut writers {
        writer
            .resume(shops[0].as_ref().expect("it runs"))
            .unwrap_or_else(|lost| panic!("in the end: {lost}"));
    }
    let counts = writers.map(|writer| writer.acknowledged);
    assert!(counts.iter().sum::<u64>() >= cycles * WRITES, "{counts:?}");
    shops.into_iter().flatten().for_each(Running::stop);
    assert_eq!(integrity(&folder), "ok", "after a proper end");
    println!(
        "{SHOPS} on one file: {cycles} crashes, {} acknowledged writes, 0 lost, in {:.0?}",
        counts.iter().sum::<u64>(),
        since.elapsed()
    );
}

#[test]
fn no_acknowledged_write_is_lost_when_the_shop_is_killed() {
    crash_often::<1>(|_, _| true);
}

#[test]
fn two_shops_on_one_file_lose_no_write_when_one_or_both_are_killed() {
    crash_often::<2>(|cycle, shop| {
        [shop == 0, shop == 1, true][usize::try_from(cycle % 3).expect("an index")]
    });
}

/// Counts until `acknowledged` is reached.
fn count_to(writer: &mut Writer, acknowledged: u64) {
    while writer.acknowledged < acknowledged {
        writer.acknowledged = writer.visitor.api("/count", "")["count"].as_u64().expect("a number");
    }
}

#[test]
fn a_write_that_is_lost_in_a_crash_is_noticed() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = |name: &str| folder.path().join(name);
    let start = || Shop::new(env!("CARGO_BIN_EXE_shop"), &folder).start();
    let shop = start();
    let mut writer = Writer { visitor: Visitor::of(&shop), acknowledged: 0, in_flight: false };
    count_to(&mut writer, 3);
    shop.stop();
    std::fs::copy(path("shop.db"), path("before")).expect("it can be copied");

    let shop = start();
    writer.resume(&shop).expect("nothing was lost");
    count_to(&mut writer, 5);
    shop.kill();
    // As if the later acknowledged writes had not been made.
    std::fs::rename(path("before"), path("shop.db")).expect("it can be replaced");
    for name in ["shop.db-wal", "shop.db-shm"] {
        std::fs::remove_file(path(name)).expect("a crash leaves it");
    }
    let shop = start();
    writer.in_flight = true;
    writer.resume(&shop).expect_err("two writes are missing");
}
