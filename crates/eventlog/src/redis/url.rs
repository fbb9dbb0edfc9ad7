//! The address of a Redis, as `redis://[user:password@]host[:port][/database]`.

use std::str::FromStr as _;

use super::RedisOpenError;

const DATABASE_MAX: u32 = 1_000_000;

/// A proven address.
#[derive(Clone)]
pub struct RedisUrl {
    /// Without user and password, for messages.
    at: String,
    database: u32,
    info: redis::ConnectionInfo,
}

impl RedisUrl {
    /// Reads an address. What it refuses is said without repeating a password.
    pub fn parse(text: &str) -> Result<Self, RedisOpenError> {
        let url = |what: &str| RedisOpenError::Url(what.to_owned());
        let rest = match text.split_once("://") {
            Some(("redis", rest)) => rest,
            Some((scheme @ ("rediss" | "redis-sentinel" | "redis-cluster"), _)) => {
                return Err(url(&format!(
                    "begins with {scheme}://, which this build cannot use; write redis://HOST:PORT"
                )));
            }
            Some((scheme, _)) => {
                return Err(url(&format!("begins with {scheme}://; write redis://HOST:PORT")));
            }
            None => return Err(url("has no scheme; write redis://HOST:PORT")),
        };
        if rest.contains(['?', '#']) {
            return Err(url(
                "has a query or fragment, which means nothing here; a ? or # in a password is written %3F or %23",
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) =
            authority.rsplit_once('@').map_or(("", authority), |(login, place)| (login, place));
        if login.contains('@') {
            return Err(url("has two @; one in a password is written %40"));
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            Some(_) | None => (place, "6379"),
        };
        if host.is_empty() {
            return Err(url("names no host; write redis://HOST:PORT"));
        }
        let port = port.parse::<u16>().ok().filter(|&port| port > 0);
        let port = port.ok_or_else(|| url("has no port from 1 to 65535 after the host"))?;
        let database =
            if path.is_empty() { Some(0) } else { path.parse().ok().filter(|&n| n <= DATABASE_MAX) };
        let database =
            database.ok_or_else(|| url("ends in something that is no database number, such as /0"))?;
        let at = format!("{host}:{port}");
        let login = if login.is_empty() { String::new() } else { format!("{login}@") };
        let info = redis::ConnectionInfo::from_str(&format!("redis://{login}{at}/{database}"))
            .map_err(|_| url("is malformed; write redis://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @ in a password"))?;
        Ok(Self { at, database, info })
    }

    /// Host and port.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    pub(super) fn database(&self) -> u32 {
        self.database
    }

    pub(super) fn info(&self) -> redis::ConnectionInfo {
        self.info.clone()
    }
}

/// Never shows a password.
impl std::fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "redis://{}/{}", self.at, self.database)
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let login = |url: &Self| {
            let settings = url.info.redis_settings();
            (settings.username().map(str::to_owned), settings.password().map(str::to_owned))
        };
        (&self.at, self.database) == (&other.at, other.database) && login(self) == login(other)
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
        ] {
            assert_eq!(format!("{:?}", RedisUrl::parse(text).expect(text)), shown);
        }
        let url = RedisUrl::parse("redis://user:p%40ss@h").expect("valid");
        let settings = url.info();
        let settings = settings.redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("user"), Some("p@ss")));
    }

    #[test]
    fn a_typo_is_told_without_the_password() {
        for bad in [
            "localhost:6379",
            "redis:/localhost",
            "http://localhost",
            "rediss://secret@h",
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
        ] {
            let error = RedisUrl::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("the Redis URL "), "{error}");
            assert!(!error.contains("sec"), "{error}");
        }
    }
}
