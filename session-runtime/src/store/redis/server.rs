//! Checks of a server before it is used.

use redis::{ErrorKind, FromRedisValue as _, ServerErrorKind};

use super::failure::Failure;
use super::link::Link;

/// Checks that no server is too old, and warns of servers that may evict sessions. A server that does not let its user ask
/// is used all the same.
pub(super) async fn check_server(link: &Link) -> Result<(), Failure> {
    let info = match link.ask_all(&redis::cmd("INFO")).await {
        Err(Failure::Redis(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
            tracing::warn!(
                %error,
                "Redis does not let its user run INFO: its version, which must be 6.2 or later, and its \
                 maxmemory-policy, which should be noeviction, are not checked"
            );
            return Ok(());
        }
        info => info?,
    };
    for info in texts(info) {
        if let Some(policy) = eviction(&info)? {
            tracing::warn!(
                policy,
                "Redis may evict sessions when its memory is full, and the indexes by which a user's sessions are found \
                 and revoked: set maxmemory-policy to noeviction"
            );
        }
    }
    Ok(())
}

/// Reads the answer to `INFO`: the policy by which the server may evict sessions, or why it is too old.
fn eviction(info: &str) -> Result<Option<&str>, Failure> {
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = of("redis_version").unwrap_or("without a version");
    let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2) {
        return Err(Failure::OldServer(version.to_owned()));
    }
    let is_limited = of("maxmemory").is_some_and(|limit| limit != "0");
    Ok(of("maxmemory_policy").filter(|policy| is_limited && *policy != "noeviction"))
}

/// Returns the texts of an answer: one, or one for each node.
fn texts(value: redis::Value) -> Vec<String> {
    match value {
        redis::Value::Map(nodes) => nodes.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        redis::Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        value => String::from_redis_value(value).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        for version in ["6.2.0", "6.10.1", "7.0.15", "8.0.0-rc1", "10.0.0"] {
            assert!(eviction(&format!("# Server\r\nredis_version:{version}\r\n")).is_ok(), "{version}");
        }
        for version in ["6.0.20", "5.0.14", "2.8.2400", "", "x"] {
            let info = format!("redis_version:{version}\r\nvalkey_version:9.0.0\r\n");
            assert!(eviction(&info).is_err(), "{version}");
        }
        let error = eviction("").expect_err("it does not say").to_string();
        assert_eq!(error, "Redis without a version is too old: 6.2 or later is needed");
    }

    #[test]
    fn an_eviction_policy_matters_only_with_a_memory_limit() {
        for (limit, policy, warned) in [
            ("0", "allkeys-lru", None),
            ("1048576", "noeviction", None),
            ("1048576", "volatile-ttl", Some("volatile-ttl")),
        ] {
            let info = format!(
                "redis_version:7.0.15\r\nmaxmemory:{limit}\r\nmaxmemory_human:1M\r\nmaxmemory_policy:{policy}\r\n"
            );
            assert_eq!(eviction(&info).expect("it is new enough"), warned);
        }
    }
}
