//! What is configured about sessions over HTTP: the cookie, the proxies, the redirect.

use std::fmt;

use actix_web::HttpRequest;
use actix_web::cookie::{self, Cookie};
use actix_web::dev::ResponseHead;
use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue, USER_AGENT, X_FORWARDED_FOR};
use sha2::{Digest as _, Sha256};

use super::client_ip::{Network, client_ip};
use super::cookie::{CookieFormat, CookieSettings};
use crate::bag::{CookieSchema, Databag, Persistence, SameSite};
use crate::builder::Builder;
use crate::error::Error;
use crate::load::Visitor;
use crate::session::Presented;
use crate::sessions::{Sent, Sessions};
use crate::store::Store;
use crate::token::Token;

type SkipCookie = Box<dyn Fn(&HttpRequest, &ResponseHead) -> bool + Send + Sync>;

/// What is being configured.
pub(crate) struct Settings {
    cookie: CookieSettings,
    trusted_proxies: Vec<String>,
    login_redirect: Option<String>,
    skip_cookie: Option<SkipCookie>,
}

/// What was configured, and holds together.
pub(crate) struct Config {
    pub(crate) cookie: CookieFormat,
    trusted_proxies: Vec<Network>,
    pub(crate) login_redirect: Option<String>,
    pub(crate) skip_cookie: Option<SkipCookie>,
}

impl Settings {
    pub(crate) fn new(cookie: &CookieSchema) -> Self {
        Self {
            cookie: CookieSettings::new(cookie),
            trusted_proxies: Vec::new(),
            login_redirect: None,
            skip_cookie: None,
        }
    }

    /// Checks the settings; the `strict` ones of production leave no cookie without `Secure`.
    pub(crate) fn check(self, strict: bool) -> Result<Config, Error> {
        if strict && !self.cookie.secure {
            return Err(Error::Config("`production` needs a cookie with `Secure`".to_owned()));
        }
        let network = |text: &String| {
            let refused = || format!("{text:?} is no address and no network such as `10.0.0.0/8`");
            text.parse().map_err(|()| Error::Config(refused()))
        };
        if let Some(location) = &self.login_redirect
            && (location.is_empty() || !location.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(Error::Config(format!("`login_redirect` {location:?} is no location for a browser")));
        }
        Ok(Config {
            cookie: self.cookie.check()?,
            trusted_proxies: self.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?,
            login_redirect: self.login_redirect,
            skip_cookie: self.skip_cookie,
        })
    }
}

impl Config {
    pub(crate) fn for_test(cookie: &CookieSchema) -> Self {
        Settings::new(cookie).check(false).expect("the derive refuses cookies that browsers drop")
    }

    /// Finds the token that a request presents.
    pub(crate) fn presented(&self, headers: &HeaderMap) -> Presented {
        match self.cookie.find(headers.get_all(COOKIE).map(HeaderValue::as_bytes)) {
            Ok(None) => Presented::Nothing,
            Ok(Some(token)) => Presented::Token(token),
            Err(rejection) => Presented::Unusable(rejection),
        }
    }

    /// Finds out who sent a request.
    pub(crate) fn visitor(&self, request: &HttpRequest, with_agent: bool) -> Visitor {
        let headers = request.headers();
        let forwarded: Vec<&str> = match self.trusted_proxies.as_slice() {
            [] => Vec::new(),
            // A value that is no text is no address either.
            _ => headers.get_all(X_FORWARDED_FOR).map(|value| value.to_str().unwrap_or("?")).collect(),
        };
        let peer = request.peer_addr().map(|peer| peer.ip());
        let agent = with_agent.then(|| {
            let agent = headers.get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
            let hash: [u8; 32] = Sha256::digest(agent).into();
            u64::from_be_bytes(*hash.first_chunk().expect("32 bytes have 8"))
        });
        Visitor { ip: client_ip(peer, forwarded.into_iter(), &self.trusted_proxies), agent }
    }

