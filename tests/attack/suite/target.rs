//! An application on a real server, its store, and what an attacker can see of both.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use databag_tests::{Gate, Logs, ManualClock};
use session_runtime::store::Row;
use session_runtime::{Rejection, SessionId, SessionMiddleware, Sessions, Token};
use tempfile::TempDir;

use super::bags::{Admin, Gates, Shop, Text, routes};
use super::case::Kind;
use super::client::Visitor;
use super::stores::{OnRejected, Opener, Parts, Rows, Setup, Switch};

/// What no log, error and file may show.
pub(crate) const SECRET: &str = "the-pin-is-0451";

/// An application under attack.
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) setup: Setup,
    pub(crate) address: SocketAddr,
    pub(crate) shop: Sessions<Shop>,
    pub(crate) admin: Sessions<Admin>,
    pub(crate) parts: Parts,
    pub(crate) store: Rc<dyn Opener>,
    /// The folder of the database, if the store has one.
    pub(crate) folder: Option<Rc<TempDir>>,
    pub(crate) logs: Logs,
    gates: Gates,
    rejections: Arc<Mutex<Vec<Rejection>>>,
    secrets: Rc<RefCell<Vec<String>>>,
    server: ServerHandle,
}

impl Target {
    /// Opens an application on a store.
    pub(crate) async fn open(kind: Kind, store: Rc<dyn Opener>, folder: Option<Rc<TempDir>>) -> Self {
        let clock = ManualClock::default();
        Self::start(kind, store, folder, Setup::default(), clock, Logs::default(), Rc::default()).await
    }

    /// Opens another application on the same rows, as another process does, at the same time and with the same log.
    pub(crate) async fn beside(&self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.setup.clone();
        change(&mut setup);
        let (store, folder, clock) =
            (self.store.elsewhere().await, self.folder.clone(), self.parts.clock.clone());
        Self::start(self.kind, store, folder, setup, clock, self.logs.clone(), self.secrets.clone()).await
    }

    async fn start(
        kind: Kind,
        store: Rc<dyn Opener>,
        folder: Option<Rc<TempDir>>,
        setup: Setup,
        clock: ManualClock,
        logs: Logs,
        secrets: Rc<RefCell<Vec<String>>>,
    ) -> Self {
        let rejections = Arc::<Mutex<Vec<Rejection>>>::default();
        let noted = rejections.clone();
        let on_rejected: OnRejected =
            Arc::new(move |reason| noted.lock().unwrap_or_else(PoisonError::into_inner).push(reason));
        let parts = Parts { clock, on_rejected };
        let shop = store.shop(&setup, &parts).await.expect("the shop opens");
        let admin = store.admin(&setup, &parts).await.expect("the back office opens");
        let text = store.text(&setup, &parts).await.expect("the text bag opens");
        let gates = Gates::default();
        let app = (shop.clone(), admin.clone(), text, gates.clone(), logs.clone());
        let server = HttpServer::new(move || {
            let (shop, admin, text, gates, logs) = app.clone();
            // For as long as the worker lives.
            std::mem::forget(logs.capture());
            App::new()
                .wrap(SessionMiddleware::new(shop))
                .wrap(SessionMiddleware::new(admin))
                .wrap(SessionMiddleware::new(text))
                .app_data(web::Data::new(gates))
                .configure(routes::<Admin>)
                .configure(routes::<Text>)
                .configure(routes::<Shop>)
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a port is free");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self {
            kind,
            setup,
            address,
            shop,
            admin,
            parts,
            store,
            folder,
            logs,
            gates,
            rejections,
            secrets,
            server: handle,
        }
    }

    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }

    /// Undoes what a case may have left.
    pub(crate) fn recover(&self) {
        self.switch().turn(true);
        self.gates.renew();
        self.rejections();
    }

    pub(crate) fn has_rows(&self) -> bool {
        self.kind != Kind::Cookie
    }

    pub(crate) async fn rows(&self) -> Rc<dyn Rows> {
        self.store.rows("").await
    }

    pub(crate) fn switch(&self) -> &Switch {
        self.store.switch()
    }

    /// Closes the gate that slow requests wait at.
    pub(crate) fn close_gate(&self) -> Gate {
        self.gates.renew()
    }

    /// Takes the reasons for which cookies were not accepted.
    pub(crate) fn rejections(&self) -> Vec<Rejection> {
        std::mem::take(&mut *self.rejections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a text that no log may show.
    pub(crate) fn note_secret(&self, secret: &str) {
        if secret.len() >= 16 {
            self.secrets.borrow_mut().push(secret.to_owned());
        }
    }

    /// Checks that the log so far shows no token, no key and no value.
    pub(crate) fn keeps_its_secrets(&self) -> Result<(), String> {
        let text = self.logs.take();
        let mut secrets: Vec<String> = std::mem::take(&mut *self.secrets.borrow_mut());
        let id_of = |secret: &String| Token::parse(secret).map(|token| token.session_id().to_string());
        let ids: Vec<String> = secrets.iter().filter_map(id_of).map(|id| id[..16].to_owned()).collect();
        secrets.extend(ids);
        secrets.extend([SECRET.to_owned(), self.setup.keys.clone()]);
        match secrets.iter().find(|secret| text.contains(secret.as_str())) {
            None => Ok(()),
            Some(secret) => {
                let line = text.lines().find(|line| line.contains(secret.as_str())).unwrap_or_default();
                Err(format!("the log shows a secret: {line}"))
            }
        }
    }
}

/// Returns the row of a visitor's session.
pub(crate) async fn row_of(visitor: &Visitor<'_>) -> Row {
    visitor.target.rows().await.load(visitor.id()).await.expect("the session has a row")
}

/// Makes a session with a user, a cart, a column and a secret: what every attacker wants.
pub(crate) async fn victim(target: &Target) -> Visitor<'_> {
    let visitor = Visitor::new(target);
    visitor.does("/add/tea", "").await;
    visitor.does("/login", "victim").await;
    visitor.does("/tenant", "acme").await;
    visitor.does("/pin", SECRET).await;
    assert!(is_victim(&visitor).await, "the victim is logged in");
    target.rejections();
    visitor
}

/// Returns whether these pages are shown to the victim.
pub(crate) async fn is_victim(visitor: &Visitor<'_>) -> bool {
    visitor.read().await["user"] == "victim"
}

/// Checks that a cookie opens nothing, for this reason, and that the answer sets none.
pub(crate) async fn is_refused(visitor: &Visitor<'_>, reason: Rejection) {
    visitor.target.rejections();
    let reply = visitor.at(visitor.target).get("/read").await;
    let shown = reply.session();
    assert!(shown["new"] == true && shown["user"].is_null(), "it opens a session: {shown}");
    assert!(shown["pin"].is_null() && shown["cart"] == serde_json::json!({}), "it shows a session: {shown}");
    assert!(reply.set_cookies().is_empty(), "a cookie is set: {:?}", reply.set_cookies());
    assert_eq!(visitor.target.rejections(), [reason]);
}

/// Makes up a token that was never issued.
pub(crate) fn invented(seed: u8) -> (String, SessionId) {
    let token = Token::from_bytes(std::array::from_fn(|at| seed.wrapping_add(u8::try_from(at).unwrap_or(0))));
    (token.encode().to_string(), token.session_id())
}
