//! The builder's HTTP settings, and what they read from a request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::cookie::{self, Cookie};
use actix_web::dev::ResponseHead;
use actix_web::http::header::{COOKIE, HOST, HeaderName, HeaderValue, USER_AGENT};
use actix_web::http::uri::Authority;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::backend::access::{Access, Backing};
use crate::bag::Databag;
use crate::bag::schema::{Bind, Persistence, SameSite};
use crate::builder::Builder;
use crate::clock::Timestamp;
use crate::engine::config::SessionConfig;
use crate::engine::core::CookieUpdate;
use crate::engine::load::Client;
use crate::error::Rejection;
use crate::http::HttpConfig;
use crate::http::client_ip::{Hop, ProxyHeader};
use crate::http::cookie::{FormerCookie, Found};
use crate::http::development::{FORWARDED, names_this_machine};
use crate::http::transport::{self, Transport};
use crate::request::{CsrfCookieUpdate, RequestToken, RequestVisitor};
use crate::sessions::Sessions;
use crate::token::Token;

/// The header that carries the CSRF token of a form.
pub(super) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// The predicate of `skip_cookie`.
pub(super) type SkipCookie = Box<dyn Fn(&HttpRequest, &ResponseHead) -> bool + Send + Sync>;

/// Returns whether an answer must not carry the cookie.
pub(super) fn skips_cookie(http: &HttpConfig, request: &HttpRequest, head: &ResponseHead) -> bool {
    let skip = http.adapter.as_ref().and_then(|adapter| adapter.downcast_ref::<SkipCookie>());
    skip.is_some_and(|skip| skip(request, head))
}

/// Returns whether a request is answered: during development only one of this machine is.
pub(super) fn is_served(http: &HttpConfig, request: &HttpRequest) -> bool {
    let Some(development) = &http.development else { return true };
    let authority = request.uri().authority().map(|authority| Some(authority.as_str()));
    let hosts = request.headers().get_all(HOST).map(|host| host.to_str().ok()).chain(authority);
    let proxy = forwarded_by(request);
    let peer = request.peer_addr().map(|peer| peer.ip());
    let is_served = development.serves(hosts.clone(), peer, proxy.is_some());
    if !is_served {
        http.warnings.refused_host.call_once(|| {
            tracing::warn!(
                hosts = ?hosts.flatten().collect::<Vec<_>>(),
                proxy,
                "a request is answered 403, because `development()` serves this machine alone, and nothing that a proxy passes \
                 on: name the hosts under which others, or a proxy, may use it, `.development_hosts([\"shop.test\"])`"
            );
        });
    }
    is_served
}

/// Returns the header by which a proxy says that it has passed a request on.
fn forwarded_by(request: &HttpRequest) -> Option<&'static str> {
    FORWARDED.into_iter().find(|header| request.headers().contains_key(*header))
}

/// Returns the host that a request names: HTTP/2 has it in the URI, and so may a request of HTTP/1.1 (RFC 9112 §3.2.2).
pub(super) fn host(request: &HttpRequest) -> Option<&str> {
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(Authority::as_str).or_else(host)
}

/// Returns the name of the header that serves a request; `None` if a cookie does.
pub(super) fn token_header(http: &HttpConfig, request: &HttpRequest) -> Option<&'static str> {
    let is_by_header = http.transport.is_by_header(|name| request.headers().contains_key(name));
    http.transport.header().filter(|_| is_by_header)
}

/// Finds out what a request says of its visitor, for sessions of the bag `T`. `header` is the one that serves it.
pub(super) fn visitor<T: Databag>(
    http: &HttpConfig,
    header: Option<&'static str>,
    request: &HttpRequest,
    config: &SessionConfig,
) -> RequestVisitor {
    let (headers, client) = (request.headers(), client::<T>(http, request, config));
    let is_host_only = http.cookie.settings().is_host_only();
    if let Some(header) = header {
        let token = transport::find(headers.get_all(header).map(HeaderValue::as_bytes));
        return RequestVisitor { token: RequestToken::of(token), client, csrf: None, is_host_only };
    }
    let Found { token, csrf } = http.cookie.find(headers.get_all(COOKIE).map(HeaderValue::as_bytes));
    match token {
        Err(Rejection::Duplicate) => warn_of_two_cookies(http),
        Ok(None) if http.cookie.settings().secure => warn_of_plain_http(http, request),
        _ => {}
    }
    RequestVisitor { token: RequestToken::of(token), client, csrf, is_host_only }
}

