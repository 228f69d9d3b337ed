//! Typed, sealed, conflict-safe sessions for actix-web.
//!
//! One struct with [`#[derive(Databag)]`](derive@Databag) is the session: its fields are what a visitor's
//! session holds. A mistake in it does not compile. The middleware hands it to handlers as
//! [`Session<T>`](Session); what a handler changes is sealed with AES-256-GCM-SIV and stored before the answer
//! is sent, in [`SqliteStore`] or another [`Store`].
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use actix_web::{App, HttpServer, Responder, web};
//! use session_runtime::{Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};
//!
//! #[derive(Databag)]
//! struct ShopSession {
//!     #[databag(user_id)]
//!     user_id: Option<i64>,
//!     cart: BTreeMap<String, u32>,
//! }
//!
//! async fn add(mut session: Session<ShopSession>, sku: web::Path<String>) -> impl Responder {
//!     *session.cart_mut().entry(sku.into_inner()).or_default() += 1;
//!     format!("{} kinds of things in your cart", session.cart().len())
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # if true { return Ok(()); }
//!     let sessions = Sessions::<ShopSession>::builder(SqliteStore::open("sessions.db")?)
//!         .keyring(Keyring::from_env("SESSION_KEY")?)
//!         .build()
//!         .await?;
//!     HttpServer::new(move || {
//!         App::new()
//!             .wrap(SessionMiddleware::new(sessions.clone()))
//!             .route("/cart/{sku}", web::post().to(add))
//!     })
//!     .bind("127.0.0.1:8080")?
//!     .run()
//!     .await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | what a field can be | [`#[derive(Databag)]`](derive@Databag) |
//! | what a handler can do | [`Session`], [`SessionRef`], [`LoggedIn`] |
//! | lists, queries, ending other sessions, admin tasks | [`Sessions`], [`Find`] |
//! | cookies, limits, proxies, hooks | [`Builder`] |
//! | keys and their rotation | [`Keyring`] |
//! | tests of handlers | [`Session::for_test`], [`TestRequestExt`] |
//! | a test that the layout of stored sessions has not changed unseen | [`assert_schema!`] |
//! | a store or a codec of one's own | [`store`], [`Codec`] |
//!
//! # Features
//!
//! | feature | default | brings |
//! | --- | --- | --- |
//! | `sqlite` | yes | [`SqliteStore`] |
//! | `memory` | no | `MemoryStore` |
//! | `cookie` | no | `CookieStore`: the session is in the cookie, and no server keeps anything |
//! | `postgres` | no | `PostgresStore` |
//! | `mysql` | no | `MysqlStore`, for MySQL and MariaDB |
//! | `redis` | no | `RedisStore`, for Redis and Valkey: one server, sentinels, a cluster |
//! | `any` | no | all of them; [`AnyStore`] chooses by a URL among those that are built in |
//! | `testing` | no | `store::suite`, which checks a store of your own |
//! | `actix` | yes | [`SessionMiddleware`] and the extractors |
//!
//! No feature changes the meaning of another.
//!
//! # The clients of servers
//!
//! PostgreSQL and MySQL are spoken to through [sqlx](https://docs.rs/sqlx), Redis through
//! [redis](https://docs.rs/redis). Both are the most used of their kind, are released several times a year, bring
//! TLS by rustls, and their pools and connections are what programs have already. What else was weighed:
//!
//! - `sqlx` serves both SQL servers by one interface, so the two stores differ in their SQL alone. It is taken
//!   without `macros`, `migrate`, `json`, `any` and `sqlite`, each of which asks for another SQLite than the bundled
//!   one of `rusqlite`, and without `mysql-rsa` (RUSTSEC-2023-0071). It needs Rust 1.94, more than the rest.
//! - `tokio-postgres` with `deadpool`, and `mysql_async`, are as good drivers, and make it two of everything. They
//!   answer faster where a pool is small: sqlx asks each connection that is given back whether it still works.
//! - `redis` has clusters, sentinels and connections that come back by themselves. `fred` has all of it behind one
//!   type, and has had no release for longer.

// What a request needs beyond the rest has no caller without a web framework.
#![cfg_attr(not(feature = "actix"), allow(dead_code))]

// The derive names this crate from outside; its own tests use the derive too.
#[cfg(test)]
extern crate self as session_runtime;

mod bag;
mod builder;
mod clock;
mod codec;
mod column;
mod commit;
mod envelope;
mod error;
mod hooks;
mod load;
mod lock;
mod merge;
mod queue;
mod recent;
mod record;
mod refused;
mod session;
mod sessions;
mod shape;
mod testing;
mod token;
mod value;
#[cfg(feature = "actix")]
mod web;

pub mod store;

#[doc(hidden)]
pub mod __private;

pub use bag::{
    Bind, Columns, CookieSchema, Databag, Field, HasIp, HasUser, Persistence, Projection, Role, SameSite,
    Schema,
};
pub use builder::{Builder, Chosen, Cleanup, Protected, Unchosen};
pub use clock::{Clock, Timestamp};
pub use codec::{Bincode, Codec, CodecError, Framing, Json};
pub use column::{Column, Condition};
pub use envelope::{KeyError, Keyring};
pub use error::{Error, Rejection};
pub use session::{LoggedIn, Session, SessionRef};
pub use sessions::{Answer, Find, Sessions, Snapshot};
#[cfg(any(
    feature = "sqlite",
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "mysql"
))]
pub use store::any::AnyStore;
#[cfg(feature = "cookie")]
pub use store::cookie::CookieStore;
#[cfg(feature = "memory")]
pub use store::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use store::mysql::MysqlStore;
#[cfg(feature = "postgres")]
pub use store::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use store::sqlite::{Durability, SqliteStore};
pub use store::{Directory, Store, StoreError};
pub use token::{ParseSessionIdError, SessionId, Token, TokenSource};
pub use value::{ColumnType, ColumnValue, Value};
#[cfg(feature = "actix")]
pub use web::{SessionMiddleware, TestRequestExt};

pub use session_derive::{ColumnValue, Databag};

/// The program of the README compiles.
#[cfg(all(doctest, feature = "sqlite", feature = "actix"))]
#[doc = include_str!("../../README.md")]
struct Readme;
