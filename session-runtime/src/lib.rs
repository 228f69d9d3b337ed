//! Typed, sealed, conflict-safe sessions for actix-web.
//!
//! One struct with [`#[derive(Databag)]`](derive@Databag) is the session: its fields are what a visitor's session holds. A
//! mistake in it does not compile. The middleware gives it to handlers as [`Session<T>`](Session). What a handler changes
//! is sealed with AES-256-GCM-SIV and stored before the answer is sent, in [`SqliteStore`] or another [`Store`].
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
//! # Contents
//!
//! | for | see |
//! | --- | --- |
//! | a chapter for each task, from the first program to production | [`guide`] |
//! | what a field can be | [`#[derive(Databag)]`](derive@Databag) |
//! | what a handler can do | [`Session`], [`SessionRef`], [`LoggedIn`] |
//! | lists, queries, ending other sessions, an operator's tasks | [`Sessions`], [`Find`] |
//! | connections that stay open | [`Sessions::watch`], [`Sessions::touch`] |
//! | cookies, limits, proxies, callbacks | [`Builder`] |
//! | what happens, for counters and logs | [`Event`], [`Builder::on_event`] |
//! | apps and APIs without cookies | [`Transport`] |
//! | keys and their rotation | [`Keyring`] |
//! | forms, against requests that other sites forge | [`Csrf`], [`Session::csrf_token`] |
//! | tests of handlers | [`testing`] |
//! | a test that fails when the layout of stored sessions changes | [`assert_schema!`] |
//! | a store or a codec of your own | [`store`], [`Codec`] |
//!
//! # Features
//!
//! | feature | default | brings |
//! | --- | --- | --- |
//! | `sqlite` | yes | [`SqliteStore`] |
//! | `bincode` | yes | [`Bincode`], the codec of a bag that names none |
//! | `memory` | no | `MemoryStore` |
//! | `cookie` | no | `CookieStore`: the session is in the cookie, and the server keeps nothing |
//! | `postgres` | no | `PostgresStore` |
//! | `mysql` | no | `MysqlStore`, for MySQL and MariaDB |
//! | `redis` | no | `RedisStore`, for Redis and Valkey: one server, sentinels, or a cluster |
//! | `any` | no | all stores; [`AnyStore`] chooses by a URL among those that are built in |
//! | `admin` | no | `admin`: a table of sessions for tools, which do not know the type of the bag |
//! | `testing` | no | `store::suite`, which checks a store of your own |
//! | `actix` | yes | [`SessionMiddleware`] and the extractors |
//! | `console` | no | `Console`: pages for operators, with charts, a search, and forms that end sessions |
//! | `metrics` | no | `Builder::metrics`: counters, durations and sizes, by the facade `metrics` |
//!
//! No feature changes the meaning of another.
//!
//! # The clients of servers
//!
//! PostgreSQL and MySQL are reached through `sqlx`, Redis through
//! `redis`. Both are the most used clients of their kind, have several releases a year, support TLS
//! by rustls, and programs that use these servers usually have their pools and connections already. The alternatives:
//!
//! - `sqlx` serves both SQL servers by one interface, so the two stores differ only in their SQL. Its features `macros`,
//!   `migrate`, `json`, `any` and `sqlite` stay off, because each requires an older `rusqlite` than the newest, which a program that
//!   turns one on gets. `mysql-rsa` stays off too (RUSTSEC-2023-0071). It needs Rust 1.94, more than the rest.
//! - `tokio-postgres` with `deadpool`, and `mysql_async`, are equally good drivers, but need two of everything. They are
//!   faster with a small pool: sqlx checks each returned connection.
//! - `redis` supports clusters, sentinels and connections that reconnect. `fred` has all of this behind one type, and its
//!   last release is older.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The derive names this crate from outside; its own tests use the derive too.
#[cfg(test)]
extern crate self as session_runtime;

#[cfg(feature = "admin")]
pub mod admin;
mod backend;
mod bag;
#[cfg(all(doc, feature = "actix", feature = "bincode", feature = "sqlite"))]
mod chapters;
mod clock;
mod codec;
mod engine;
mod envelope;
mod error;
mod error_chain;
#[cfg(feature = "actix")]
mod http;
mod query;
mod request;
mod sessions;
mod token;
mod value;
#[cfg(feature = "actix")]
mod web;