/// Says once in the log that a request has two cookies.
fn warn_of_two_cookies(http: &HttpConfig) {
    http.warnings.duplicate_cookie.call_once(|| {
        tracing::warn!(
            cookie = http.cookie.name(),
            "a request has the session cookie more than once, so it is anonymous: if the cookie had another \
             path, domain or `Partitioned` before, name them by `former_cookie`; otherwise another path or \
             host of the site sets a cookie of this name"
        );
    });
}

/// Says once in the log that browsers will drop the cookie that this visitor gets.
fn warn_of_plain_http(http: &HttpConfig, request: &HttpRequest) {
    if http.warnings.plain_http.is_completed()
        || request.app_config().secure()
        || forwarded_by(request).is_some()
    {
        return;
    }
    let Some(host) = host(request).filter(|host| !names_this_machine(host)) else { return };
    http.warnings.plain_http.call_once(|| {
        tracing::warn!(
            host,
            "a new visitor has come by plain http, and over it browsers drop a cookie with `Secure`, so that each request begins \
             another session: serve https, or name the host while you develop, \
             `.development().development_hosts([..])`; if a proxy in front of this server speaks https, let it send \
             `X-Forwarded-For`"
        );
    });
}

/// Finds the client of a request to sessions of the bag `T`.
fn client<T: Databag>(http: &HttpConfig, request: &HttpRequest, config: &SessionConfig) -> Client {
    let agent = config.bind_agent.then(|| {
        let agent = request.headers().get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
        let hash: [u8; 32] = Sha256::digest(agent).into();
        u64::from_be_bytes(*hash.first_chunk().expect("32 bytes have 8"))
    });
    let ip = if T::SCHEMA.has_ip() { client_ip(http, request, config.bind_ip) } else { None };
    let user_agent = if T::SCHEMA.has_user_agent() { user_agent(request) } else { None };
    Client { ip, agent, user_agent }
}

/// Returns what a client says it is, as far as it is worth keeping.
fn user_agent(request: &HttpRequest) -> Option<Arc<str>> {
    const LONGEST: usize = 256;
    // Only visible ASCII and spaces.
    let agent = request.headers().get(USER_AGENT)?.to_str().ok()?;
    Some(agent.get(..LONGEST).unwrap_or(agent).into())
}

/// Finds the address of a client, and says where the settings make it the address of somebody else.
fn client_ip(http: &HttpConfig, request: &HttpRequest, bind: Bind) -> Option<IpAddr> {
    let HttpConfig { proxies, warnings, .. } = http;
    let (header, headers) = (proxies.header.name(), request.headers());
    let peer = peer(request);
    let lines: Vec<&[u8]> = headers.get_all(header).map(HeaderValue::as_bytes).collect();
    let client = proxies.client(peer, lines.into_iter());
    let sent = [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded].map(ProxyHeader::name);
    if proxies.is_empty()
        && let Some(header) = sent.into_iter().find(|header| headers.contains_key(*header))
    {
        warnings.ignored_header.call_once(|| {
            tracing::warn!(
                "a request has the header `{header}`, which is not read, because no proxy is trusted: if this server is \
                 behind proxies, name them in `trusted_proxies`; otherwise a client has made it up"
            );
        });
    }
    if client == peer && client != Hop::Unknown && proxies.trusts_peer(peer) {
        warnings.silent_proxy.call_once(|| {
            tracing::warn!(
                "a trusted proxy names no client in `{header}`, so the session has the address of the proxy, if it has one: \
                 let the proxy append its client to this header, or choose the header that it sends by `proxy_header`"
            );
        });
    }
    if client.ip().is_none() && bind != Bind::Off {
        warnings.unknown_address.call_once(|| {
            tracing::warn!(
                "the address of a client is not known: a session that it begins is bound to none, and one that is bound \
                 does not open; `trusted_proxies` names proxies, also a Unix socket, `unix:`"
            );
        });
    }
    client.ip()
}

