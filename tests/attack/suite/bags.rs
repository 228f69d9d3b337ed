//! The bags under attack, and the application that serves them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use actix_web::http::header::{HeaderName, HeaderValue, SET_COOKIE};
use actix_web::{HttpResponse, Responder, web};
use databag_tests::Gate;
use serde::{Deserialize, Serialize};
use session_runtime::store::{Table, TableColumn};
use session_runtime::{ColumnType, Databag, Error, HasUser, LoggedIn, Session, SessionRef, Sessions};

/// A chain: the type is as deep as its value says.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) next: Option<Box<Link>>,
}

/// What the application needs of its bags.
pub(crate) trait Bag: HasUser<User = String> {
    const COOKIE: &'static str;
    /// Where the routes of the bag are.
    const SCOPE: &'static str;

    fn parts(&mut self) -> Parts<'_>;
    fn show(&self) -> serde_json::Value;
}

pub(crate) struct Parts<'a> {
    pub(crate) user: &'a mut Option<String>,
    pub(crate) tenant: &'a mut Option<String>,
    pub(crate) notice: &'a mut Option<String>,
    pub(crate) pin: &'a mut Option<String>,
    pub(crate) count: &'a mut u64,
    pub(crate) cart: &'a mut BTreeMap<String, u32>,
}

macro_rules! bag {
    ($bag:ident $cookie:literal $scope:literal $($attribute:tt)*) => {
        #[derive(Databag)]
        #[databag(cookie = $cookie, idle = "30m", absolute = "2h", $($attribute)*)]
        pub(crate) struct $bag {
            #[databag(user_id)]
            pub(crate) user_id: Option<String>,
            #[databag(ip_addr)]
            pub(crate) ip_addr: Option<IpAddr>,
            #[databag(column, index)]
            pub(crate) tenant: Option<String>,
            #[databag(flash)]
            pub(crate) notice: Option<String>,
            pub(crate) cart: BTreeMap<String, u32>,
            pub(crate) count: u64,
            #[databag(secret)]
            pub(crate) pin: Option<String>,
            pub(crate) units: Vec<()>,
            pub(crate) names: HashSet<String>,
            pub(crate) chain: Link,
        }

        impl Bag for $bag {
            const COOKIE: &'static str = $cookie;
            const SCOPE: &'static str = $scope;

            fn parts(&mut self) -> Parts<'_> {
                let Self { user_id: user, tenant, notice, pin, count, cart, .. } = self;
                Parts { user, tenant, notice, pin, count, cart }
            }

            fn show(&self) -> serde_json::Value {
                serde_json::json!({
                    "user": self.user_id, "ip": self.ip_addr, "tenant": self.tenant, "notice": self.notice,
                    "cart": self.cart, "count": self.count, "pin": self.pin, "names": self.names,
                    "units": self.units.len(), "linked": self.chain.next.is_some(),
                })
            }
        }
    };
}

bag! { Shop "__Host-shop" "" table = "attack_shop" }
bag! { Admin "__Host-admin" "/admin" table = "attack_admin" }
bag! { Text "__Host-text" "/text" table = "attack_text", codec = "json" }

/// Each user has three sessions at most.
#[derive(Databag)]
#[databag(table = "attack_few", cookie = "__Host-few", max_per_user = 3)]
pub(crate) struct Few {
    #[databag(user_id)]
    pub(crate) user_id: Option<String>,
}

/// A bag of another program, which names the shop's table.
#[derive(Databag)]
#[databag(name = "another/Shop", table = "attack_shop", cookie = "__Host-twin")]
pub(crate) struct Twin {
    #[databag(user_id)]
    pub(crate) user_id: Option<String>,
}

/// Describes the table of a bag to a program that writes it without the library.
pub(crate) fn table<T: Bag>() -> Table {
    let schema = T::SCHEMA;
    let mut table = Table::new(schema.table);
    table.state_is_text = schema.table == Text::SCHEMA.table;
    table.user = Some(TableColumn::new("user_id", ColumnType::Text).indexed());
    table.ip = Some("ip_addr".to_owned());
    table.projected = vec![TableColumn::new("tenant", ColumnType::Text).indexed()];
    table
}

/// Mounts the routes of a bag.
pub(crate) fn routes<T: Bag>(app: &mut web::ServiceConfig) {
    let (get, post) = (web::get, web::post);
    app.service(
        web::scope(T::SCOPE)
            .route("/read", get().to(read::<T>))
            .route("/look", get().to(look::<T>))
            .route("/plain", get().to(async || "plain"))
            .route("/account", get().to(account::<T>))
            .route("/add/{item}", post().to(add::<T>))
            .route("/login", post().to(log_in::<T>))
            .route("/become", post().to(become_user::<T>))
            .route("/logout", post().to(log_out::<T>))
            .route("/destroy", post().to(destroy::<T>))
            .route("/rotate", post().to(rotate::<T>))
            .route("/remember", post().to(remember::<T>))
            .route("/tenant", post().to(tenant::<T>))
            .route("/notice", post().to(notice::<T>))
            .route("/pin", post().to(pin::<T>))
            .route("/count", post().to(count::<T>))
            .route("/slow", post().to(slow::<T>))
            .route("/slow-logout", post().to(slow_log_out::<T>))
            .route("/slow-update", post().to(slow_update::<T>))
            .route("/csrf", get().to(csrf::<T>))
            .route("/pay", post().to(pay::<T>))
            .route("/panic", post().to(panics::<T>))
            .route("/fail", post().to(fail::<T>))
            .route("/cached", post().to(cached::<T>))
            .route("/devices", get().to(devices::<T>))
            .route("/end-others", post().to(end_others::<T>)),
    );
}

