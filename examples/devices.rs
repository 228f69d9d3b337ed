//! A page of all devices that are signed in, which can end one of them or all others.
//! `cargo run -p examples --example devices`, and open <http://localhost:8080> in two browsers.
//!
//! A user has at most five: the sixth log-in ends the oldest.

use std::error::Error;
use std::fmt::Write as _;

use actix_web::{App, HttpServer, Responder, web};
use serde::Deserialize;
use session_runtime::{
    Csrf, Databag, Keyring, LoggedIn, Session, SessionId, SessionMiddleware, Sessions, SqliteStore,
};

#[derive(Databag)]
#[databag(max_per_user = 5)]
struct Account {
    #[databag(user_id)]
    user: Option<String>,
    /// Set on every request. Anyone can write anything there.
    #[databag(user_agent)]
    browser: Option<String>,
}

async fn home(
    session: Session<Account>,
    sessions: Sessions<Account>,
) -> Result<web::Html, session_runtime::Error> {
    let csrf = format!(r#"<input type="hidden" name="csrf_token" value="{}">"#, session.csrf_token());
    let Some(user) = session.user() else {
        let form = r#"<input name="name" placeholder="kim or eve"><button>Sign in</button>"#;
        return Ok(web::Html::new(format!(r#"<form method="post" action="/log-in">{csrf}{form}</form>"#)));
    };
    let mut devices = String::new();
    // The newest first.
    for device in sessions.of_user(user).await? {
        let browser = escaped(device.browser().unwrap_or("unknown"));
        let here = if device.id() == session.id() { ", this one" } else { "" };
        // A use is stored at most once a minute.
        let minutes = device.last_used().elapsed().unwrap_or_default().as_secs() / 60;
        let button = format!(r#"<button name="device" value="{}">End</button>"#, device.id());
        let _ = write!(devices, "<li>{browser}{here}, used {minutes} minutes ago {button}</li>");
    }
    Ok(web::Html::new(format!(
        r#"<p>Devices of {user}:</p><form method="post" action="/end">{csrf}<ul>{devices}</ul></form>
        <form method="post" action="/end-others">{csrf}<button>End all others</button></form>"#
    )))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[derive(Deserialize)]
struct Device {
    device: SessionId,
}

/// An id is no secret, and a form can have that of another user: it is left alone, and the answer is the same.
async fn end(
    session: LoggedIn<Account>,
    sessions: Sessions<Account>,
    form: web::Form<Device>,
) -> Result<impl Responder, session_runtime::Error> {
    if form.device == session.id() {
        session.log_out();
    } else if let Some(device) = sessions.get(form.device).await?
        && device.user() == Some(session.user())
    {
        sessions.delete(device.id()).await?;
    }
    Ok(web::Redirect::to("/").see_other())
}

async fn end_others(
    session: LoggedIn<Account>,
    sessions: Sessions<Account>,
) -> Result<impl Responder, session_runtime::Error> {
    sessions.revoke_user_except(session.user(), session.id()).await?;
    Ok(web::Redirect::to("/").see_other())
}

#[derive(Deserialize)]
struct LogIn {
    name: String,
}

/// After the password, which `accounts.rs` checks.
async fn log_in(mut session: Session<Account>, form: web::Form<LogIn>) -> actix_web::Result<impl Responder> {
    if !["kim", "eve"].contains(&form.name.as_str()) {
        return Err(actix_web::error::ErrorUnauthorized("no user has this name"));
    }
    session.log_in(&*form.name);
    Ok(web::Redirect::to("/").see_other())
}

fn configure(app: &mut web::ServiceConfig, sessions: &Sessions<Account>) {
    app.service(
        web::scope("")
            .wrap(Csrf::<Account>::guard())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(home))
            .route("/log-in", web::post().to(log_in))
            .route("/end", web::post().to(end))
            .route("/end-others", web::post().to(end_others)),
    );
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = Sessions::<Account>::builder(SqliteStore::in_memory()?)
        .keyring(Keyring::generate())
        .development()
        .build()
        .await?;
    println!("devices: open http://localhost:8080");
    HttpServer::new(move || App::new().configure(|app| configure(app, &sessions)))
        .bind("127.0.0.1:8080")?
        .run()
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::test::init_service;
    use databag_tests::{Browser, ManualClock, Site};

    use super::*;

    struct World {
        clock: ManualClock,
        sessions: Sessions<Account>,
        site: Site,
    }

    impl World {
        async fn open() -> Self {
            let clock = ManualClock::default();
            let sessions = Sessions::for_test_at(clock.clone());
            let app = init_service(App::new().configure(|app| configure(app, &sessions))).await;
            Self { clock, sessions, site: Site::new(app) }
        }

        async fn log_in(&self, name: &str, user_agent: &str) -> Browser {
            self.clock.advance(Duration::from_secs(1));
            let browser = self.site.browser().with("user-agent", user_agent);
            assert_eq!(browser.submit("/", "/log-in", &[("name", name)]).await.status, 303);
            browser
        }

        /// Returns the ids of a user's devices, the newest first.
        async fn devices(&self, user: &str) -> Vec<String> {
            let devices = self.sessions.of_user(user).await.expect("the store answers");
            devices.iter().map(|device| device.id().to_string()).collect()
        }
    }

    async fn is_signed_in(browser: &Browser) -> bool {
        browser.get("/").await.body.contains("Devices of")
    }

    #[actix_web::test]
    async fn a_user_sees_their_devices_and_ends_one_of_them() {
        let world = World::open().await;
        let phone = world.log_in("kim", "Phone/1 <b>").await;
        let [lost] = world.devices("kim").await.try_into().expect("one device");
        let laptop = world.log_in("kim", "Laptop/2").await;
        let eve = world.log_in("eve", "Other/3").await;
        let page = laptop.get("/").await.body;
        assert!(page.contains("Phone/1 &lt;b>, used") && page.contains("Laptop/2, this one"), "{page}");
        assert!(!page.contains("Other/3"), "{page}");
        // Of another user the same form ends nothing.
        assert_eq!(eve.submit("/", "/end", &[("device", &lost)]).await.status, 303);
        assert!(is_signed_in(&phone).await);
        assert_eq!(laptop.submit("/", "/end", &[("device", &lost)]).await.status, 303);
        assert!(!is_signed_in(&phone).await && is_signed_in(&laptop).await && is_signed_in(&eve).await);
        // To end this one is to sign out.
        let [this] = world.devices("kim").await.try_into().expect("one device");
        assert_eq!(laptop.submit("/", "/end", &[("device", &this)]).await.status, 303);
        assert!(!is_signed_in(&laptop).await);
    }

    #[actix_web::test]
    async fn a_user_ends_all_other_devices() {
        let world = World::open().await;
        let eve = world.log_in("eve", "Other/3").await;
        let (phone, laptop) = (world.log_in("kim", "Phone/1").await, world.log_in("kim", "Laptop/2").await);
        assert_eq!(laptop.submit("/", "/end-others", &[]).await.status, 303);
        assert!(!is_signed_in(&phone).await && is_signed_in(&laptop).await && is_signed_in(&eve).await);
    }

    #[actix_web::test]
    async fn the_sixth_log_in_ends_the_oldest_device() {
        let world = World::open().await;
        let first = world.log_in("kim", "Phone/1").await;
        let oldest = world.devices("kim").await;
        for number in 2..=6 {
            assert!(is_signed_in(&first).await);
            world.log_in("kim", &format!("Device/{number}")).await;
        }
        let devices = world.devices("kim").await;
        assert!(devices.len() == 5 && !devices.contains(&oldest[0]) && !is_signed_in(&first).await);
    }
}