/// Finds who is connected. A Unix socket has no address, and neither has a TCP connection that its client has reset while
/// it waited for a worker. To a server on a Unix socket actix-web gives an address to listen on that it makes up.
fn peer(request: &HttpRequest) -> Hop {
    const OF_UNIX_SOCKETS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    match request.peer_addr() {
        Some(peer) => Hop::of_ip(peer.ip()),
        None if request.app_config().local_addr() == OF_UNIX_SOCKETS => Hop::Unix,
        None => Hop::Unknown,
    }
}

/// Writes the `Set-Cookie` headers of an update. The live cookie is the last one, for clients that know cookies by their
/// names alone.
pub(super) fn set_cookies(
    http: &HttpConfig,
    update: &CookieUpdate,
    now: Timestamp,
) -> Vec<Zeroizing<String>> {
    let removals = http.cookie.former_removals().iter();
    let mut cookies: Vec<_> = removals.map(|removal| Zeroizing::new(removal.clone())).collect();
    cookies.push(match update {
        CookieUpdate::Set { token, persistent, expires } => {
            http.cookie.set(token, *persistent, expires.saturating_since(now))
        }
        CookieUpdate::Remove => Zeroizing::new(http.cookie.removal()),
    });
    cookies
}

/// Writes the header that carries the token of an update. It is empty if the session has ended.
pub(super) fn token_value(update: &CookieUpdate) -> Zeroizing<String> {
    match update {
        CookieUpdate::Set { token, .. } => token.encode(),
        CookieUpdate::Remove => Zeroizing::default(),
    }
}

/// Writes the `Set-Cookie` header of the CSRF cookie.
pub(super) fn csrf_cookie(http: &HttpConfig, update: &CsrfCookieUpdate) -> Zeroizing<String> {
    Zeroizing::new(match update {
        CsrfCookieUpdate::Set(cookie) => http.cookie.csrf_set(cookie),
        CsrfCookieUpdate::Remove => http.cookie.csrf_removal(),
    })
}

