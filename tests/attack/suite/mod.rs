//! The attack suite: what an attacker tries, and what must refuse it.
//!
//! A group is a table of cases. Each names the rules that it proves and the stores that it applies to.

#![allow(clippy::unused_async, reason = "a case is a future, whether it waits or not")]

pub(crate) mod bags;
pub(crate) mod case;
pub(crate) mod client;
pub(crate) mod measure;
pub(crate) mod record;
pub(crate) mod stores;
pub(crate) mod target;

mod confusion;
mod fixation;
mod flood;
mod forging;
mod forms;
mod grammar;
mod injection;
mod keys;
mod leaks;
mod logout;
mod races;
mod rollback;
mod size;
mod timing;
mod writer;

use self::case::Group;

pub(crate) const GROUPS: &[Group] = &[
    Group { name: "forging", cases: forging::CASES, is_measured: false },
    Group { name: "writer of the database", cases: writer::CASES, is_measured: true },
    Group { name: "size and depth", cases: size::CASES, is_measured: true },
    Group { name: "grammar", cases: grammar::CASES, is_measured: false },
    Group { name: "log-out and replay", cases: logout::CASES, is_measured: false },
    Group { name: "fixation", cases: fixation::CASES, is_measured: false },
    Group { name: "bag confusion", cases: confusion::CASES, is_measured: false },
    Group { name: "keys", cases: keys::CASES, is_measured: false },
    Group { name: "injection", cases: injection::CASES, is_measured: false },
    Group { name: "races", cases: races::CASES, is_measured: false },
    Group { name: "leaks", cases: leaks::CASES, is_measured: false },
    Group { name: "rollback", cases: rollback::CASES, is_measured: false },
    Group { name: "forms and presets", cases: forms::CASES, is_measured: false },
    Group { name: "denial of service", cases: flood::CASES, is_measured: true },
    Group { name: "timing", cases: timing::CASES, is_measured: true },
];

/// Writes a test of each group on a store.
macro_rules! attack {
    ($store:ident: $kind:ident, $open:expr) => {
        mod $store {
            $crate::suite::attack! { @groups $kind, $open;
                forging "forging", writer_of_the_database "writer of the database", size_and_depth "size and depth",
                grammar "grammar", log_out_and_replay "log-out and replay", fixation "fixation",
                bag_confusion "bag confusion", keys "keys", injection "injection", races "races", leaks "leaks",
                rollback "rollback", forms_and_presets "forms and presets", denial_of_service "denial of service",
            }

            #[actix_web::test]
            #[ignore = "a measure: a busy machine could fail it"]
            async fn timing() {
                $crate::suite::case::run("timing", $crate::suite::case::Kind::$kind, $open).await;
            }
        }
    };
    (@groups $kind:ident, $open:expr; $($test:ident $group:literal,)+) => {
        $(
            #[actix_web::test]
            async fn $test() {
                $crate::suite::case::run($group, $crate::suite::case::Kind::$kind, $open).await;
            }
        )+
    };
}
pub(crate) use attack;
