//! The builder's HTTP settings, and what they read from a request.

use actix_web::HttpRequest;
use actix_web::cookie::{self, Cookie};
use actix_web::dev::ResponseHead;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue, USER_AGENT, X_FORWARDED_FOR};
use sha2::{Digest as _, Sha256};

use crate::backend::access::{Access, Backing};
use crate::bag::Databag;
use crate::bag::schema::{Persistence, SameSite};
use crate::builder::Builder;
use crate::clock::Timestamp;
use crate::engine::core::CookieUpdate;
use crate::engine::load::Client;
use crate::http::HttpConfig;
use crate::http::client_ip::client_ip;
use crate::request::RequestToken;
use crate::sessions::Sessions;
use crate::token::Token;

/// The predicate of `skip_cookie`.
pub(super) type SkipCookie = Box<dyn Fn(&HttpRequest, &ResponseHead) -> bool + Send + Sync>;

/// Returns whether an answer must not carry the cookie.
pub(super) fn skips_cookie(http: &HttpConfig, request: &HttpRequest, head: &ResponseHead) -> bool {
    let skip = http.adapter.as_ref().and_then(|adapter| adapter.downcast_ref::<SkipCookie>());
    skip.is_some_and(|skip| skip(request, head))
}

/// Finds the token of a request.
pub(super) fn request_token(http: &HttpConfig, headers: &HeaderMap) -> RequestToken {
    match http.cookie.find(headers.get_all(COOKIE).map(HeaderValue::as_bytes)) {
        Ok(None) => RequestToken::Absent,
        Ok(Some(token)) => RequestToken::Present(token),
        Err(rejection) => RequestToken::Unusable(rejection),
    }
}

/// Finds the client of a request.
pub(super) fn client(http: &HttpConfig, request: &HttpRequest, with_agent: bool) -> Client {
    let headers = request.headers();
    let forwarded: Vec<&str> = match http.trusted_proxies.as_slice() {
        [] => Vec::new(),
        // A value that is not text is not an address either.
        _ => headers.get_all(X_FORWARDED_FOR).map(|value| value.to_str().unwrap_or("?")).collect(),
    };
    let peer = request.peer_addr().map(|peer| peer.ip());
    let agent = with_agent.then(|| {
        let agent = headers.get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
        let hash: [u8; 32] = Sha256::digest(agent).into();
        u64::from_be_bytes(*hash.first_chunk().expect("32 bytes have 8"))
    });
    Client { ip: client_ip(peer, forwarded.into_iter(), &http.trusted_proxies), agent }
}

/// Writes the `Set-Cookie` of an update.
pub(super) fn set_cookie(http: &HttpConfig, update: &CookieUpdate, now: Timestamp) -> String {
    match update {
        CookieUpdate::Set { token, remembered, expires } => {
            http.cookie.set(token, *remembered, expires.saturating_since(now))
        }
        CookieUpdate::Remove => http.cookie.removal(),
    }
}

/// Settings of sessions over HTTP.
impl<T: Databag, S: Backing, P> Builder<T, S, P> {
    /// Sets the cookie's name. With the prefix `__Host-` browsers let no other host, no path and no plain HTTP answer
    /// set it.
    pub fn cookie(self, name: impl Into<String>) -> Self {
        self.set_http(|http| http.cookie.name = name.into())
    }

    /// Sets the cookie's `Path`. It protects nothing: scripts of one path can read pages of the others.
    pub fn path(self, path: impl Into<String>) -> Self {
        self.set_http(|http| http.cookie.path = path.into())
    }

    /// Sets the cookie's `Domain`. Browsers then send it to all subdomains, and each of them can replace it.
    pub fn domain(self, domain: impl Into<String>) -> Self {
        self.set_http(|http| http.cookie.domain = Some(domain.into()))
    }

    /// Sets when requests that other sites cause carry the cookie. With [`SameSite::None`] a form on any site acts as the
    /// visitor, unless each of your handlers checks [`verify_csrf`](crate::Session::verify_csrf).
    pub fn same_site(self, same_site: SameSite) -> Self {
        self.set_http(|http| http.cookie.same_site = same_site)
    }

    /// Sets whether browsers send the cookie over HTTPS alone. Over plain HTTP everyone on the network path can read it.
    pub fn secure(self, secure: bool) -> Self {
        self.set_http(|http| http.cookie.secure = secure)
    }

    /// Sets whether browsers keep a separate cookie for each site that embeds this one.
    pub fn partitioned(self, partitioned: bool) -> Self {
        self.set_http(|http| http.cookie.partitioned = partitioned)
    }

    /// Sets whether the cookie of a new session outlives the browser. On a shared computer the next person can then use
    /// the session. [`Session::remember`](crate::Session::remember) overrides it for one session.
    pub fn persistence(self, persistence: Persistence) -> Self {
        self.set(|settings| settings.config.remembered = persistence == Persistence::Persistent)
    }

    /// Allows plain HTTP, for a developer's machine: the cookie loses `Secure` and the prefix of its name.
    pub fn development(self) -> Self {
        self.set_http(|http| http.cookie.insecure())
    }

    /// Names the proxies in front of this server, as addresses or networks (`10.0.0.0/8`). Only their entries in
    /// `X-Forwarded-For` are used: other clients can claim any address there.
    pub fn trusted_proxies<I: AsRef<str>>(self, proxies: impl IntoIterator<Item = I>) -> Self {
        let proxies = proxies.into_iter().map(|proxy| proxy.as_ref().to_owned()).collect();
        self.set_http(|http| http.trusted_proxies = proxies)
    }

    /// Redirects visitors who are not logged in to this location (303) where a handler asks for
    /// [`LoggedIn`](crate::LoggedIn), instead of answering 401.
    pub fn login_redirect(self, location: impl Into<String>) -> Self {
        self.set_http(|http| http.login_redirect = Some(location.into()))
    }

    /// Sends no cookie with the answers for which `skip` returns true, such as those for a shared cache. A new visitor's
    /// session is then not stored. A session whose id changes gets its cookie all the same, and so does every change
    /// of a session in a cookie: without it they would be lost.
    pub fn skip_cookie(
        self,
        skip: impl Fn(&HttpRequest, &ResponseHead) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.set_http(|http| {
            let skip: SkipCookie = Box::new(skip);
            http.adapter = Some(Box::new(skip));
        })
    }
}

impl<T: Databag, A: Access> Sessions<T, A> {
    /// Returns the cookie of a token, for requests in tests. In an answer it would be a browser-session cookie: it has no
    /// `Max-Age` and no `Partitioned`.
    pub fn cookie(&self, token: &Token) -> Cookie<'static> {
        let settings = self.http.cookie.settings();
        let mut cookie = Cookie::new(settings.name.clone(), token.encode().to_string());
        cookie.set_http_only(true);
        cookie.set_secure(settings.secure);
        cookie.set_path(settings.path.clone());
        cookie.set_same_site(match settings.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        });
        if let Some(domain) = &settings.domain {
            cookie.set_domain(domain.clone());
        }
        cookie
    }
}
