//! Times that would tell an attacker how much of a guess is right: measures, which no ordinary run takes.
//!
//! Each compares two kinds of guesses in turns, by Welch's t-test on the lower half of the times, as dudect does
//! (Reparaz, Balasch and Verbauwhede, 2017). A difference is one from `|t| > 10`; below 4.5 there is none.

use std::time::Instant;

use session_runtime::Token;

use super::bags::Shop;
use super::case::cases;
use super::client::Visitor;
use super::measure::sized;
use super::target::{Target, victim};

cases! {
    "a CSRF token whose first half is right" [15 25] Any => csrf();
    "a token whose first half is right" [15] Any => lookup();
}

/// Beyond this a difference is there.
const THRESHOLD: f64 = 10.0;

/// `ATTACK_TIMINGS` is the number of guesses of each kind.
async fn compare(what: &str, one: impl AsyncFn(), other: impl AsyncFn()) {
    let rounds = sized("ATTACK_TIMINGS", 5_000);
    let mut times = [Vec::with_capacity(rounds), Vec::with_capacity(rounds)];
    for _ in 0..rounds {
        let begun = Instant::now();
        one().await;
        let middle = Instant::now();
        other().await;
        times[0].push((middle - begun).as_secs_f64());
        times[1].push(middle.elapsed().as_secs_f64());
    }
    let [(mean_one, error_one), (mean_other, error_other)] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.truncate(rounds / 2);
        let count = f64::from(u32::try_from(times.len()).expect("few"));
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        (mean, variance / count)
    });
    let t = (mean_one - mean_other) / (error_one + error_other).sqrt();
    println!("  {what}: {:.1} us and {:.1} us, t = {t:.1}", mean_one * 1e6, mean_other * 1e6);
    assert!(t.abs() < THRESHOLD, "{what}: the times differ, t = {t:.1}");
}

async fn csrf(target: &Target) {
    let visitor = victim(target).await;
    let token = visitor.get("/csrf").await.body;
    let near = format!("{}{}", &token[..22], "A".repeat(token.len() - 22));
    let far = "A".repeat(token.len());
    let pay = async |token: &str| drop(visitor.put("/pay", token).await);
    compare("CSRF", async || pay(&near).await, async || pay(&far).await).await;
}

/// The store compares hashes of tokens, so a near guess is as far as any other.
async fn lookup(target: &Target) {
    let (token, _) =
        target.shop.create(<Shop as session_runtime::Databag>::defaults()).await.expect("it is stored");
    let near = Token::parse(&format!("{}{}", &token.encode()[..22], "A".repeat(21))).expect("a token");
    let far = Token::parse(&"A".repeat(43)).expect("a token");
    let load = async |token: &Token| drop(target.shop.load(token).await);
    compare("a token", async || load(&near).await, async || load(&far).await).await;
    drop(Visitor::new(target));
}
