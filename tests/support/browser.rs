//! A browser that stores and sends cookies as RFC 6265bis requires.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_web::body::{MessageBody, to_bytes};
use actix_web::cookie::{Cookie, time::Duration};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{COOKIE, HeaderMap, SET_COOKIE};
use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use futures_util::future::LocalBoxFuture;

type Request = actix_http::Request;

/// An application under test, without its type.
#[derive(Clone)]
pub struct Site(Rc<dyn Fn(Request) -> LocalBoxFuture<'static, Answer>>);

impl Site {
    /// Wraps what `actix_web::test::init_service` returns.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
        B: MessageBody + 'static,
    {
        Self(Rc::new(move |request| {
            let answer = service.call(request);
            Box::pin(async move {
                match answer.await {
                    Ok(answer) => Answer::of(answer.into_parts().1.map_into_boxed_body()).await,
                    // A server does the same with an error that no middleware has handled.
                    Err(error) => Answer::of(error.error_response()).await,
                }
            })
        }))
    }

    /// Answers a request. To drop the future is to disconnect the client.
    pub fn call(&self, request: Request) -> LocalBoxFuture<'static, Answer> {
        (self.0)(request)
    }

    /// Opens a browser on this site, without any cookie.
    pub fn browser(&self) -> Browser {
        Browser {
            site: self.clone(),
            host: "www.example.com".to_owned(),
            jar: Rc::default(),
            peer: None,
            headers: Vec::new(),
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Site(..)")
    }
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    async fn of(response: actix_web::HttpResponse) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body()).await.unwrap_or_default();
        Self { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// Returns all values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap_or("?").to_owned();
        self.headers.get_all(name).map(text).collect()
    }

    /// Returns the values of `Set-Cookie`.
    pub fn set_cookies(&self) -> Vec<String> {
        self.all("set-cookie")
    }
}

/// What a browser knows a cookie by (RFC 6265bis §5.7): cookies that differ in any of it are kept side by side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    name: String,
    domain: String,
    is_host_only: bool,
    path: String,
    is_partitioned: bool,
}

#[derive(Clone, Debug)]
struct StoredCookie {
    value: String,
    persistent: bool,
}

/// A browser with a cookie jar, on the host `www.example.com` over HTTPS, in no frame of another site. A clone shares the jar, as a second tab does.
#[derive(Clone, Debug)]
pub struct Browser {
    site: Site,
    host: String,
    jar: Rc<RefCell<BTreeMap<Identity, StoredCookie>>>,
    peer: Option<SocketAddr>,
    headers: Vec<(String, String)>,
}

impl Browser {
    /// Connects from this address from now on.
    ///
    /// # Panics
    ///
    /// If `ip` is not an address.
    pub fn from(mut self, ip: &str) -> Self {
        self.peer = Some(SocketAddr::new(ip.parse().expect("an address"), 4711));
        self
    }

    /// Visits another host of the site's from now on.
    pub fn at(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Is on this machine, with the server, from now on: others are not served under `development()`.
    pub fn local(self) -> Self {
        self.at("localhost").with("host", "localhost").from("127.0.0.1")
    }

    /// Finds another version of the application there from now on.
    pub fn on(mut self, site: &Site) -> Self {
        self.site = site.clone();
        self
    }

    /// Sends this header with every request from now on.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns a browser with a copy of the cookies, as a thief has.
    pub fn copied(&self) -> Self {
        Self { jar: Rc::new(RefCell::new(self.jar.borrow().clone())), ..self.clone() }
    }

    /// Closes and opens the browser, which drops cookies without a date.
    pub fn restart(&self) {
        self.jar.borrow_mut().retain(|_, cookie| cookie.persistent);
    }

    /// Returns the value of a cookie.
    ///
    /// # Panics
    ///
    /// If the browser has several cookies of this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let mut values = self.cookies(name);
        assert!(values.len() < 2, "{} cookies are called {name}", values.len());
        values.pop()
    }

    /// Returns the values of all cookies of a name, whatever their paths and domains.
    pub fn cookies(&self, name: &str) -> Vec<String> {
        let jar = self.jar.borrow();
        jar.iter().filter(|(id, _)| id.name == name).map(|(_, cookie)| cookie.value.clone()).collect()
    }