    /// Writes the `Set-Cookie` that tells a browser what was stored.
    pub(crate) fn set_cookie(&self, sent: &Sent, now: crate::Timestamp) -> String {
        match sent {
            Sent::Token { token, remembered, expires } => {
                self.cookie.set(token, *remembered, expires.saturating_since(now))
            }
            Sent::Removal => self.cookie.removal(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

/// Settings of sessions over HTTP.
impl<T: Databag, S: Store, P> Builder<T, S, P> {
    /// Sets the cookie's name. With the prefix `__Host-` browsers keep other hosts, paths and plain HTTP
    /// from setting it.
    pub fn cookie(self, name: impl Into<String>) -> Self {
        self.set_web(|web| web.cookie.name = name.into())
    }

    /// Sets the cookie's `Path`. It keeps nobody out: scripts of other paths can read each other's pages.
    pub fn path(self, path: impl Into<String>) -> Self {
        self.set_web(|web| web.cookie.path = path.into())
    }

    /// Sets the cookie's `Domain`, which hands it to all its subdomains: each of them can then
    /// replace it.
    pub fn domain(self, domain: impl Into<String>) -> Self {
        self.set_web(|web| web.cookie.domain = Some(domain.into()))
    }

    /// Sets when other sites' requests carry the cookie. With [`SameSite::None`] every form on
    /// every site acts as the visitor, unless each of yours checks [`verify_csrf`](crate::Session::verify_csrf).
    pub fn same_site(self, same_site: SameSite) -> Self {
        self.set_web(|web| web.cookie.same_site = same_site)
    }

    /// Sets whether the cookie is kept from plain HTTP, where anyone on the way can read it.
    pub fn secure(self, secure: bool) -> Self {
        self.set_web(|web| web.cookie.secure = secure)
    }

    /// Sets whether the cookie is kept apart for every site that embeds this one.
    pub fn partitioned(self, partitioned: bool) -> Self {
        self.set_web(|web| web.cookie.partitioned = partitioned)
    }

    /// Sets whether the cookie outlives the browser; on a shared computer the next person then finds it.
    pub fn persistence(self, persistence: Persistence) -> Self {
        self.set_web(|web| web.cookie.persistence = persistence)
    }

    /// Makes things work on a developer's machine, over plain HTTP: the cookie loses `Secure` and the
    /// prefix of its name.
    pub fn development(self) -> Self {
        self.set_web(|web| web.cookie.insecure())
    }

    /// Names the proxies in front of this server, as addresses or networks (`10.0.0.0/8`): only what they
    /// write into `X-Forwarded-For` is believed. Anybody else could claim any address there.
    pub fn trusted_proxies<I: AsRef<str>>(self, proxies: impl IntoIterator<Item = I>) -> Self {
        let proxies = proxies.into_iter().map(|proxy| proxy.as_ref().to_owned()).collect();
        self.set_web(|web| web.trusted_proxies = proxies)
    }

    /// Sends visitors who are not signed in to this location (303) where a handler asks for
    /// [`LoggedIn`](crate::LoggedIn), instead of answering 401.
    pub fn login_redirect(self, location: impl Into<String>) -> Self {
        self.set_web(|web| web.login_redirect = Some(location.into()))
    }

    /// Keeps the cookie off answers that `skip` is true for, such as those a shared cache may keep. A new
    /// visitor's session is then not stored either; a session whose id changes gets its cookie all the same,
    /// or it would be lost, as does every change of a session that is in its cookie.
    pub fn skip_cookie(
        self,
        skip: impl Fn(&HttpRequest, &ResponseHead) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.set_web(|web| web.skip_cookie = Some(Box::new(skip)))
    }
}

impl<T: Databag, S: Store> Sessions<T, S> {
    /// Returns the cookie that presents a token, as a test's request carries it. As an answer's it would be a
    /// browser-session cookie: it has no `Max-Age`, and no `Partitioned`.
    pub fn cookie(&self, token: &Token) -> Cookie<'static> {
        let settings = self.core.web.cookie.settings();
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