/// Settings of sessions over HTTP.
impl<T: Databag, S: Backing, P> Builder<T, S, P> {
    /// Sets what carries the token: the cookie, by default, or a header, for apps and APIs. See [`Transport`].
    pub fn transport(self, transport: Transport) -> Self {
        self.set_http(|http| http.transport = transport)
    }

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
    /// visitor, unless [`Csrf`](crate::Csrf) guards all of them.
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
        self.set(|settings| settings.config.persistent = persistence == Persistence::Persistent)
    }

    /// Allows plain HTTP, for a developer's machine: the cookie loses `Secure` and the prefix of its name, and what browsers
    /// accept with `Secure` only: `Partitioned`, and `SameSite=None`, which becomes `Lax`.
    ///
    /// Only this machine is served: a request from elsewhere, or for another host than `localhost`, `*.localhost` and the
    /// loopback's addresses, is answered 403 by the middleware. So a program that goes into production like this is
    /// noticed, and no page on the web reaches it by a name of its own (DNS rebinding).
    ///
    /// A proxy on this machine connects from it, and may send `Host: localhost` for everybody. So a request with a header that
    /// proxies add (`Forwarded`, `Via`, `X-Forwarded-For`, `-Host` and `-Proto`, `X-Real-IP`) is answered 403 too, and `build`
    /// refuses [`trusted_proxies`](Self::trusted_proxies), unless [`development_hosts`](Self::development_hosts) names a host;
    /// such a request needs one of these. A proxy that adds none of them, as nginx without further settings, cannot be told
    /// from a browser on this machine: do not put one in front.
    pub fn development(self) -> Self {
        self.set_http(|http| {
            http.cookie.insecure();
            http.is_development = true;
        })
    }

    /// Names further hosts, without ports, for which [`development`](Self::development) serves requests, from any machine and
    /// through proxies.
    pub fn development_hosts<I: AsRef<str>>(self, hosts: impl IntoIterator<Item = I>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.as_ref().to_owned()).collect();
        self.set_http(|http| http.development_hosts = hosts)
    }

    /// Names a cookie that an earlier version of the program has set: call it when you change the cookie's name, path,
    /// domain or `Partitioned`, once for each cookie that browsers may still have; the calls add up. Each answer that sets or removes the
    /// session cookie, as after a log-in or a log-out, then removes the former one too.
    ///
    /// Browsers keep a cookie with other attributes beside the new one and send both. A request with both is anonymous
    /// ([`Rejection::Duplicate`]), because a neighbouring host could have set one of
    /// them; without this setting it stays so after each log-in, until the visitor deletes the cookies.
    ///
    /// The session of a cookie with a former name is not taken over, so its visitor has to log in again. A cookie that
    /// equals the current one is left alone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_runtime::{Databag, Error, FormerCookie, Keyring, Sessions, SqliteStore};
    /// #[derive(Databag)]
    /// #[databag(cookie = "shop", domain = "example.com")] // was: path = "/shop"
    /// struct Shop {
    ///     visits: u32,
    /// }
    ///
    /// # async fn start(store: SqliteStore, keyring: Keyring) -> Result<(), Error> {
    /// let sessions = Sessions::<Shop>::builder(store)
    ///     .keyring(keyring)
    ///     .former_cookie(FormerCookie::named("shop").path("/shop"))
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn former_cookie(self, cookie: FormerCookie) -> Self {
        self.set_http(|http| http.cookie.former.push(cookie))
    }

    /// Names the proxies in front of this server, as addresses or networks (`10.0.0.0/8`), instead of those named before. Only
    /// their entries in the [`proxy_header`](Self::proxy_header) are used: other clients can claim any address there.
    ///
    /// `unix:` stands for proxies that connect through a Unix socket. With it, do not let the server listen on
    /// `127.0.0.1:8080` as well, nor in a test service: actix-web reports this address for Unix sockets, so a connection to
    /// it that was reset would pass for a proxy.
    pub fn trusted_proxies<I: AsRef<str>>(self, proxies: impl IntoIterator<Item = I>) -> Self {
        let proxies = proxies.into_iter().map(|proxy| proxy.as_ref().to_owned()).collect();
        self.set_http(|http| http.trusted_proxies = proxies)
    }

    /// Trusts everything that connects to this server as a proxy, for a server behind proxies whose addresses are not known.
    /// Whoever else can connect to it can claim any address, and open a stolen session that is bound to one.
    ///
    /// The last entry of the header is then the client, unless [`trusted_proxies`](Self::trusted_proxies) names it.
    pub fn danger_trust_every_peer(self) -> Self {
        self.set_http(|http| http.trusts_every_peer = true)
    }

    /// Sets the header in which the trusted proxies name their clients; `X-Forwarded-For` by default. Choose the one that
    /// they append to: they pass on the other one as the client has written it.
    pub fn proxy_header(self, header: ProxyHeader) -> Self {
        self.set_http(|http| http.proxy_header = header)
    }

    /// Names other origins whose pages may send forms to handlers that [`Csrf`](crate::Csrf) guards, such as
    /// `https://app.example.com`, instead of those named before. A form needs a token all the same.
    ///
    /// Name the site's own origin if a proxy changes the `Host` of requests.
    pub fn trusted_origins<I: AsRef<str>>(self, origins: impl IntoIterator<Item = I>) -> Self {
        let origins = origins.into_iter().map(|origin| origin.as_ref().to_owned()).collect();
        self.set_http(|http| http.trusted_origins = origins)
    }

    /// Redirects browsers whose visitors are not logged in to this location (303) where a handler asks for
    /// [`LoggedIn`](crate::LoggedIn), instead of answering 401: see [`NotLoggedIn`](crate::NotLoggedIn).
    /// [`LoginPages`](crate::LoginPages) set it for one scope.
    pub fn login_redirect(self, location: impl Into<String>) -> Self {
        self.set_http(|http| http.login_redirect = Some(location.into()))
    }

    /// Redirects browsers to this location (303) where a handler asks for a [`Fresh`](crate::Fresh) session and the log-in was
    /// longer ago, instead of answering 403: see [`NotFresh`](crate::NotFresh).
    pub fn reauthentication_redirect(self, location: impl Into<String>) -> Self {
        self.set_http(|http| http.reauthentication_redirect = Some(location.into()))
    }

    /// Sends no cookie, and no header of a [`Transport`], with the answers for which `skip` returns true, such as those for a
    /// shared cache. A new visitor's session is then not stored. A session whose id changes gets its cookie all the same, and so does every change
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
    /// Returns the cookie of a token, for requests in tests. Its `Debug` is actix-web's, and shows the token. In an answer it would be a browser-session cookie: it has no
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