pub mod builder;
pub mod store;

/// What can be done with [`Sessions`], by what keeps them.
///
/// The second parameter of [`Sessions`] is one of these types. It says what the store can do, not which store it is:
///
/// | type | kept in | by token | by id | lists and queries |
/// | --- | --- | --- | --- | --- |
/// | [`Listed`](access::Listed), the default | every store of this crate but `CookieStore`; every [`Directory`] | yes | yes | yes |
/// | [`ById`](access::ById) | a [`Store`] that cannot list its rows, in [`store::Unlisted`] | yes | yes | no |
/// | [`InCookie`](access::InCookie) | `CookieStore` | yes | no | no |
pub mod access {
    pub use crate::backend::access::{Access, Backing, ById, FindsById, InCookie, Listed, Lists};
}

/// The kinds of columns: the third parameter of a [`Column`].
pub mod column {
    pub use crate::query::{Blind, HasOrder, Ordered};
}

/// What an [`Event`] says.
pub mod event {
    pub use crate::engine::event::{CallOutcome, EndCause, Failure, Stage, StoreOperation};
}

/// What a struct declares, as [`Databag::SCHEMA`] holds it.
pub mod schema {
    pub use crate::bag::schema::{Columns, CookieSchema, Field, Role, Schema};
}

/// Tests of handlers, without a server.
///
/// | to test | write | the session is |
/// | --- | --- | --- |
/// | a function that takes a `Session` | [`Session::for_test(bag)`](Session::for_test) | an argument |
/// | an extractor, or a function that takes an `HttpRequest` | [`TestRequest::session(bag)`](TestRequestExt::session), `to_http_request` | in the request |
/// | an application, with routes and middlewares | [`TestRequest::session(bag)`](TestRequestExt::session), or [`SessionMiddleware::for_test(bag)`](SessionMiddleware::for_test) for all requests | in the store of the middleware |
/// | what uses [`Sessions`]: lists, ends, time | [`Sessions::for_test()`](Sessions::for_test) | made by [`create`](Sessions::create) |
///
/// In all of them a session is stored and sealed as in production, so `save`, `update`, `log_in`, `rotate_and_end_others` and
/// the others work. Only a session whose bag is [`T::defaults()`](Databag::defaults) is that of a new visitor, and not stored.
/// `..Shop::defaults()` fills the fields that a test does not care for, with the defaults of the bag (also those of
/// `#[databag(default = ..)]`).
///
/// # A handler
///
/// ```
/// use session_runtime::{Csrf, Databag, Error, LoggedIn, Session};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(merge = "sum")]
///     visits: u32,
/// }
///
/// async fn visit(_: Csrf<Shop>, mut session: LoggedIn<Shop>) -> Result<String, Error> {
///     let visits = session.update(|shop| {
///         shop.visits += 1;
///         shop.visits
///     }).await?;
///     Ok(format!("visit {visits} of user {}", session.user()))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let session = Session::for_test(Shop { user_id: Some(7), ..Shop::defaults() });
/// let session = LoggedIn::new(session).expect("it has a user");
/// assert_eq!(visit(Csrf::for_test(), session).await?, "visit 1 of user 7");
/// # Ok(())
/// # }
/// ```
///
/// # An application
///
/// ```
/// use actix_web::test::{TestRequest, call_service, init_service};
/// use actix_web::{App, HttpResponse, web};
/// use session_runtime::{Csrf, Databag, LoggedIn, SessionMiddleware, Sessions, TestRequestExt as _};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(merge = "sum")]
///     visits: u32,
/// }
///
/// async fn visit(_: Csrf<Shop>, mut session: LoggedIn<Shop>) -> HttpResponse {
///     session.visits += 1;
///     HttpResponse::Ok().finish()
/// }
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), session_runtime::Error> {
/// let sessions = Sessions::<Shop>::for_test();
/// let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::post().to(visit));
/// let app = init_service(app).await;
///
/// let anonymous = TestRequest::post().session_with_csrf(Shop::defaults()).to_request();
/// assert_eq!(call_service(&app, anonymous).await.status(), 401);
/// let user = |id| Shop { user_id: Some(id), ..Shop::defaults() };
/// assert_eq!(call_service(&app, TestRequest::post().session(user(6)).to_request()).await.status(), 403);
/// assert_eq!(call_service(&app, TestRequest::post().session_with_csrf(user(7)).to_request()).await.status(), 200);
/// assert_eq!(sessions.of_user(7).await?[0].visits, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Time
///
/// ```
/// use std::time::Duration;
///
/// use actix_web::test::{TestRequest, call_service, init_service};
/// use actix_web::{App, HttpResponse, web};
/// use session_runtime::testing::ManualClock;
/// use session_runtime::{Databag, Fresh, SessionMiddleware, Sessions};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
/// }
///
/// async fn delete_account(_: Fresh<Shop, 300>) -> HttpResponse {
///     HttpResponse::Ok().finish()
/// }
///
/// # #[actix_web::main]
/// # async fn main() -> Result<(), session_runtime::Error> {
/// let clock = ManualClock::default();
/// let sessions = Sessions::<Shop>::for_test_at(clock.clone());
/// let app = App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::post().to(delete_account));
/// let app = init_service(app).await;
///
/// let (token, _) = sessions.create(Shop { user_id: Some(7) }).await?;
/// let delete = || TestRequest::post().cookie(sessions.cookie(&token)).to_request();
/// assert_eq!(call_service(&app, delete()).await.status(), 200);
/// clock.advance(Duration::from_mins(6));
/// assert_eq!(call_service(&app, delete()).await.status(), 403, "the log-in is not fresh");
/// clock.advance(Duration::from_mins(30));
/// assert_eq!(call_service(&app, delete()).await.status(), 401, "the session has expired");
/// # Ok(())
/// # }
/// ```
pub mod testing {
    pub use crate::clock::ManualClock;
}

#[doc(hidden)]
pub mod __private;

pub use backend::any::AnyStore;
#[cfg(feature = "cookie")]
pub use backend::cookie::CookieStore;
pub use bag::flows::{Flows, Ticket};
pub use bag::schema::{Bind, Persistence, SameSite};
pub use bag::{Databag, HasIp, HasUser};
pub use builder::Builder;
pub use clock::{Clock, Timestamp};
#[cfg(feature = "bincode")]
pub use codec::bincode::Bincode;
pub use codec::{Codec, CodecError, Framing, Json, MAX_DEPTH};
pub use engine::config::Cleanup;
pub use engine::event::Event;
pub use engine::watched::{SessionEnd, SessionWatch};
pub use envelope::{KeyError, Keyring};
pub use error::{CsrfError, Error, Rejection};
#[cfg(feature = "actix")]
pub use http::client_ip::ProxyHeader;
#[cfg(feature = "actix")]
pub use http::cookie::FormerCookie;
#[cfg(feature = "actix")]
pub use http::return_path::ReturnPath;
#[cfg(feature = "actix")]
pub use http::transport::Transport;
pub use query::{Column, Condition};
pub use request::{Fresh, LoggedIn, Session, SessionRef};
pub use sessions::{CheckReport, Find, LIST_LIMIT, Sessions, Snapshot};
#[cfg(feature = "memory")]
pub use store::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use store::redis::RedisStore;
#[cfg(feature = "mysql")]
pub use store::servers::mysql::MysqlStore;
#[cfg(feature = "postgres")]
pub use store::servers::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
pub use store::sqlite::{Durability, SqliteStore};
pub use store::{Directory, Store, StoreError};
pub use token::{ParseSessionIdError, SessionId, Token, TokenSource};
pub use value::{ColumnType, ColumnValue, Value};
#[cfg(feature = "console")]
pub use web::{Console, History};
#[cfg(feature = "actix")]
pub use web::{
    Csrf, LoginPages, NotAllowed, NotFresh, NotLoggedIn, Require, SessionMiddleware, TestRequestExt, health,
    require,
};

#[cfg(all(doc, feature = "actix", feature = "bincode", feature = "sqlite"))]
pub use chapters::guide;

/// The client of SQLite, in the version that [`SqliteStore`] uses.
#[cfg(feature = "sqlite")]
pub use rusqlite;
pub use session_derive::{ColumnValue, Databag};

/// The programs of the README compile.
#[cfg(all(doctest, feature = "sqlite", feature = "actix"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// And those of the page on observability.
#[cfg(all(doctest, feature = "sqlite", feature = "actix"))]
#[doc = include_str!("../../docs/observability.md")]
struct Observability;
