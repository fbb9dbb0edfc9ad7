//! The address of a Redis deployment.
//!
//! ```text
//!   redis://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DATABASE]     one primary, or several that share the keys
//!   redis-sentinel://[USER:PASSWORD@]HOST[:PORT],…/NAME[/DATABASE]    the primary that Sentinel calls NAME
//!   redis-cluster://[USER:PASSWORD@]HOST[:PORT],…                     a cluster, found by any of its nodes
//! ```
//! `rediss://`, `rediss-sentinel://` and `rediss-cluster://` are the same over TLS.

use std::fmt;
use std::str::FromStr as _;

use redis::IntoConnectionInfo as _;

use super::RedisOpenError;
use super::address::Address;

const DATABASE_MAX: u32 = 1_000_000;
const FORM: &str = "write redis://HOST:PORT, redis-sentinel://HOST:PORT,HOST:PORT/NAME or redis-cluster://HOST:PORT,HOST:PORT";

/// A proven address.
#[derive(Clone)]
pub struct RedisUrl {
    deployment: Deployment,
    tls: bool,
    database: u32,
    /// User and password, as the client library reads them.
    login: redis::RedisConnectionInfo,
}

/// What kind of servers stand at an address, and how they are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deployment {
    /// One primary, or several among which the keys are divided in this order.
    Primaries(Vec<Address>),
    /// The primary that these Sentinels know under this name.
    Sentinel { sentinels: Vec<Address>, name: String },
    /// The cluster to which these nodes belong.
    Cluster { seeds: Vec<Address> },
}

impl RedisUrl {
    /// Reads an address. What it refuses is said without repeating a password.
    pub fn parse(text: &str) -> Result<Self, RedisOpenError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(format!("has no scheme; {FORM}")));
        };
        let (kind, tls) = match scheme {
            "redis" | "redis-sentinel" | "redis-cluster" => (scheme, false),
            "rediss" => ("redis", true),
            "rediss-sentinel" => ("redis-sentinel", true),
            "rediss-cluster" => ("redis-cluster", true),
            _ => return Err(wrong(format!("begins with {scheme}://; {FORM}"))),
        };
        if rest.contains(['?', '#']) {
            return Err(wrong(
                "has a query or fragment, which means nothing here; a ? or # in a password is written %3F or %23",
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, places) =
            authority.rsplit_once('@').map_or(("", authority), |(login, places)| (login, places));
        if login.contains('@') {
            return Err(wrong("has two @; one in a password is written %40"));
        }
        let port = if kind == "redis-sentinel" { 26_379 } else { 6379 };
        let addresses: Vec<Address> =
            places.split(',').map(|place| address(place, port)).collect::<Result<_, _>>()?;
        for (n, address) in addresses.iter().enumerate() {
            if addresses[..n].contains(address) {
                return Err(wrong(format!("names {address} twice")));
            }
        }
        let (deployment, database) = match kind {
            "redis-sentinel" => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(wrong(
                        "names no primary; write redis-sentinel://HOST:PORT,HOST:PORT/NAME, with the name that Sentinel monitors",
                    ));
                }
                (Deployment::Sentinel { sentinels: addresses, name: name.to_owned() }, database)
            }
            "redis-cluster" => {
                if !matches!(path, "" | "0") {
                    return Err(wrong("names a database, but a cluster has only database 0"));
                }
                (Deployment::Cluster { seeds: addresses }, "")
            }
            _ => (Deployment::Primaries(addresses), path),
        };
        let database =
            if database.is_empty() { Some(0) } else { database.parse().ok().filter(|&n| n <= DATABASE_MAX) };
        let database =
            database.ok_or_else(|| wrong("ends in something that is no database number, such as /0"))?;
        Ok(Self { deployment, tls, database, login: login_of(login)? })
    }

    pub(super) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    pub(super) fn database(&self) -> u32 {
        self.database
    }

    /// How to connect to one of the servers.
    pub(super) fn info(&self, address: &Address) -> redis::ConnectionInfo {
        let (host, port) = (address.host().to_owned(), address.port());
        let addr = if self.tls {
            redis::ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            redis::ConnectionAddr::Tcp(host, port)
        };
        let settings = self.login.clone().set_db(i64::from(self.database));
        addr.into_connection_info().expect("an address is enough").set_redis_settings(settings)
    }

    pub(super) fn tls(&self) -> bool {
        self.tls
    }
}

