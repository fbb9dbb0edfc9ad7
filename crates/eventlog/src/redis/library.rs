//! The functions inside Redis: one library, whose name carries its major version.
//!
//! Nodes of mixed versions share a Redis while a deployment rolls, so the library is only ever
//! replaced by a newer one, by one node: the version is compared and the library loaded in one
//! transaction, which fails if another node was faster. Replacing shuts every gate, which costs one
//! epoch per slot.

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, cmd};

/// The library, as Redis loads it.
const SOURCE: &str = include_str!("evergate.lua");
/// Changed by whoever loads the library, so that two who do it at once see each other.
pub(super) const LOADED_KEY: &str = "evergate:library:1";
const ATTEMPTS: usize = 8;

/// The version of the library that this build carries.
pub(super) static VERSION: LazyLock<i64> = LazyLock::new(|| {
    let line = SOURCE.lines().find_map(|line| line.strip_prefix("local VERSION = "));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the library begins with its version, which a test checks")
});

/// What the loading of the library came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaded {
    /// It was there.
    Present,
    /// A newer one was there, which serves this build too.
    Newer(i64),
    /// It was loaded just now, instead of this one.
    Replaced(Option<i64>),
}

/// Sees to it that the library is there, in this version or a newer one. The connection must be
/// used by nobody else meanwhile, and the key be the same for everybody who uses this server.
pub(super) async fn ensure(connection: &mut MultiplexedConnection, key: &str) -> RedisResult<Loaded> {
    ensure_version(connection, key, SOURCE, *VERSION).await
}

async fn ensure_version(
    connection: &mut MultiplexedConnection,
    key: &str,
    source: &str,
    version: i64,
) -> RedisResult<Loaded> {
    for _ in 0..ATTEMPTS {
        let there = present(connection).await?;
        match there {
            Some(there) if there == version => return Ok(Loaded::Present),
            Some(there) if there > version => return Ok(Loaded::Newer(there)),
            Some(_) | None => {}
        }
        let _: () = cmd("WATCH").arg(key).query_async(connection).await?;
        if present(connection).await? != there {
            let _: () = cmd("UNWATCH").query_async(connection).await?;
            continue;
        }
        let mut load = redis::pipe();
        load.atomic().cmd("SET").arg(key).arg(version);
        load.cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(source);
        match load.query_async::<Value>(connection).await? {
            Value::Nil => {}
            _ => return Ok(Loaded::Replaced(there)),
        }
    }
    Err(RedisError::from((redis::ErrorKind::Client, "other nodes load the library again and again")))
}

/// The version that is there.
async fn present(connection: &mut MultiplexedConnection) -> RedisResult<Option<i64>> {
    match cmd("FCALL_RO").arg("evergate_1_version").arg(0).query_async(connection).await {
        Ok(version) => Ok(Some(version)),
        Err(error) if super::error::fate(&error) == super::error::Fate::NoLibrary => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The same library under another version.
    pub(in crate::redis) async fn load_version(
        connection: &mut MultiplexedConnection,
        version: i64,
    ) -> RedisResult<Loaded> {
        ensure_version(connection, LOADED_KEY, &versioned(version), version).await
    }

    /// The library's text, with another version in it.
    pub(in crate::redis) fn versioned(version: i64) -> String {
        let line = format!("local VERSION = {} ", *VERSION);
        assert_eq!(SOURCE.matches(&line).count(), 1, "or nothing would be replaced");
        SOURCE.replacen(&line, &format!("local VERSION = {version} "), 1)
    }

    /// Nodes tell libraries apart by their version alone.
    #[test]
    fn a_changed_library_has_a_new_version() {
        let told = "raise VERSION in evergate.lua if a build with the former text was ever used, then note both here";
        assert_eq!((*VERSION, crc32c::crc32c(SOURCE.as_bytes())), (5, 3_681_329_188), "{told}");
    }

    #[test]
    fn the_library_says_its_name_and_version() {
        assert!(SOURCE.starts_with("#!lua name=evergate_1\n"));
        assert!(*VERSION >= 1);
    }
}
