//! The environment: text enters, settings leave, or one line that says what is wrong.

use std::env::{self, VarError};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use session_runtime::Durability;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
The demo of Databag: a shop in which every visitor has a session. It takes its settings from the environment.

  SHOP_ADDR             where to listen; 127.0.0.1:8080
  SHOP_STORE            where the sessions are: a file, or a URL as `AnyStore::connect` takes it; sqlite:shop.db
  SHOP_DURABILITY       full or normal: what an acknowledged write to SQLite survives; full
  SHOP_SECURE           1 or 0: whether the cookie is for HTTPS only; 0 on loopback, else 1. Without it the pages have a switch
                        that makes SQLite fail
  SHOP_HOSTS            without SHOP_SECURE: under which hosts other machines may use the shop, separated by commas
  SHOP_IDLE             how long a session lives without a request; 30m
  SHOP_ABSOLUTE         the longest life of a session; 12h
  SHOP_TRUSTED_PROXIES  the proxies whose X-Forwarded-For is used, separated by commas
  SESSION_KEY           the keys, as `Keyring::from_env` takes them; without it shop.key, which is made if it is missing
  RUST_LOG              what is logged to stderr; info
";

/// The schemes of stores that are not files.
const SCHEMES: [&str; 21] = [
    "memory",
    "cookie",
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
    "unix",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
    "valkey-sentinel",
    "valkeys-sentinel",
    "valkey+unix",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
];

pub(crate) struct Settings {
    /// The text as configured.
    pub(crate) address: String,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) store: Store,
    pub(crate) durability: Durability,
    pub(crate) secure: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) idle: Option<Duration>,
    pub(crate) absolute: Option<Duration>,
    pub(crate) trusted_proxies: Vec<String>,
}

/// Where the sessions are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Store {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In the store of this URL.
    Url(String),
}

impl fmt::Display for Store {
    /// Shows only the scheme of a URL: the rest may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(scheme(url)),
        }
    }
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self, String> {
        Self::read(|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(format!("{name} is no text")),
        })
    }

    fn read(variable: impl Fn(&str) -> Result<Option<String>, String>) -> Result<Self, String> {
        let one_of = |name: &str, words: [&str; 2]| match variable(name)? {
            Some(value) => match words.iter().position(|word| *word == value) {
                Some(index) => Ok(Some(index)),
                None => Err(format!("{name} is {value:?}; it is `{}` or `{}`", words[0], words[1])),
            },
            None => Ok(None),
        };
        let duration = |name: &str| match variable(name)? {
            Some(value) => match parse_duration(&value) {
                Some(duration) => Ok(Some(duration)),
                None => {
                    Err(format!("{name} is {value:?}; a duration is written as `90s`, `30m`, `12h` or `14d`"))
                }
            },
            None => Ok(None),
        };

        let address = variable("SHOP_ADDR")?.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let resolved = address.to_socket_addrs();
        let addresses: Vec<_> =
            resolved.map_err(|error| format!("SHOP_ADDR is {address:?}: {error}"))?.collect();
        let store = variable("SHOP_STORE")?.unwrap_or_else(|| "sqlite:shop.db".to_owned());
        let list = |name: &str| {
            let text = variable(name)?.unwrap_or_default();
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok::<_, String>(parts.map(str::to_owned).collect())
        };
        Ok(Self {
            store: parse_store(&store)?,
            durability: match one_of("SHOP_DURABILITY", ["full", "normal"])? {
                Some(1) => Durability::Normal,
                _ => Durability::Full,
            },
            secure: match one_of("SHOP_SECURE", ["0", "1"])? {
                Some(given) => given == 1,
                None => !addresses.iter().all(|address| address.ip().is_loopback()),
            },
            idle: duration("SHOP_IDLE")?,
            absolute: duration("SHOP_ABSOLUTE")?,
            hosts: list("SHOP_HOSTS")?,
            trusted_proxies: list("SHOP_TRUSTED_PROXIES")?,
            address,
            addresses,
        })
    }
}