    /// Puts a cookie into the jar, for this host alone and every path.
    pub fn set_cookie(&self, name: &str, value: &str) {
        let cookie = StoredCookie { value: value.to_owned(), persistent: true };
        let identity = Identity {
            name: name.to_owned(),
            domain: self.host.clone(),
            is_host_only: true,
            path: "/".to_owned(),
            is_partitioned: false,
        };
        self.jar.borrow_mut().insert(identity, cookie);
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::with_uri(path)).await
    }

    /// Sends a POST.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(TestRequest::with_uri(path).method(Method::POST)).await
    }

    /// Opens a page, and sends a form with the token that the page has.
    ///
    /// # Panics
    ///
    /// If the page has no token.
    pub async fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let shown = self.get(page).await.body;
        let token =
            shown.split_once(r#"name="csrf_token" value=""#).and_then(|(_, rest)| rest.split_once('"'));
        let (token, _) = token.unwrap_or_else(|| panic!("{page} has no token: {shown}"));
        let form = [&[("csrf_token", token)][..], fields].concat();
        self.send(TestRequest::post().uri(action).set_form(form)).await
    }

    /// Sends a request with the cookies, and stores the cookies of the answer.
    pub async fn send(&self, request: TestRequest) -> Answer {
        let answer = self.site.call(self.prepare(request)).await;
        self.keep(&answer);
        answer
    }

    /// Adds the cookies and headers of this browser to a request.
    ///
    /// # Panics
    ///
    /// If a header is malformed.
    pub fn prepare(&self, request: TestRequest) -> Request {
        let mut request = request.to_request();
        let mut cookies: Vec<_> = self.jar.borrow().clone().into_iter().collect();
        cookies.retain(|(identity, _)| self.is_sent(identity, request.path()));
        // Longer paths first.
        cookies.sort_by_key(|(identity, _)| Reverse(identity.path.len()));
        let pairs: Vec<_> =
            cookies.iter().map(|(identity, cookie)| format!("{}={}", identity.name, cookie.value)).collect();
        let headers = request.headers_mut();
        if !pairs.is_empty() {
            headers.insert(COOKIE, pairs.join("; ").parse().expect("a value"));
        }
        for (name, value) in &self.headers {
            headers.append(name.parse().expect("a name"), value.parse().expect("a value"));
        }
        if self.peer.is_some() {
            request.head_mut().peer_addr = self.peer;
        }
        request
    }

    fn is_sent(&self, cookie: &Identity, path: &str) -> bool {
        let in_domain =
            self.host == cookie.domain || (!cookie.is_host_only && is_within(&self.host, &cookie.domain));
        let below = path.strip_prefix(&cookie.path);
        let in_path =
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.path.ends_with('/'));
        in_domain && in_path
    }

    /// Stores the cookies of an answer.
    ///
    /// # Panics
    ///
    /// If a browser would refuse one of the cookies.
    pub fn keep(&self, answer: &Answer) {
        for header in answer.headers.get_all(SET_COOKIE) {
            let header = header.to_str().expect("a cookie is ASCII");
            let cookie = Cookie::parse(header).expect("a cookie");
            let (name, value) = (cookie.name(), cookie.value());
            let secure = cookie.secure() == Some(true);
            let host = secure && cookie.path() == Some("/") && cookie.domain().is_none();
            assert!(!name.starts_with("__Host-") || host, "a browser drops {header}");
            assert!(name.len() + value.len() <= 4096, "a browser drops {name}: it is too long");
            let domain = cookie.domain().unwrap_or(&self.host).to_ascii_lowercase();
            assert!(is_within(&self.host, &domain), "a browser at {} drops {header}", self.host);
            let is_partitioned = header.split("; ").any(|attribute| attribute == "Partitioned");
            assert!(secure || !is_partitioned, "a browser drops {header}");
            let identity = Identity {
                name: name.to_owned(),
                domain,
                is_host_only: cookie.domain().is_none(),
                path: cookie.path().expect("a path").to_owned(),
                is_partitioned,
            };
            let mut jar = self.jar.borrow_mut();
            if cookie.max_age().is_some_and(|age| age <= Duration::ZERO) {
                jar.remove(&identity);
            } else {
                let persistent = cookie.max_age().is_some() || cookie.expires().is_some();
                jar.insert(identity, StoredCookie { value: value.to_owned(), persistent });
            }
        }
    }
}

/// Returns whether a host is this domain or below it.
fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
