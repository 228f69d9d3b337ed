//! A session that grows deeper with each request is refused at the limit: the process lives on.

use std::process::Command;

use actix_web::cookie::Cookie;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, web};
use serde::{Deserialize, Serialize};
use session_runtime::{Databag, Keyring, MemoryStore, Session, SessionMiddleware, Sessions};

/// Each is dropped in a loop: the test is about the runtime's stack, not about the type's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

impl Drop for Chain {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

#[derive(Databag)]
#[databag(table = "deep_by_bincode", cookie = "deep", secure = false)]
struct ByBincode {
    chain: Chain,
}

#[derive(Databag)]
#[databag(table = "deep_by_json", codec = "json", cookie = "deep", secure = false)]
struct ByJson {
    chain: Chain,
}

/// The stack of a worker of actix-web.
const STACK: usize = 2 << 20;

#[test]
fn a_session_that_grows_deeper_aborts_no_process() {
    let child = Command::new(std::env::current_exe().expect("is a file"))
        .args(["--exact", "stack::grow", "--ignored", "--nocapture", "--test-threads", "1"])
        .output()
        .expect("runs");
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{printed}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
}

macro_rules! grow {
    ($bag:ident) => {{
        let keyring = Keyring::generate();
        let sessions =
            Sessions::<$bag>::builder(MemoryStore::new()).keyring(keyring).build().await.expect("builds");
        let grow = async |mut session: Session<$bag>, by: web::Path<u32>| {
            for _ in 0..by.into_inner() {
                let inner = std::mem::take(session.chain_mut());
                session.chain_mut().next = Some(Box::new(inner));
            }
            "grown"
        };
        let app = App::new().wrap(SessionMiddleware::new(sessions)).route("/{by}", web::get().to(grow));
        let app = init_service(app).await;
        let mut cookie: Option<Cookie<'static>> = None;
        let mut statuses = Vec::new();
        for by in [100, 27, 1, 100, 20_000, 20_000, 0] {
            let mut request = TestRequest::get().uri(&format!("/{by}"));
            if let Some(cookie) = cookie.clone() {
                request = request.cookie(cookie);
            }
            let response = call_service(&app, request.to_request()).await;
            statuses.push(response.status());
            cookie = response.response().cookies().next().map(Cookie::into_owned).or(cookie);
        }
        let (ok, refused) = (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(statuses, [ok, ok, refused, refused, refused, refused, ok]);
    }};
}

#[test]
#[ignore = "its parent runs it in a process of its own"]
fn grow() {
    let requests = || {
        actix_web::rt::System::new().block_on(async {
            grow!(ByBincode);
            grow!(ByJson);
        });
    };
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(requests)
        .expect("starts")
        .join()
        .expect("does not panic");
}
