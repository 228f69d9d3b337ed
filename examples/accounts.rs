//! Users and their sessions in one SQLite file:
//! `SESSION_KEY=$(openssl rand -hex 32) cargo run -p examples --example accounts`.
//!
//! Passwords are hashed with Argon2id. `cargo test -p examples --example accounts` signs a user up, in and out.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::error::{ErrorBadRequest, ErrorConflict, ErrorInternalServerError, ErrorUnauthorized};
use actix_web::{App, HttpServer, Responder, web};
use argon2::Argon2;
use argon2::password_hash::{self, PasswordHasher as _, PasswordVerifier as _};
use serde::Deserialize;
use session_runtime::rusqlite::{self, Connection, OptionalExtension as _};
use session_runtime::{Csrf, Databag, Keyring, LoggedIn, Session, SessionMiddleware, Sessions, SqliteStore};

#[derive(Databag)]
#[databag(cookie = "__Host-account")]
struct Account {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(flash)]
    notice: Option<String>,
}

/// The users, in the file of the sessions. Calls block: SQLite does, and to hash a password takes long on purpose.
struct Users {
    /// Of its own: the store writes over another one, and each waits for the other.
    connection: Mutex<Connection>,
    /// The hash of no password.
    nobody: String,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Users {
    /// Opens the file that the store has created, so that only its owner can read it.
    fn open(path: &Path) -> Result<Self, BoxError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS users (
                 id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL
             ) STRICT",
        )?;
        Ok(Self { connection: Mutex::new(connection), nobody: hash("")? })
    }

    /// Adds a user and returns its id, unless the name is taken.
    fn add(&self, name: &str, password: &str) -> Result<Option<i64>, BoxError> {
        let password = hash(password)?;
        let insert =
            "INSERT INTO users (name, password) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING RETURNING id";
        Ok(self.row(insert, [name, &password], |row| row.get(0))?)
    }

    /// Returns the user of this name and password.
    fn find(&self, name: &str, password: &str) -> Result<Option<i64>, BoxError> {
        let select = "SELECT id, password FROM users WHERE name = ?1";
        let found = self.row(select, [name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (id, expected): (_, Option<String>) = found.unzip();
        // Without such a user too: the time of an answer must not tell which names there are.
        let expected = expected.as_ref().unwrap_or(&self.nobody);
        match Argon2::default().verify_password(password.as_bytes(), expected.as_str()) {
            Ok(()) => Ok(id),
            Err(password_hash::Error::PasswordInvalid) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn row<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(sql)?.query_row(values, read).optional()
    }
}

fn hash(password: &str) -> password_hash::Result<String> {
    Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

async fn home(session: Session<Account>) -> impl Responder {
    let fields = format!(r#"<input type="hidden" name="csrf_token" value="{}">"#, session.csrf_token());
    let form = |action: &str, inputs: &str| {
        format!(r#"<form method="post" action="/{action}">{fields}{inputs}<button>{action}</button></form>"#)
    };
    let credentials = r#"<input name="name"><input name="password" type="password">"#;
    let forms = match session.user_id() {
        Some(user) => format!("<p>You are user {user}.</p>{}", form("log-out", "")),
        None => form("sign-up", credentials) + &form("log-in", credentials),
    };
    web::Html::new(format!("<!doctype html><p>{}</p>{forms}", session.notice().unwrap_or_default()))
}

async fn sign_up(
    mut session: Session<Account>,
    users: web::Data<Users>,
    form: web::Form<Credentials>,
) -> actix_web::Result<impl Responder> {
    let Credentials { name, password } = form.into_inner();
    if !(1..=64).contains(&name.chars().count()) || !(12..=1024).contains(&password.len()) {
        return Err(ErrorBadRequest("a name has 1 to 64 characters, a password 12 to 1024 bytes"));
    }
    let added = web::block(move || users.add(&name, &password)).await?.map_err(opaque)?;
    session.log_in(added.ok_or_else(|| ErrorConflict("the name is taken"))?);
    session.set_notice("Welcome!");
    Ok(web::Redirect::to("/").see_other())
}

/// A public site also limits how often a client can try.
async fn log_in(
    mut session: Session<Account>,
    users: web::Data<Users>,
    form: web::Form<Credentials>,
) -> actix_web::Result<impl Responder> {
    let Credentials { name, password } = form.into_inner();
    let found = web::block(move || users.find(&name, &password)).await?.map_err(opaque)?;
    session.log_in(found.ok_or_else(|| ErrorUnauthorized("no user has this name and password"))?);
    Ok(web::Redirect::to("/").see_other())
}

async fn log_out(session: LoggedIn<Account>) -> impl Responder {
    session.log_out();
    web::Redirect::to("/").see_other()
}

/// Logs what visitors must not read.
fn opaque(error: impl Display) -> actix_web::Error {
    eprintln!("accounts: {error}");
    ErrorInternalServerError("the users cannot be read")
}

/// Opens the file for both.
async fn open(path: &Path, keyring: Keyring) -> Result<(Sessions<Account>, Arc<Users>), BoxError> {
    let sessions = Sessions::builder(SqliteStore::open(path)?).keyring(keyring).development().build().await?;
    Ok((sessions, Arc::new(Users::open(path)?)))
}

fn configure(app: &mut web::ServiceConfig, sessions: &Sessions<Account>, users: &Arc<Users>) {
    app.app_data(web::Data::from(users.clone())).service(
        web::scope("")
            .wrap(Csrf::<Account>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(home))
            .route("/sign-up", web::post().to(sign_up))
            .route("/log-in", web::post().to(log_in))
            .route("/log-out", web::post().to(log_out)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), BoxError> {
    let (sessions, users) = open(Path::new("accounts.db"), Keyring::from_env("SESSION_KEY")?).await?;
    println!("accounts: open http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &sessions, &users)))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test::init_service;
    use databag_tests::{Answer, Browser, Site};

    use super::*;

    const PASSWORD: &str = "correct horse battery";

    async fn send(browser: &Browser, path: &str, name: &str, password: &str) -> Answer {
        browser.submit("/", path, &[("name", name), ("password", password)]).await
    }

    async fn is_signed_in(browser: &Browser) -> bool {
        browser.get("/").await.body.contains("You are user 1.")
    }

    #[actix_web::test]
    async fn a_user_signs_up_logs_in_and_logs_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("accounts.db");
        let key = Keyring::generate();
        let site = async || {
            let (sessions, users) = open(&path, key.clone()).await.expect("opens");
            let app = App::new().configure(|app| configure(app, &sessions, &users));
            (sessions, Site::new(init_service(app).await))
        };
        let (sessions, before) = site().await;
        let first = before.browser().local();
        assert_eq!(send(&first, "/sign-up", "ada", "short").await.status, StatusCode::BAD_REQUEST);
        assert!(!is_signed_in(&first).await);
        assert_eq!(send(&first, "/sign-up", "ada", PASSWORD).await.status, StatusCode::SEE_OTHER);
        assert!(first.get("/").await.body.contains("Welcome!") && is_signed_in(&first).await);

        let second = before.browser().local();
        assert_eq!(send(&second, "/sign-up", "ada", PASSWORD).await.status, StatusCode::CONFLICT);
        for (name, password) in [("ada", "another password"), ("eve", PASSWORD), ("eve", ""), ("", "")] {
            let answer = send(&second, "/log-in", name, password).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name:?}");
        }
        assert!(!is_signed_in(&second).await);
        assert_eq!(send(&second, "/log-in", "ada", PASSWORD).await.status, StatusCode::SEE_OTHER);
        assert_eq!(sessions.of_user(1).await.expect("listed").len(), 2);
        assert_eq!(send(&first, "/log-out", "", "").await.status, StatusCode::SEE_OTHER);
        assert!(!is_signed_in(&first).await && is_signed_in(&second).await);

        // Both are in the one file.
        drop((sessions, before));
        let raw = Connection::open(&path).expect("opens");
        let join =
            "SELECT users.name, users.password FROM users JOIN sessions ON sessions.user_id = users.id";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (name, hash): (String, String) = raw.query_row(join, [], read).expect("one session");
        assert!(name == "ada" && hash.starts_with("$argon2id$") && !hash.contains(PASSWORD), "{hash}");
        let (_, after) = site().await;
        assert!(is_signed_in(&second.on(&after)).await);
    }
}
