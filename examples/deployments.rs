//! A struct that changes between two deployments, while processes of both serve the same visitors from one database: a field is
//! renamed, one is removed, one is new, and one has another type. Start both, and visit them in turn:
//!
//! ```sh
//! export SESSION_KEY=$(openssl rand -hex 32)
//! VERSION=v1 ADDRESS=127.0.0.1:8081 cargo run -p examples --example deployments &
//! VERSION=v2 ADDRESS=127.0.0.1:8082 cargo run -p examples --example deployments &
//! curl -c jar -b jar -X POST http://127.0.0.1:8081/begin
//! curl -c jar -b jar http://127.0.0.1:8082/          # what v2 makes of it
//! curl -c jar -b jar -X POST http://127.0.0.1:8082/change
//! curl -c jar -b jar http://127.0.0.1:8081/          # what v1 makes of that
//! ```
//!
//! `assert_schema!` makes a test that fails if the struct has changed, and says which of the attributes in `v2` to write.
//! A site for browsers also needs the guard `Csrf`, which `forms.rs` shows.

use std::env;
use std::error::Error;

use actix_web::{App, HttpServer, web};
use session_runtime::{Databag, Keyring, SessionMiddleware, Sessions, SqliteStore};

/// What is deployed.
mod v1 {
    use actix_web::web;
    use session_runtime::{Databag, Session};

    #[derive(Databag)]
    pub(super) struct Shop {
        visits: u32,
        nickname: String,
        theme: String,
        coupon: Option<String>,
    }

    async fn show(mut session: Session<Shop>) -> String {
        session.visits += 1;
        let Shop { visits, nickname, theme, coupon } = &*session;
        format!("v1: visit {visits}, nickname {nickname:?}, theme {theme:?}, coupon {coupon:?}\n")
    }

    async fn begin(mut session: Session<Shop>) -> &'static str {
        session.set_nickname("kim");
        session.set_theme("dark");
        session.set_coupon("SPRING");
        "v1: begun\n"
    }

    pub(super) fn routes(app: &mut web::ServiceConfig) {
        app.route("/", web::get().to(show)).route("/begin", web::post().to(begin));
    }
}

/// What is deployed next. `coupon` is gone from the source; what v1 has stored of it stays.
mod v2 {
    use actix_web::web;
    use serde::{Deserialize, Serialize};
    use session_runtime::{Databag, Session};

    #[derive(Databag)]
    pub(super) struct Shop {
        visits: u32,
        /// Under the stored name v1 finds it too. When v1 is gone, `alias = "nickname"` in its place moves it to the new name.
        #[databag(rename = "nickname")]
        name: String,
        /// Converted when it is read. v1 reads what it has stored itself; after a change here it has its default.
        #[databag(from = String)]
        theme: Theme,
        #[databag(default = "EUR".to_owned())]
        currency: String,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    pub(super) enum Theme {
        #[default]
        Light,
        Dark,
        Auto,
    }

    impl From<String> for Theme {
        fn from(old: String) -> Self {
            if old == "dark" { Self::Dark } else { Self::Light }
        }
    }

    async fn show(mut session: Session<Shop>) -> String {
        session.visits += 1;
        let Shop { visits, name, theme, currency } = &*session;
        format!("v2: visit {visits}, name {name:?}, theme {theme:?}, currency {currency:?}\n")
    }

    async fn change(mut session: Session<Shop>) -> &'static str {
        session.set_name("Kim");
        session.set_theme(Theme::Auto);
        session.set_currency("USD");
        "v2: changed\n"
    }

    pub(super) fn routes(app: &mut web::ServiceConfig) {
        app.route("/", web::get().to(show)).route("/change", web::post().to(change));
    }
}

/// The program, in either version: both structs are `examples/Shop` in the table `sessions`.
async fn serve<T: Databag>(routes: fn(&mut web::ServiceConfig)) -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<T>::builder(SqliteStore::open("deployments.db")?)
        .keyring(Keyring::from_env("SESSION_KEY")?)
        .development()
        .build()
        .await?;
    let server =
        HttpServer::new(move || App::new().wrap(SessionMiddleware::new(sessions.clone())).configure(routes));
    let server = server.workers(2).bind(env::var("ADDRESS").as_deref().unwrap_or("127.0.0.1:8080"))?;
    println!("deployments: open http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::var("VERSION").as_deref() {
        Ok("v1") => serve::<v1::Shop>(v1::routes).await,
        Ok("v2") => serve::<v2::Shop>(v2::routes).await,
        _ => Err("set VERSION to v1 or v2".into()),
    }
}

#[cfg(test)]
mod tests {
    use databag_tests::{Client, Jar, Program};

    use super::*;

    #[test]
    #[ignore = "it is the program, which the other test starts"]
    fn the_program() {
        main().expect("it serves");
    }

    async fn body(tab: &mut Client, path: &str) -> String {
        let reply = tab.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// Two processes: in one of them the two structs would be refused, because they have one name.
    #[actix_web::test]
    async fn two_deployments_serve_the_same_visitors_and_lose_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = Keyring::generate_text();
        let [old, new] = ["v1", "v2"].map(|version| {
            Program::start(
                "tests::the_program",
                &folder,
                &[("SESSION_KEY", key.as_str()), ("VERSION", version)],
            )
        });
        let jar = Jar::default();
        let (mut old, mut new) = (old.tab(&jar), new.tab(&jar));
        assert_eq!(old.post("/begin").await.status, 200);
        let v1 = |visit, rest| format!("v1: visit {visit}, {rest}\n");
        let v2 = |visit, rest| format!("v2: visit {visit}, {rest}\n");
        let begun = r#"nickname "kim", theme "dark", coupon Some("SPRING")"#;
        assert_eq!(body(&mut old, "/").await, v1(1, begun));
        // v2 finds what is renamed, converts what has another type, and takes the default of what is new. It writes the
        // session, and v1 finds all that v2 has not changed, also what v2 does not know.
        let converted = r#"name "kim", theme Dark, currency "EUR""#;
        assert_eq!(body(&mut new, "/").await, v2(2, converted));
        assert_eq!(body(&mut old, "/").await, v1(3, begun));
        assert_eq!(body(&mut new, "/").await, v2(4, converted));
        // v1 takes no value for one of another type, and erases none.
        assert_eq!(new.post("/change").await.status, 200);
        let unknown = r#"nickname "Kim", theme "", coupon Some("SPRING")"#;
        assert_eq!(body(&mut old, "/").await, v1(5, unknown));
        let changed = r#"name "Kim", theme Auto, currency "USD""#;
        assert_eq!(body(&mut new, "/").await, v2(6, changed));
    }
}
