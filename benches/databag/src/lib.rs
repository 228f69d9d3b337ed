//! Databag as the benchmark runs it: one bag and its routes.

use std::collections::BTreeMap;

use actix_web::web::{self, ServiceConfig};
use session_runtime::access::Backing;
use session_runtime::{Databag, Error, Keyring, Session, SessionRef, Sessions};

/// A session of about 300 bytes.
#[derive(Debug, Databag)]
#[databag(table = "sessions")]
pub struct Shop {
    /// Changed by each write.
    pub visits: u64,
    name: String,
    email: String,
    cart: BTreeMap<String, u32>,
}

/// The sessions of a store, sealed.
///
/// # Errors
///
/// If the store cannot be reached.
pub async fn sessions<S: Backing>(store: S) -> Result<Sessions<Shop, S::Access>, Error> {
    let key = Keyring::generate();
    Sessions::<Shop>::builder(store).keyring(key).build().await
}

/// A new session.
pub fn shop() -> Shop {
    Shop {
        visits: 0,
        name: bench_common::NAME.to_owned(),
        email: bench_common::EMAIL.to_owned(),
        cart: bench_common::cart(),
    }
}

/// The routes behind the middleware. `/unused` asks for no session.
pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/create", web::get().to(create))
        .route("/unused", web::get().to(plain))
        .route("/read", web::get().to(read))
        .route("/write", web::get().to(write))
        .route("/update", web::get().to(update));
}

/// A handler without a session.
#[allow(clippy::unused_async, reason = "a handler is async")]
pub async fn plain() -> &'static str {
    "0"
}

async fn create(mut session: Session<Shop>) -> &'static str {
    *session = shop();
    "0"
}

async fn read(session: SessionRef<Shop>) -> String {
    session.visits.to_string()
}

async fn write(mut session: Session<Shop>) -> String {
    session.visits += 1;
    session.visits.to_string()
}

async fn update(mut session: Session<Shop>) -> Result<String, Error> {
    let visits = session.update(|shop| {
        shop.visits += 1;
        shop.visits
    });
    Ok(visits.await?.to_string())
}
