//! Times that would tell an attacker how much of a guess is right: measures, which no ordinary run takes.
//!
//! Guesses that begin as the secret does are compared with guesses that do not, in random order, by Welch's t-test on the
//! faster half of the times, as dudect does (Reparaz, Balasch and Verbauwhede, 2017). Below 4.5 there is no difference; a
//! case fails from 10.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use databag_tests::Random;
use session_runtime::{Databag as _, Session, Token};

use super::bags::Shop;
use super::case::cases;
use super::measure::sized;
use super::target::Target;

cases! {
    "a CSRF token whose first half is right" [15 25] Any => csrf();
    "a token whose first half is right" [15] Rows => lookup();
}

/// From here on there is a difference.
const THRESHOLD: f64 = 10.0;

/// How much of a near guess is right, in bytes of 32.
const RIGHT: usize = 16;

fn bytes(random: &mut Random) -> Vec<u8> {
    (0..4).flat_map(|_| random.next().to_be_bytes()).collect()
}

/// Makes 32 bytes that begin as these do.
fn guess(random: &mut Random, like: &[u8]) -> Vec<u8> {
    [&like[..RIGHT], &bytes(random)[RIGHT..]].concat()
}

/// Compares the guesses of these 32 bytes. `write` makes a guess of what an attacker sends. `ATTACK_TIMINGS` is the number of
/// guesses, 10,000 by default.
async fn compare(
    what: &str,
    secret: &[u8],
    write: impl Fn(&mut Random, &[u8]) -> String,
    attempt: impl AsyncFn(&str),
) {
    let (guesses, mut random) = (sized("ATTACK_TIMINGS", 10_000), Random::new(1));
    // Both kinds are made in one way: only one begins as the secret does.
    let decoy: Vec<u8> = secret.iter().map(|byte| !byte).collect();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..guesses {
        let is_near = random.percent(50);
        let guess = guess(&mut random, if is_near { secret } else { &decoy });
        let guess = write(&mut random, &guess);
        let begun = Instant::now();
        attempt(&guess).await;
        times[usize::from(is_near)].push(begun.elapsed().as_secs_f64());
    }
    let [(far, far_error), (near, near_error)] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() / 2);
        let count = f64::from(u32::try_from(times.len()).expect("few"));
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        (mean, variance / count)
    });
    let t = (near - far) / (near_error + far_error).sqrt();
    println!("  {what}: {:.3} us if it is near, {:.3} us if not, t = {t:.1}", near * 1e6, far * 1e6);
    assert!(t.abs() < THRESHOLD, "{what}: the times differ, t = {t:.1}");
}

/// Without HTTP, whose noise would hide it. A token is a mask, and what the mask hides.
async fn csrf(_: &Target) {
    let mut session = Session::for_test(Shop::defaults());
    session.count += 1;
    session.save().await.expect("it is stored");
    let token = session.csrf_token();
    assert!(session.verify_csrf(&token));
    let xor =
        |one: &[u8], other: &[u8]| one.iter().zip(other).map(|(one, other)| one ^ other).collect::<Vec<_>>();
    let token = URL_SAFE_NO_PAD.decode(token).expect("base64url");
    let hidden = xor(&token[..32], &token[32..]);
    let write = |random: &mut Random, guess: &[u8]| {
        let mask = bytes(random);
        let masked = xor(&mask, guess);
        URL_SAFE_NO_PAD.encode([mask, masked].concat())
    };
    assert!(session.verify_csrf(&write(&mut Random::new(1), &hidden)), "a guess has the form of a token");
    compare("CSRF", &hidden, write, async |guess| assert!(!session.verify_csrf(guess))).await;
}

/// The store compares hashes of tokens, so a near guess is as far as any other.
async fn lookup(target: &Target) {
    let (token, _) = target.shop.create(Shop::defaults()).await.expect("it is stored");
    let secret = URL_SAFE_NO_PAD.decode(token.encode().as_bytes()).expect("base64url");
    let write = |_: &mut Random, guess: &[u8]| URL_SAFE_NO_PAD.encode(guess);
    compare("a token", &secret, write, async |guess| {
        let token = Token::parse(guess).expect("it is canonical");
        assert!(target.shop.load(&token).await.expect("it answers").is_none());
    })
    .await;
}
