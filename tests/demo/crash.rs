//! Crashes of the demo under load: what was acknowledged is there afterwards.
//!
//! One shop on a database file, and two of them, of which one is killed, or the other, or both. `CRASH_CYCLES` says
//! how many times; 5 by default.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use databag_tests::demo::{Running, Shop, Visitor};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

const WRITERS: usize = 4;

/// Every crash waits for so many acknowledged writes since the last one.
const WRITES: u64 = 60;

/// So many more are acknowledged by the shops that go on, before the next start.
const WRITES_AFTER: u64 = 20;

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

    /// Counts until the shop is killed; one that is not has to answer until the load is over.
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
                    // Who has no cookie yet has no session to find the count in.
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

/// What the writers of a cycle have done, and whether it is enough.
#[derive(Default)]
struct Load {
    written: AtomicU64,
    over: AtomicBool,
}

impl Load {
    /// Waits until so many writes were acknowledged, or a writer has ended before.
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

/// Kills so many shops on one file, as `dies` says by cycle and shop, and looks for every acknowledged write.
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
        // Who was at one shop comes to the next one, and finds there what the first has acknowledged.
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
            // Not always in the same moment of what a writer does.
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
fn no_acknowledged_write_is_lost_however_often_the_shop_is_killed() {
    crash_often::<1>(|_, _| true);
}

#[test]
fn of_two_shops_on_one_file_none_loses_a_write_or_fails_when_one_or_both_are_killed() {
    crash_often::<2>(|cycle, shop| {
        [shop == 0, shop == 1, true][usize::try_from(cycle % 3).expect("an index")]
    });
}

/// Counts so often that `acknowledged` is reached.
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
    // As if what was acknowledged since had not been written.
    std::fs::rename(path("before"), path("shop.db")).expect("it can be replaced");
    for name in ["shop.db-wal", "shop.db-shm"] {
        std::fs::remove_file(path(name)).expect("a crash leaves it");
    }
    let shop = start();
    writer.in_flight = true;
    writer.resume(&shop).expect_err("two writes are missing");
}
