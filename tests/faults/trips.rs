//! How many round trips each kind of request costs, counted by the proxy.
//!
//! One visitor sends one request at a time over connections that are in use. A trip counts also if the request does not wait
//! for it, such as the ping of a connection that goes back to its pool.

use std::fmt::Write as _;
use std::time::Duration;

use databag_tests::Random;
use databag_tests::server::url;
use tokio::time::sleep;

use crate::proxy::{Fault, Proxy};
use crate::shop::{Act, Shop, Visitor};
use crate::{MYSQL, POSTGRES, REDIS, Servers};

/// The most trips of each kind of request, in the order of `Act::ALL`; then of a read and a write without a session.
type Most = [u64; 8];

const REPEATS: usize = 9;

async fn cost(servers: &'static Servers, most: Most) {
    let _turn = servers.turn().await;
    let proxy = Proxy::new(&servers.addresses().await, 1);
    let shop = Shop::open(&proxy.url(&url(servers.variable)), None, None).await;
    let mut visitor = Visitor::new(shop.address, 1, Random::new(1));
    let trips = async |visitor: &mut Visitor, act| {
        // The connection is back in its pool.
        sleep(Duration::from_millis(20)).await;
        proxy.strike(Fault::None);
        assert!(visitor.act(act).await, "{act:?}");
        sleep(Duration::from_millis(20)).await;
        proxy.trips()
    };
    let (mut table, mut found) = (format!("{}: trips, at most\n", servers.name), Vec::new());
    let kinds = Act::ALL.map(|act| (act, true)).into_iter().chain([(Act::Read, false), (Act::Write, false)]);
    for (act, has_session) in kinds {
        let mut counts = Vec::new();
        for _ in 0..REPEATS {
            visitor.act(if has_session { Act::LogIn } else { Act::LogOut }).await;
            counts.push(trips(&mut visitor, act).await);
        }
        // A connection that was idle for long is tested first.
        counts.sort_unstable();
        found.push(counts[REPEATS / 2]);
        let who = if has_session { "" } else { ", without a session" };
        let _ = writeln!(
            table,
            "  {:28}{:3}{:3}",
            format!("{act:?}{who}"),
            counts[REPEATS / 2],
            most[found.len() - 1]
        );
    }
    shop.close().await;
    println!("{table}");
    assert!(found.iter().zip(&most).all(|(found, most)| found <= most), "{table}");
}

#[actix_web::test]
async fn a_request_costs_few_round_trips_to_postgresql() {
    cost(&POSTGRES, [1, 2, 2, 2, 2, 2, 0, 1]).await;
}

#[actix_web::test]
async fn a_request_costs_few_round_trips_to_mariadb() {
    cost(&MYSQL, [1, 2, 2, 2, 2, 2, 0, 1]).await;
}

#[actix_web::test]
async fn a_request_costs_few_round_trips_to_redis() {
    cost(&REDIS, [1, 2, 2, 4, 4, 3, 0, 1]).await;
}