fn wrong(what: impl Into<String>) -> RedisOpenError {
    RedisOpenError::Url(what.into())
}

fn address(place: &str, default_port: u16) -> Result<Address, RedisOpenError> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (place, None),
    };
    if host.is_empty() {
        return Err(wrong(format!("names no host; {FORM}")));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(wrong("has a host with a colon; an IPv6 address is written [::1]"));
    }
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|&port| port > 0),
        None => Some(default_port),
    };
    let port = port.ok_or_else(|| wrong("has no port from 1 to 65535 after the host"))?;
    Ok(Address::new(host, port))
}

/// User and password, with their escapes read.
fn login_of(login: &str) -> Result<redis::RedisConnectionInfo, RedisOpenError> {
    let login = if login.is_empty() { String::new() } else { format!("{login}@") };
    let info = redis::ConnectionInfo::from_str(&format!("redis://{login}host")).map_err(|_| {
        wrong("has a malformed user or password; write USER:PASSWORD@HOST, with %40 for @ in a password")
    })?;
    Ok(info.redis_settings().clone())
}

/// Never shows a password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        let list =
            |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.deployment {
            Deployment::Primaries(addresses) => {
                write!(f, "redis{s}://{}/{}", list(addresses), self.database)
            }
            Deployment::Sentinel { sentinels, name } => {
                write!(f, "redis{s}-sentinel://{}/{name}/{}", list(sentinels), self.database)
            }
            Deployment::Cluster { seeds } => write!(f, "redis{s}-cluster://{}", list(seeds)),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let login =
            |url: &Self| (url.login.username().map(str::to_owned), url.login.password().map(str::to_owned));
        (&self.deployment, self.tls, self.database) == (&other.deployment, other.tls, other.database)
            && login(self) == login(other)
    }
}

impl Eq for RedisUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://10.0.0.1:7000", "redis://10.0.0.1:7000/0"),
            ("redis://h:1/3", "redis://h:1/3"),
            ("redis://user:p%40ss@h", "redis://h:6379/0"),
            ("redis://:pass@h/", "redis://h:6379/0"),
            ("redis://[::1]:6380/1", "redis://[::1]:6380/1"),
            ("redis://[::1]", "redis://[::1]:6379/0"),
            ("rediss://u:p@a,b:7001/2", "rediss://a:6379,b:7001/2"),
            ("redis-sentinel://a,b:1/main", "redis-sentinel://a:26379,b:1/main/0"),
            ("rediss-sentinel://u:p@a/main/4", "rediss-sentinel://a:26379/main/4"),
            ("redis-cluster://a,b:7001", "redis-cluster://a:6379,b:7001"),
            ("rediss-cluster://u:p@a/0", "rediss-cluster://a:6379"),
        ] {
            assert_eq!(format!("{:?}", RedisUrl::parse(text).expect(text)), shown);
        }
        let url = RedisUrl::parse("redis://user:p%40ss@h").expect("valid");
        let info = url.info(&Address::new("other", 7));
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("user"), Some("p@ss")));
        assert_eq!(info.addr().to_string(), "other:7");
    }

    #[test]
    fn a_typo_is_told_without_the_password() {
        for bad in [
            "localhost:6379",
            "redis:/localhost",
            "http://localhost",
            "redis://",
            "redis://user:secret@",
            "redis://:6379",
            "redis://h:port",
            "redis://h:0",
            "redis://h:65536",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/1/2",
            "redis://u:sec@ret@h",
            "redis://h?db=1",
            "redis://u:sec@h,",
            "redis://u:sec@h,h:6379",
            "redis://u:sec@h,redis://u:sec@g",
            "redis://::1:6379",
            "redis-sentinel://u:sec@h",
            "redis-sentinel://u:sec@h/",
            "redis-sentinel://u:sec@h/name/x",
            "redis-cluster://u:sec@h/1",
        ] {
            let error = RedisUrl::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("the Redis URL "), "{error}");
            assert!(!error.contains("sec"), "{error}");
        }
    }
}