/// Reads where the sessions are: `sqlite:shop.db`, `sqlite:///var/lib/shop.db`, or the URL of another store.
fn parse_store(url: &str) -> Result<Store, String> {
    let path = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    match path {
        Some(path) if !path.is_empty() => Ok(Store::Sqlite(path.into())),
        None if SCHEMES.contains(&scheme(url)) => Ok(Store::Url(url.to_owned())),
        // The URL may contain a password.
        _ => Err(format!(
            "SHOP_STORE is no store that this shop knows; it is written as `sqlite:shop.db`, or begins with one of {}",
            SCHEMES.join(", "),
        )),
    }
}

fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 60 * 60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_setting() {
        let asked = std::cell::RefCell::new(Vec::new());
        let settings = Settings::read(|name| {
            asked.borrow_mut().push(name.to_owned());
            Ok(None)
        });
        assert!(settings.is_ok());
        let asked = asked.into_inner();
        assert!(asked.len() > 6, "{asked:?}");
        for name in asked {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            Ok(variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        })
    }

    fn refusal(name: &str, value: &str) -> String {
        read(&[(name, value)]).err().unwrap_or_else(|| panic!("{name}={value} is accepted"))
    }

    #[test]
    fn an_empty_environment_is_a_shop_on_this_machine() {
        let settings = read(&[]).expect("all have defaults");
        assert_eq!(settings.addresses, ["127.0.0.1:8080".parse().expect("an address")]);
        assert_eq!(settings.store, Store::Sqlite(PathBuf::from("shop.db")));
        assert_eq!(settings.durability, Durability::Full);
        assert!(!settings.secure);
    }

    #[test]
    fn the_cookie_is_secure_wherever_others_can_listen() {
        let secure = |address| read(&[("SHOP_ADDR", address)]).expect("an address").secure;
        assert!(!secure("[::1]:80"));
        assert!(secure("0.0.0.0:80"));
        assert!(secure("192.0.2.1:80"));
        let forced = read(&[("SHOP_SECURE", "1")]).expect("a good value");
        assert!(forced.secure);
    }

    #[test]
    fn a_bad_value_is_refused_by_its_name() {
        let bad = [
            ("SHOP_ADDR", "8080"),
            ("SHOP_STORE", "shop.db"),
            ("SHOP_STORE", "couchdb://127.0.0.1"),
            ("SHOP_STORE", "sqlite:"),
            ("SHOP_DURABILITY", "FULL"),
            ("SHOP_SECURE", "yes"),
            ("SHOP_IDLE", "30"),
            ("SHOP_IDLE", "m"),
            ("SHOP_ABSOLUTE", "1w"),
            ("SHOP_ABSOLUTE", "-1s"),
            ("SHOP_ABSOLUTE", "99999999999999999999d"),
        ];
        for (name, value) in bad {
            let refusal = refusal(name, value);
            assert!(refusal.starts_with(name), "{refusal}");
        }
    }

    #[test]
    fn no_password_of_a_store_is_shown() {
        assert!(!refusal("SHOP_STORE", "postgre://shop:hunter2@db/shop").contains("hunter2"));
        let settings = read(&[("SHOP_STORE", "postgres://shop:hunter2@db/shop")]).expect("a store");
        assert_eq!(settings.store.to_string(), "postgres");
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        let read = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("500ms"), Some(500));
        assert_eq!(read("90s"), Some(90_000));
        assert_eq!(read("30m"), Some(30 * 60_000));
        assert_eq!(read("12h"), Some(12 * 3_600_000));
        assert_eq!(read("14d"), Some(14 * 86_400_000));
    }

    #[test]
    fn a_file_is_named_by_a_url() {
        for (url, path) in
            [("sqlite:a/b.db", "a/b.db"), ("sqlite:/a/b.db", "/a/b.db"), ("sqlite:///a/b.db", "/a/b.db")]
        {
            assert_eq!(parse_store(url), Ok(Store::Sqlite(path.into())));
        }
    }
}
