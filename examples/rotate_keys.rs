//! A new key for the sessions of a running site, which loses none of them. Each step is done in every process before the next
//! one begins; `rotate_keys` is `cargo run -p examples --example rotate_keys --`:
//!
//! ```sh
//! A=$(openssl rand -hex 32) B=$(openssl rand -hex 32)
//! SESSION_KEY=$A rotate_keys              # before: curl -c jar -b jar http://localhost:8080
//! SESSION_KEY=$A,$B rotate_keys           # B opens, so that no process meets a session that it cannot read
//! SESSION_KEY=$B,$A rotate_keys           # B seals, A opens
//! SESSION_KEY=$B,$A rotate_keys reseal    # beside the site: seals under B what nobody uses at the moment
//! SESSION_KEY=$B rotate_keys check        # beside the site: would a session be lost without A?
//! SESSION_KEY=$B rotate_keys              # A is gone
//! ```

use std::env;
use std::error::Error;
use std::path::Path;

use actix_web::{App, HttpServer, web};
use session_runtime::{Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore};

#[derive(Databag)]
struct Visitor {
    #[databag(merge = "sum")]
    visits: u64,
}

async fn visit(mut session: Session<Visitor>) -> String {
    session.visits += 1;
    format!("visit {}\n", session.visits)
}

async fn open(path: &Path, keyring: Keyring) -> Result<Sessions<Visitor>, Box<dyn Error>> {
    Ok(Sessions::builder(SqliteStore::open(path)?).keyring(keyring).development().build().await?)
}

/// Seals every session under the first key of the keyring. A session that is written meanwhile loses nothing.
async fn reseal(sessions: &Sessions<Visitor>) -> Result<u64, session_runtime::Error> {
    sessions.reseal_all(|done, all| println!("{done} of {all} sessions")).await
}

/// Reads every session, and fails if there is one that the keyring does not open.
async fn check(sessions: &Sessions<Visitor>) -> Result<(), Box<dyn Error>> {
    match sessions.check().await?.skipped {
        0 => Ok(()),
        lost => Err(format!("{lost} sessions cannot be opened: keep the older key, and reseal").into()),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = open(Path::new("rotate_keys.db"), Keyring::from_env("SESSION_KEY")?).await?;
    match env::args().nth(1).as_deref() {
        Some("reseal") => println!("{} sessions are sealed under the new key", reseal(&sessions).await?),
        Some("check") => check(&sessions).await?,
        Some(other) => return Err(format!("there is no {other}: reseal, check, or nothing").into()),
        None => {
            println!("rotate_keys: open http://localhost:8080");
            let app = move || {
                App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(visit))
            };
            HttpServer::new(app).bind("127.0.0.1:8080")?.run().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::test::init_service;
    use databag_tests::{Browser, Site};

    use super::*;

    /// A file, which processes with keyrings of their own open.
    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        async fn process(&self, keys: &str) -> (Sessions<Visitor>, Site) {
            let keyring = Keyring::parse(keys).expect("good keys");
            let sessions = open(&self.folder.path().join("visits.db"), keyring).await.expect("it opens");
            let app =
                App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", web::get().to(visit));
            (sessions, Site::new(init_service(app).await))
        }
    }

    async fn visits(browser: &Browser, site: &Site) -> String {
        browser.clone().on(site).get("/").await.body
    }

    #[actix_web::test]
    async fn a_key_is_replaced_and_no_session_is_lost() {
        let world = World { folder: tempfile::tempdir().expect("a folder") };
        let (a, b) = (Keyring::generate_text(), Keyring::generate_text());
        let (only_a, a_then_b) = (a.to_string(), format!("{},{}", *a, *b));
        let (b_then_a, only_b) = (format!("{},{}", *b, *a), b.to_string());
        let (_, first) = world.process(&only_a).await;
        let [regular, absent] = [(); 2].map(|()| first.browser().local());
        assert_eq!(visits(&regular, &first).await, "visit 1\n");
        assert_eq!(visits(&absent, &first).await, "visit 1\n");

        // During each step processes of this one and of the one before it serve the same visitor.
        let (_, second) = world.process(&a_then_b).await;
        assert_eq!(visits(&regular, &second).await, "visit 2\n");
        assert_eq!(visits(&regular, &first).await, "visit 3\n");
        drop(first);
        let (resealing, third) = world.process(&b_then_a).await;
        assert_eq!(visits(&regular, &third).await, "visit 4\n");
        assert_eq!(visits(&regular, &second).await, "visit 5\n");
        assert_eq!(visits(&regular, &third).await, "visit 6\n");
        drop(second);

        // Too early: the one who has not come meanwhile would be lost. As it is, they are served when A is back.
        let (sessions, too_early) = world.process(&only_b).await;
        let refused = check(&sessions).await.expect_err("one session is under A");
        assert!(refused.to_string().starts_with("1 sessions cannot be opened"), "{refused}");
        assert_eq!(absent.clone().on(&too_early).get("/").await.status, 503);
        drop((sessions, too_early));

        assert_eq!(reseal(&resealing).await.expect("the store answers"), 1);
        let (sessions, last) = world.process(&only_b).await;
        check(&sessions).await.expect("nothing is lost");
        assert_eq!(visits(&regular, &third).await, "visit 7\n");
        assert_eq!(visits(&regular, &last).await, "visit 8\n");
        assert_eq!(visits(&absent, &last).await, "visit 2\n");
    }
}
