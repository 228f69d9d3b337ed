//! Forms: which requests the guard lets through.

use std::mem::ManuallyDrop;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use actix_web::web::Bytes;
use actix_web::{App, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_runtime::store::Unlisted;
use session_runtime::{Csrf, Databag, Session, SessionMiddleware, Sessions};

use crate::Target;
use crate::http::{Site, run as wait, site};
use crate::rows::{Loads, Shelf, keyring, steady};

/// The target. The input has four headers, each on a line, and then the body.
pub const TARGET: Target = Target {
    name: "csrf",
    run,
    starts: || {
        let token = WORLD.with(|world| world.token.clone());
        let form = "application/x-www-form-urlencoded";
        vec![
            format!("same-origin\n\n{token}\n\n").into(),
            format!("\nhttps://shop.example\n\n{form}\na=1&csrf_token={token}").into(),
            format!("none\nnull\n\n{form}\ncsrf_token={token}&a=1").into(),
            format!("cross-site\nhttps://evil.example\n{token}\n{form}\n").into(),
        ]
    },
    weight: 1,
    words: &[
        "same-origin",
        "none",
        "same-site",
        "null",
        "https://shop.example",
        "http://",
        ":443",
        "csrf_token=",
        "&",
        "%",
        "%63",
        "+",
        "\n",
        "application/x-www-form-urlencoded",
        "; charset=utf-8",
        "=",
    ],
};

/// A visitor with a form.
#[derive(Databag)]
#[databag(name = "Form", table = "forms")]
struct Form {
    visits: u32,
}

struct World {
    site: Site,
    cookie: String,
    token: String,
}

thread_local! {
    static WORLD: ManuallyDrop<World> = ManuallyDrop::new(wait(World::new()));
}

impl World {
    async fn new() -> Self {
        let builder =
            Sessions::<Form>::builder(Unlisted(Shelf::default())).keyring(keyring()).token_source(|| [7; 32]);
        let sessions: Loads<Form> = steady(builder).build().await.expect("good settings");
        let (token, _) = sessions.create(Form { visits: 1 }).await.expect("stored");
        let cookie = sessions.cookie(&token);
        let cookie = format!("{}={}", cookie.name(), cookie.value());
        let service = App::new()
            .wrap(Csrf::<Form>::guard())
            .wrap(SessionMiddleware::new(sessions))
            .route("/", web::get().to(async |session: Session<Form>| session.csrf_token()))
            .route("/", web::post().to(async |body: Bytes| body));
        let site = site(actix_web::test::init_service(service).await);
        let token = site(TestRequest::default().insert_header(("cookie", cookie.clone()))).await.body;
        Self { site, cookie, token }
    }
}

/// Returns what a token hides.
fn unmasked(token: &[u8]) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == 64)?;
    let (mask, masked) = bytes.split_at(32);
    Some(mask.iter().zip(masked).map(|(mask, masked)| mask ^ masked).collect())
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(5, |byte| *byte == b'\n');
    let mut request = TestRequest::default().method(Method::POST).insert_header(("host", "shop.example"));
    let mut headers = Vec::new();
    for name in ["sec-fetch-site", "origin", "x-csrf-token", "content-type"] {
        let value = parts.next().unwrap_or_default();
        headers.push(value);
        if !value.is_empty() {
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            request = request.append_header((HeaderName::from_static(name), value));
        }
    }
    let body = parts.next().unwrap_or_default();
    WORLD.with(|world| {
        let request = request.insert_header(("cookie", world.cookie.clone())).set_payload(body.to_vec());
        let answer = wait((world.site)(request));
        if answer.status != 200 {
            assert_eq!(answer.status, 403);
            return;
        }
        assert_eq!(answer.body, String::from_utf8_lossy(body), "the handler has the whole body");
        let known = unmasked(world.token.as_bytes());
        let submitted = body.windows(86).chain([headers[2]]).any(|token| unmasked(token) == known);
        // A form may escape any character of its token.
        let may_be_escaped = body.contains(&b'%');
        assert!(submitted || may_be_escaped, "a request without a token has passed");
        let own = b"https://shop.example".as_slice();
        let is_own = match (headers[0], headers[1]) {
            (b"same-origin" | b"none", _) | (b"", b"") => true,
            (b"", origin) => origin.strip_suffix(b":443").unwrap_or(origin).eq_ignore_ascii_case(own),
            _ => false,
        };
        assert!(is_own, "a request of another origin has passed");
    });
}
