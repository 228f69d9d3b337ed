//! A browser that stores and sends cookies as RFC 6265bis requires.

use std::cell::RefCell;
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
    pub fn call(&self, request: TestRequest) -> LocalBoxFuture<'static, Answer> {
        (self.0)(request.to_request())
    }

    /// Opens a browser on this site, without any cookie.
    pub fn browser(&self) -> Browser {
        Browser { site: self.clone(), jar: Rc::default(), peer: None, headers: Vec::new() }
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

#[derive(Clone, Debug)]
struct StoredCookie {
    value: String,
    persistent: bool,
}

/// A browser with a cookie jar. A clone shares the jar, as a second tab does.
#[derive(Clone, Debug)]
pub struct Browser {
    site: Site,
    jar: Rc<RefCell<BTreeMap<String, StoredCookie>>>,
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
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.borrow().get(name).map(|cookie| cookie.value.clone())
    }

    /// Puts a cookie into the jar.
    pub fn set_cookie(&self, name: &str, value: &str) {
        let cookie = StoredCookie { value: value.to_owned(), persistent: true };
        self.jar.borrow_mut().insert(name.to_owned(), cookie);
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::with_uri(path)).await
    }

    /// Sends a POST.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(TestRequest::with_uri(path).method(Method::POST)).await
    }

    /// Sends a request with the cookies, and stores the cookies of the answer.
    pub async fn send(&self, request: TestRequest) -> Answer {
        let answer = self.site.call(self.prepare(request)).await;
        self.keep(&answer);
        answer
    }

    /// Adds the cookies and headers of this browser to a request.
    pub fn prepare(&self, mut request: TestRequest) -> TestRequest {
        let pairs: Vec<_> =
            self.jar.borrow().iter().map(|(name, cookie)| format!("{name}={}", cookie.value)).collect();
        if !pairs.is_empty() {
            request = request.insert_header((COOKIE, pairs.join("; ")));
        }
        for (name, value) in &self.headers {
            request = request.append_header((name.as_str(), value.as_str()));
        }
        if let Some(peer) = self.peer {
            request = request.peer_addr(peer);
        }
        request
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
            let mut jar = self.jar.borrow_mut();
            if cookie.max_age().is_some_and(|age| age <= Duration::ZERO) {
                jar.remove(name);
            } else {
                let persistent = cookie.max_age().is_some() || cookie.expires().is_some();
                jar.insert(name.to_owned(), StoredCookie { value: value.to_owned(), persistent });
            }
        }
    }
}
