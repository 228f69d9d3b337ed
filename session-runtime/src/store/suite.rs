//! Checks of a store from outside: a store goes in, the promises that it breaks come out.
//!
//! Every store of this crate passes them. To check a store of your own, turn on the feature `testing` in your
//! development dependencies:
//!
//! ```
//! use session_runtime::MemoryStore;
//! use session_runtime::store::suite;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! suite::run(async || MemoryStore::new()).await;
//! # }
//! ```
//!
//! The checks create tables of their own, whose names begin with `suite_`, and do not drop them: use a database for
//! tests. The rows expire by the time of day, because a store may remove what has expired.

mod directory;
mod fixture;
mod rows;
#[cfg(all(test, feature = "memory"))]
mod tests;

use self::directory::check_directory;
use self::rows::check_store;
use super::{Directory, Store};

/// Checks everything that a [`Directory`] promises, including what every [`Store`] does.
///
/// `open` is called once for each check and returns a store that is not prepared yet. It may return a store of the same
/// database each time.
///
/// # Panics
///
/// If the store breaks a promise. The message names every broken one.
pub async fn run<S: Directory + Clone>(open: impl AsyncFn() -> S) {
    let mut broken = check_store(&open).await;
    broken.extend(check_directory(&open).await);
    report::<S>(&broken);
}

/// Checks everything that a [`Store`] promises, for a store that is no [`Directory`].
///
/// # Panics
///
/// If the store breaks a promise. The message names every broken one.
///
/// # Examples
///
/// ```
/// use session_runtime::MemoryStore;
/// use session_runtime::store::suite;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// suite::run_store(async || MemoryStore::new()).await;
/// # }
/// ```
pub async fn run_store<S: Store + Clone>(open: impl AsyncFn() -> S) {
    report::<S>(&check_store(&open).await);
}

fn report<S>(broken: &[String]) {
    assert!(
        broken.is_empty(),
        "{} breaks {} of its promises:\n{}",
        std::any::type_name::<S>(),
        broken.len(),
        broken.join("\n")
    );
}
