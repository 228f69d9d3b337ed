//! HTTP in strings: the settings, the cookies, the client's address and the origin of a form. Names no web framework.

pub(crate) mod client_ip;
pub(crate) mod cookie;
pub(crate) mod development;
pub(crate) mod origin;
pub(crate) mod return_path;
pub(crate) mod transport;

use std::any::Any;
use std::fmt;
use std::sync::Once;

use self::client_ip::{ProxyHeader, TrustedProxies};
use self::cookie::{CookieFormat, CookieSettings};
use self::development::DevelopmentHosts;
use self::origin::Origins;
use self::return_path::is_location;
use self::transport::Transport;
use crate::bag::schema::CookieSchema;
use crate::error::Error;

/// The HTTP settings while a builder changes them.
pub(crate) struct HttpSettings {
    pub(crate) transport: Transport,
    pub(crate) cookie: CookieSettings,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) trusts_every_peer: bool,
    pub(crate) proxy_header: ProxyHeader,
    pub(crate) trusted_origins: Vec<String>,
    pub(crate) login_redirect: Option<String>,
    pub(crate) reauthentication_redirect: Option<String>,
    pub(crate) is_development: bool,
    pub(crate) development_hosts: Vec<String>,
    /// A setting of the web framework's adapter, which alone knows its type.
    pub(crate) adapter: Option<Box<dyn Any + Send + Sync>>,
}

/// HTTP settings that are valid together.
pub(crate) struct HttpConfig {
    pub(crate) transport: Transport,
    pub(crate) cookie: CookieFormat,
    pub(crate) proxies: TrustedProxies,
    pub(crate) origins: Origins,
    /// During development, whom this server answers.
    pub(crate) development: Option<DevelopmentHosts>,
    pub(crate) login_redirect: Option<String>,
    pub(crate) reauthentication_redirect: Option<String>,
    pub(crate) adapter: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) warnings: Warnings,
}

/// What is logged once, because each request could say it again.
#[derive(Debug)]
pub(crate) struct Warnings {
    pub(crate) ignored_header: Once,
    pub(crate) silent_proxy: Once,
    pub(crate) unknown_address: Once,
    pub(crate) duplicate_cookie: Once,
    pub(crate) replaced_cookie: Once,
    pub(crate) refused_host: Once,
    pub(crate) plain_http: Once,
}

impl HttpSettings {
    pub(crate) fn new(cookie: &CookieSchema) -> Self {
        Self {
            transport: Transport::default(),
            cookie: CookieSettings::new(cookie),
            trusted_proxies: Vec::new(),
            trusts_every_peer: false,
            proxy_header: ProxyHeader::default(),
            trusted_origins: Vec::new(),
            login_redirect: None,
            reauthentication_redirect: None,
            is_development: false,
            development_hosts: Vec::new(),
            adapter: None,
        }
    }

    /// Checks the settings. In production no other host may be able to set the cookie, nor read it.
    pub(crate) fn check(self, production: bool) -> Result<HttpConfig, Error> {
        if production && self.is_development {
            return Err(Error::Config("`production` and `development` exclude each other".to_owned()));
        }
        self.transport.check()?;
        let cookies_in_production = production && self.transport.uses_cookies();
        if cookies_in_production && !self.cookie.secure {
            return Err(Error::Config(
                "`production` needs a cookie with `Secure`: remove `secure(false)`".to_owned(),
            ));
        }
        if cookies_in_production && !self.cookie.is_host_only() {
            return Err(Error::Config(format!(
                "`production` needs a cookie that no other host can set, and `{}` is not one: write `cookie = \"__Host-{}\"` \
                 without a path and a domain; or leave `production` out, for a cookie that subdomains share",
                self.cookie.name,
                self.cookie.bare_name()
            )));
        }
        if !self.is_development && !self.development_hosts.is_empty() {
            return Err(Error::Config("`development_hosts` needs `development`".to_owned()));
        }
        let development =
            self.is_development.then(|| DevelopmentHosts::new(&self.development_hosts)).transpose()?;
        let trusts_proxies = self.trusts_every_peer || !self.trusted_proxies.is_empty();
        if trusts_proxies && development.as_ref().is_some_and(|development| !development.is_shared()) {
            return Err(Error::Config(
                "`development` serves this machine alone, and a trusted proxy passes on requests from elsewhere: use \
                 `production` behind a proxy, or name the hosts that others may use, `.development_hosts([\"shop.test\"])`"
                    .to_owned(),
            ));
        }
        let locations = [
            ("login_redirect", &self.login_redirect),
            ("reauthentication_redirect", &self.reauthentication_redirect),
        ];
        for (setting, location) in locations {
            if let Some(location) = location
                && !is_location(location)
            {
                return Err(Error::Config(format!(
                    "`{setting}` {location:?} is not a location: write a path or a URL without spaces"
                )));
            }
        }
        Ok(HttpConfig {
            transport: self.transport,
            development,
            origins: Origins::new(&self.trusted_origins, self.cookie.secure)?,
            cookie: self.cookie.check()?,
            proxies: TrustedProxies::new(&self.trusted_proxies, self.trusts_every_peer, self.proxy_header)?,
            login_redirect: self.login_redirect,
            reauthentication_redirect: self.reauthentication_redirect,
            adapter: self.adapter,
            warnings: Warnings {
                ignored_header: Once::new(),
                silent_proxy: Once::new(),
                unknown_address: Once::new(),
                duplicate_cookie: Once::new(),
                replaced_cookie: Once::new(),
                refused_host: Once::new(),
                plain_http: Once::new(),
            },
        })
    }
}

impl HttpConfig {
    /// Returns what requests to these sessions and to the others both have, and so cannot tell them apart.
    pub(crate) fn shared_with(&self, other: &Self) -> Option<String> {
        let headers = self.transport.header().zip(other.transport.header());
        if let Some((header, _)) = headers.filter(|(own, other)| own.eq_ignore_ascii_case(other)) {
            return Some(format!("header, `{header}`"));
        }
        let use_cookies = self.transport.uses_cookies() && other.transport.uses_cookies();
        let cookie = self.cookie.shared_name(&other.cookie).filter(|_| use_cookies)?;
        Some(format!("cookie, `{cookie}`"))
    }

    pub(crate) fn for_test(cookie: &CookieSchema) -> Self {
        HttpSettings::new(cookie).check(false).expect("the derive refuses cookies that browsers drop")
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}