fn show<T: Bag>(is_new: bool, bag: &T, id: session_runtime::SessionId) -> HttpResponse {
    let mut shown = bag.show();
    shown["new"] = is_new.into();
    shown["id"] = id.to_string().into();
    HttpResponse::Ok().content_type("application/json").body(shown.to_string())
}

async fn read<T: Bag>(session: Session<T>) -> HttpResponse {
    show(session.is_new(), &*session, session.id())
}

async fn look<T: Bag>(session: SessionRef<T>) -> HttpResponse {
    show(session.is_new(), &*session, session.id())
}

async fn account<T: Bag>(session: LoggedIn<T>) -> HttpResponse {
    show(session.is_new(), &**session, session.id())
}

async fn add<T: Bag>(mut session: Session<T>, item: web::Path<String>) -> impl Responder {
    *session.parts().cart.entry(item.into_inner()).or_default() += 1;
    "added"
}

/// What the body names logs in: any text.
async fn log_in<T: Bag>(mut session: Session<T>, user: String) -> impl Responder {
    session.log_in(user);
    "in"
}

async fn become_user<T: Bag>(mut session: Session<T>, user: String) -> impl Responder {
    *session.parts().user = Some(user);
    "in"
}

async fn log_out<T: Bag>(mut session: Session<T>) -> impl Responder {
    session.log_out();
    "out"
}

async fn destroy<T: Bag>(mut session: Session<T>) -> impl Responder {
    session.destroy();
    "gone"
}

async fn rotate<T: Bag>(mut session: Session<T>) -> impl Responder {
    session.rotate();
    "rotated"
}

async fn remember<T: Bag>(mut session: Session<T>) -> impl Responder {
    session.remember(true);
    "remembered"
}

async fn tenant<T: Bag>(mut session: Session<T>, text: String) -> impl Responder {
    *session.parts().tenant = Some(text);
    "set"
}

async fn notice<T: Bag>(mut session: Session<T>, text: String) -> impl Responder {
    *session.parts().notice = Some(text);
    "set"
}

async fn pin<T: Bag>(mut session: Session<T>, text: String) -> impl Responder {
    *session.parts().pin = Some(text);
    "set"
}

async fn count<T: Bag>(mut session: Session<T>) -> Result<String, Error> {
    let count = session.update(|bag| {
        *bag.parts().count += 1;
        *bag.parts().count
    });
    Ok(count.await?.to_string())
}

/// Changes the session once the attacker opens the gate.
async fn slow<T: Bag>(mut session: Session<T>, gate: web::Data<Gates>) -> impl Responder {
    gate.pass().await;
    *session.parts().cart.entry("late".to_owned()).or_default() += 1;
    "late"
}

async fn slow_update<T: Bag>(mut session: Session<T>, gate: web::Data<Gates>) -> Result<String, Error> {
    gate.pass().await;
    session.update(|bag| *bag.parts().count += 1).await?;
    Ok("late".to_owned())
}

async fn slow_log_out<T: Bag>(mut session: Session<T>, gate: web::Data<Gates>) -> impl Responder {
    gate.pass().await;
    session.log_out();
    "out"
}

async fn csrf<T: Bag>(session: Session<T>) -> impl Responder {
    session.csrf_token()
}

async fn pay<T: Bag>(session: Session<T>, token: String) -> HttpResponse {
    if session.verify_csrf(&token) {
        HttpResponse::Ok().body("paid")
    } else {
        HttpResponse::Forbidden().finish()
    }
}

async fn panics<T: Bag>(mut session: Session<T>) -> HttpResponse {
    *session.parts().pin = Some(super::target::SECRET.to_owned());
    panic!("a handler panics while it holds {session:?}");
}

/// An error of the application, after a change.
async fn fail<T: Bag>(mut session: Session<T>) -> Result<HttpResponse, actix_web::Error> {
    *session.parts().count += 1;
    Err(actix_web::error::ErrorBadRequest("no"))
}

/// An answer that its handler wants to be cached, with a session cookie of the handler's own.
async fn cached<T: Bag>(mut session: Session<T>) -> HttpResponse {
    *session.parts().count += 1;
    let mut answer = HttpResponse::Ok();
    answer.insert_header(("cache-control", "public, max-age=3600"));
    answer.insert_header(("cdn-cache-control", "max-age=3600"));
    answer.insert_header(("surrogate-control", "max-age=3600"));
    let own = format!("{}=of-the-handler; Path=/; Secure", T::COOKIE);
    answer.append_header((SET_COOKIE, HeaderValue::from_str(&own).expect("a cookie")));
    answer.append_header((HeaderName::from_static("vary"), HeaderValue::from_static("Accept")));
    answer.body("cached")
}

async fn devices<T: Bag>(session: LoggedIn<T>, sessions: Sessions<T>) -> Result<String, Error> {
    Ok(sessions.of_user(user_of(&session)).await?.len().to_string())
}

async fn end_others<T: Bag>(session: LoggedIn<T>, sessions: Sessions<T>) -> Result<String, Error> {
    Ok(sessions.revoke_user_except(user_of(&session), session.id()).await?.to_string())
}

/// The gate that slow requests wait at. Each case opens a new one.
#[derive(Clone, Default)]
pub(crate) struct Gates(std::sync::Arc<std::sync::Mutex<Gate>>);

impl Gates {
    pub(crate) fn renew(&self) -> Gate {
        let gate = Gate::default();
        *self.0.lock().expect("no holder panics") = gate.clone();
        gate
    }

    async fn pass(&self) {
        let gate = self.0.lock().expect("no holder panics").clone();
        gate.pass().await;
    }
}

fn user_of<T: Bag>(session: &LoggedIn<T>) -> String {
    session.show()["user"].as_str().unwrap_or_default().to_owned()
}
