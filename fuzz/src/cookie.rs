//! The `Cookie` headers of a request: which cookie is the session's.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::{COOKIE, HeaderValue};
use actix_web::test::TestRequest;
use session_runtime::store::Unlisted;
use session_runtime::{Databag, Rejection, SessionRef, Sessions};

use crate::http::{Site, run as wait};
use crate::rows::{Loads, Shelf, keyring, steady};
use crate::{Target, page, set_cookie};

/// The target.
pub const TARGET: Target = Target {
    name: "cookie",
    run,
    starts: || {
        let good = WORLD.with(|world| format!("__Host-id={}", world.token));
        vec![
            good.clone().into(),
            format!("a=b; {good}; __Host-id-csrf=x").into(),
            format!("{good}; {good}").into(),
            format!("{good}\n __host-id=x").into(),
            format!("%5F%5FHost-id=x;{good}").into(),
            "__Host-id=".into(),
        ]
    },
    weight: 1,
    words: &[
        "__Host-id",
        "__Host-id=",
        "; ",
        ";",
        "=",
        "\n",
        " ",
        "\t",
        "\"",
        "%5F",
        "__host-id=",
        "-csrf",
        "=",
    ],
};

/// A visitor's session.
#[derive(Databag)]
#[databag(name = "Visitor", table = "visitors", cookie = "__Host-id")]
struct Visitor {
    visits: u32,
}

struct World {
    site: Site,
    token: String,
    rejected: Arc<Mutex<Option<Rejection>>>,
}

thread_local! {
    static WORLD: ManuallyDrop<World> = ManuallyDrop::new(wait(World::new()));
}

impl World {
    async fn new() -> Self {
        let rejected = Arc::new(Mutex::new(None));
        let slot = rejected.clone();
        let builder = Sessions::<Visitor>::builder(Unlisted(Shelf::default()))
            .keyring(keyring())
            .token_source(|| [7; 32]);
        let builder = builder.on_rejected(move |reason| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        });
        let sessions: Loads<Visitor> = steady(builder).build().await.expect("good settings");
        let (token, _) = sessions.create(Visitor { visits: 1 }).await.expect("stored");
        let token = token.encode().to_string();
        let site = page!(sessions, async |session: SessionRef<Visitor>| session.visits().to_string());
        Self { site, token, rejected }
    }
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let mut request = TestRequest::default();
    for line in &lines {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        request = request.append_header((COOKIE, value));
    }
    WORLD.with(|world| {
        *world.rejected.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let answer = wait((world.site)(request));
        let rejected = *world.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        let (visits, reason) = match values(&lines).as_slice() {
            [] => ("0", None),
            [value] if *value == world.token.as_bytes() => ("1", None),
            [_] => ("0", rejected.filter(|it| matches!(it, Rejection::Malformed | Rejection::Unknown))),
            _ => ("0", Some(Rejection::Duplicate)),
        };
        assert_eq!((answer.status, answer.body.as_str()), (200, visits));
        assert_eq!(rejected, reason);
        answer.set_cookies.iter().for_each(|header| drop(set_cookie::checked(header)));
    });
}

/// Returns the values of the cookies that have the name.
fn values<'a>(lines: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut values = Vec::new();
    for line in lines {
        let mut rest = *line;
        loop {
            let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
            let pair = &rest[..end];
            let pair = if pair.first() == Some(&b' ') { &pair[1..] } else { pair };
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=')
                && &pair[..equals] == b"__Host-id"
            {
                values.push(&pair[equals + 1..]);
            }
            if end == rest.len() {
                break;
            }
            rest = &rest[end + 1..];
        }
    }
    values
}
