//! What is looked at before the log is opened, and said in one sentence if it will not do.

use std::sync::atomic::Ordering;

use evergate_domain::{Level, StreamPolicies};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, Value, cmd};

use super::keys::{Keys, Slot};
use super::node::Place;
use super::topology::Layout;
use super::url::Deployment;
use super::{RedisOpenError, RedisOptions, budget, levels, library, link, reply};

/// The settings that there is advice about.
const SETTINGS: &[&str] = &["min-replicas-to-write", "min-replicas-max-lag", "client-output-buffer-limit"];
/// Says which of the servers without a cluster this one is.
const SHARD_KEY: &str = "evergate:shard";

/// Connects to a primary and looks at everything.
pub(super) async fn check_at(
    options: &RedisOptions,
    policies: &StreamPolicies,
    place: &Place,
) -> Result<(), RedisOpenError> {
    let connection = link::connect(options, &place.address, None).await;
    let mut connection = connection.map_err(|error| Check { options, place }.reached(&error))?;
    check(options, place, &mut connection).await?;
    let advice = budget::advice(policies, place, &mut connection).await;
    if let Some(advice) = advice.map_err(|error| Check { options, place }.failed(&error))? {
        tracing::warn!("{advice}");
    }
    Ok(())
}

/// Looks at everything, over a connection that nobody else uses meanwhile.
pub(super) async fn check(
    options: &RedisOptions,
    place: &Place,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisOpenError> {
    let check = Check { options, place };
    let info = check.info(connection).await?;
    check.version(&info)?;
    check.role(&info)?;
    check.eviction(&info)?;
    check.advise(&info, connection).await;
    identity(options, place, connection).await?;
    check.names(connection).await?;
    check.levels(connection).await?;
    // What a cluster gave nothing to has no key under which anything could be done.
    let key = place.library_key.lock().clone();
    if let Some(key) = key {
        check.library(connection, &key).await?;
        check.permissions(connection).await?;
    }
    place.checked.store(true, Ordering::Release);
    Ok(())
}

/// Makes sure that a server which shares the keys with others is the one it is taken for.
pub(super) async fn identity(
    options: &RedisOptions,
    place: &Place,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisOpenError> {
    let Some(wanted) = &place.identity else { return Ok(()) };
    let check = Check { options, place };
    for _ in 0..2 {
        let found = link::send(connection, cmd("GET").arg(SHARD_KEY)).await;
        match reply::text(found.map_err(|error| check.failed(&error))?) {
            Some(found) if found == *wanted => return Ok(()),
            Some(found) => {
                return Err(RedisOpenError::Divided { at: check.at(), found, wanted: wanted.clone() });
            }
            None => {}
        }
        let note = link::send(connection, cmd("SET").arg(SHARD_KEY).arg(wanted).arg("NX")).await;
        match note {
            Ok(_) => {}
            // It can be read from. What was noted before it ran full or was cut off still holds.
            Err(error) if matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS")) => return Ok(()),
            Err(error) => return Err(check.failed(&error)),
        }
    }
    Ok(())
}

struct Check<'a> {
    options: &'a RedisOptions,
    place: &'a Place,
}

impl Check<'_> {
    fn at(&self) -> String {
        self.place.address.to_string()
    }

    fn in_cluster(&self) -> bool {
        matches!(self.options.url.deployment(), Deployment::Cluster { .. })
    }

    fn reached(&self, error: &RedisError) -> RedisOpenError {
        let why = error.to_string();
        let login = error.kind() == ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
            || why.contains("AUTH");
        if login {
            RedisOpenError::Login { at: self.at(), why }
        } else {
            RedisOpenError::Unreachable { at: self.at(), why }
        }
    }

    fn failed(&self, error: &RedisError) -> RedisOpenError {
        match error.code() {
            Some("NOPERM") => RedisOpenError::Permissions { commands: lacking(error) },
            Some("NOAUTH") => self.reached(error),
            Some(_) | None => RedisOpenError::Failed { at: self.at(), why: error.to_string() },
        }
    }

    async fn info(&self, connection: &mut MultiplexedConnection) -> Result<String, RedisOpenError> {
        let info = link::send(connection, &cmd("INFO")).await.map_err(|error| self.failed(&error))?;
        reply::text(info)
            .ok_or_else(|| RedisOpenError::Failed { at: self.at(), why: "INFO is no text".to_owned() })
    }

    fn version(&self, info: &str) -> Result<(), RedisOpenError> {
        let version = field(info, "redis_version").unwrap_or("unknown");
        let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
        if major.is_some_and(|major| major >= 7) || field(info, "valkey_version").is_some() {
            Ok(())
        } else {
            Err(RedisOpenError::TooOld { at: self.at(), version: version.to_owned() })
        }
    }

    fn role(&self, info: &str) -> Result<(), RedisOpenError> {
        let clustered = field(info, "cluster_enabled") == Some("1");
        match (clustered, self.in_cluster()) {
            (true, false) => return Err(RedisOpenError::Cluster { at: self.at() }),
            (false, true) => return Err(RedisOpenError::NoCluster { at: self.at() }),
            (true, true) | (false, false) => {}
        }
        if field(info, "role") == Some("slave") {
            let part = |name| field(info, name).unwrap_or("?");
            let primary = format!("{}:{}", part("master_host"), part("master_port"));
            return Err(RedisOpenError::Replica { at: self.at(), primary });
        }
        Ok(())
    }

    fn eviction(&self, info: &str) -> Result<(), RedisOpenError> {
        match field(info, "maxmemory_policy") {
            Some(policy) if policy.starts_with("allkeys") => {
                Err(RedisOpenError::Evicts { at: self.at(), policy: policy.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What will do, but not well. docs/redis.md says more.
    async fn advise(&self, info: &str, connection: &mut MultiplexedConnection) {
        for advice in advice_at(self.options, info, connection).await {
            tracing::warn!(at = self.at(), "{advice}");
        }
    }

    async fn library(&self, connection: &mut MultiplexedConnection, key: &str) -> Result<(), RedisOpenError> {
        match library::ensure(connection, key).await.map_err(|error| self.failed(&error))? {
            library::Loaded::Present => {}
            library::Loaded::Newer(version) => tracing::warn!(
                version,
                "Redis holds a newer function library than this build's, and it is used as it is; upgrade this node too"
            ),
            library::Loaded::Replaced(before) => {
                tracing::info!(?before, "the function library was loaded into Redis");
            }
        }
        Ok(())
    }

    async fn permissions(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisOpenError> {
        let mut permitted = cmd("FCALL_RO");
        let tag = self.place.slots.lock().first().map_or_else(String::new, ToString::to_string);
        permitted.arg("evergate_1_permitted").arg(1).arg(format!("evergate:{{{tag}}}:permitted"));
        permitted.arg(format!("evergate:{{{tag}}}:live:permitted"));
        let answer = link::send(connection, &permitted).await.map_err(|error| self.failed(&error))?;
        let lacking = reply::words(answer).unwrap_or_default();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(RedisOpenError::Permissions { commands: lacking.join(", ") })
        }
    }

    /// Streams that are configured by their full names must have been made as they are configured. Of
    /// the others it is found out when something is appended to them.
    async fn levels(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisOpenError> {
        let slots = self.place.slots.lock().clone();
        let mut named: Vec<_> =
            self.options.levels.named.exact().map(|(stream, &level)| (Keys::of(stream), level)).collect();
        named.retain(|(keys, _)| slots.contains(&keys.slot));
        for named in named.chunks(LEVEL_STREAMS) {
            let mut pipe = redis::pipe();
            for (keys, _) in named {
                pipe.cmd("HGET").arg(keys.meta()).arg("level");
            }
            let made = connection.send_packed_commands(&pipe, 0, named.len()).await;
            for ((keys, configured), made) in named.iter().zip(made.map_err(|error| self.failed(&error))?) {
                if let Value::ServerError(error) = made {
                    return Err(self.failed(&error.into()));
                }
                let made = reply::text(made).and_then(|made| levels::level(&made));
                if let Some(made) = made.filter(|made| made != configured) {
                    let (stream, configured) = (keys.stream().clone(), *configured);
                    return Err(RedisOpenError::Level { stream, made, configured });
                }
            }
        }
        Ok(())
    }

    /// The names that every log uses. Those of streams are looked at when a stream is begun.
    async fn names(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisOpenError> {
        let (slots, layout) = match self.options.url.deployment() {
            Deployment::Primaries(list) => (Slot::all(), Some(Layout::divided(list.clone()))),
            Deployment::Sentinel { .. } => (Slot::all(), None),
            Deployment::Cluster { .. } => (self.place.slots.lock().clone(), None),
        };
        let names: Vec<_> = slots
            .into_iter()
            .flat_map(|slot| [(slot, slot.record(), "hash"), (slot, slot.streams(), "set")])
            .collect();
        let mut pipe = redis::pipe();
        for (_, key, _) in &names {
            pipe.cmd("TYPE").arg(key);
        }
        let types = connection.send_packed_commands(&pipe, 0, names.len()).await;
        for ((slot, key, wanted), found) in names.into_iter().zip(types.map_err(|error| self.failed(&error))?)
        {
            let found = match found {
                Value::ServerError(error) => return Err(self.failed(&error.into())),
                found => reply::text(found).unwrap_or_default(),
            };
            if found == "none" {
                continue;
            }
            if found != wanted {
                return Err(RedisOpenError::Foreign { key, found, wanted });
            }
            let owner = layout.as_ref().and_then(|layout| layout.owner(slot.hash_slot()));
            if let Some(owner) = owner.filter(|owner| **owner != self.place.address) {
                return Err(RedisOpenError::Misplaced {
                    at: self.at(),
                    slot: slot.number(),
                    elsewhere: owner.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Streams whose levels are asked for in one round trip.
const LEVEL_STREAMS: usize = 1000;

/// What should be changed about this server, a sentence each.
pub(super) async fn advice_at(
    options: &RedisOptions,
    info: &str,
    connection: &mut MultiplexedConnection,
) -> Vec<String> {
    let replicas = field(info, "connected_slaves").and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    let settings = match link::send(connection, cmd("CONFIG").arg("GET").arg(SETTINGS)).await {
        Ok(settings) => pairs(settings),
        Err(error) => {
            tracing::info!(%error, "the settings of Redis cannot be looked at");
            vec![]
        }
    };
    advice(info, &settings, replicas, options)
}

/// What an operator should change, a sentence each.
fn advice(info: &str, settings: &[(String, String)], replicas: u32, options: &RedisOptions) -> Vec<String> {
    let setting =
        |name: &str| settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut advice = Vec::new();
    let mut say = |text: &str| advice.push(text.to_owned());
    if field(info, "maxmemory") == Some("0") {
        say("Redis has no maxmemory: it will take memory until the machine has none; set one");
    }
    if field(info, "maxmemory_policy").is_some_and(|policy| policy != "noeviction") {
        say("Redis' maxmemory-policy may evict keys that expire, stored cursors among them; set noeviction");
    }
    if field(info, "aof_enabled") == Some("0") {
        say("Redis keeps no append-only file: a restart of it forgets everything; set appendonly yes");
    }
    let wanted = options.confirmations.get();
    let confirmed = options.levels.highest() > Level::Home;
    if confirmed && replicas < wanted {
        say(
            "Redis has fewer replicas than must confirm: nothing can be acknowledged at the level REPLICATED until it has them",
        );
    }
    if confirmed && replicas > wanted {
        say(
            "Redis has more replicas than must confirm: one that never had an acknowledged event may be promoted; set redis.confirmations to their number, or promote none by hand",
        );
    }
    let count = |name: &str| setting(name).and_then(|value| value.parse::<u32>().ok());
    let (needed, lag) = (count("min-replicas-to-write"), count("min-replicas-max-lag"));
    if replicas > 0 && (needed == Some(0) || lag == Some(0)) {
        say(
            "a Redis primary that is cut off goes on taking appends that will be lost; set min-replicas-to-write 1 and min-replicas-max-lag 2",
        );
    } else if let Some(needed) = needed.filter(|&needed| needed > replicas && lag != Some(0)) {
        say(&format!(
            "Redis takes no appends before it has {needed} replicas, and it has {replicas}; give it more, or lower min-replicas-to-write"
        ));
    } else if let Some(lag) = lag.filter(|&lag| needed.is_some_and(|needed| needed > 0) && lag > LAG_SECONDS)
    {
        say(&format!(
            "a Redis primary that is cut off goes on for {lag} seconds taking appends that will be lost; set min-replicas-max-lag 2"
        ));
    }
    if let Some(limits) = setting("client-output-buffer-limit")
        && pubsub_limit(limits).is_some_and(|hard| hard != 0 && hard < PUBSUB_BYTES)
    {
        say(
            "Redis cuts a process off its live channels at a backlog of less than 32 MB; raise client-output-buffer-limit pubsub",
        );
    }
    advice
}

/// How long a primary may go on without its replicas. They report every second.
const LAG_SECONDS: u32 = 2;
/// A backlog of live events that a process should be allowed before it is cut off.
const PUBSUB_BYTES: u64 = 32 << 20;

/// The hard limit for Pub/Sub, in bytes, of `normal 0 0 0 slave … pubsub 33554432 8388608 60`.
fn pubsub_limit(limits: &str) -> Option<u64> {
    let mut words = limits.split_whitespace().skip_while(|&word| word != "pubsub");
    words.nth(1)?.parse().ok()
}

/// The answer to CONFIG GET, in either protocol.
pub(super) fn pairs(value: Value) -> Vec<(String, String)> {
    match value {
        Value::Map(pairs) => pairs
            .into_iter()
            .filter_map(|(name, value)| Some((reply::text(name)?, reply::text(value)?)))
            .collect(),
        flat => reply::words(flat)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
    }
}

/// What Redis says is not permitted: the command in quotes, or the sentence.
fn lacking(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or("a command");
    if detail.contains("keys") {
        return "keys that begin with \"evergate:\"".to_owned();
    }
    detail.split('\'').nth(1).map_or_else(|| detail.to_owned(), str::to_uppercase)
}

/// A field of INFO.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use evergate_domain::StreamLevels;

    use super::*;

    fn told(info: &str, settings: &[(&str, &str)], replicas: u32, level: Level) -> String {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = super::super::RedisUrl::parse("redis://h").expect("valid");
        let levels = StreamLevels::all(level);
        advice(info, &settings, replicas, &RedisOptions { levels, ..RedisOptions::new(url) }).join("; ")
    }

    #[test]
    fn every_advice_has_its_reason() {
        let good = "maxmemory:1000\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        let settings = [
            ("min-replicas-to-write", "1"),
            ("min-replicas-max-lag", "2"),
            ("client-output-buffer-limit", "normal 0 0 0 slave 1 1 1 pubsub 33554432 8388608 60"),
        ];
        assert_eq!(told(good, &settings, 1, Level::Replicated), "");
        assert_eq!(told(good, &[], 1, Level::Replicated), "", "nothing is said about what cannot be seen");
        assert!(told(&good.replace(":1000", ":0"), &settings, 1, Level::Home).contains("no maxmemory"));
        assert!(
            told(&good.replace("noeviction", "volatile-lru"), &settings, 1, Level::Home).contains("evict")
        );
        assert!(
            told(&good.replace("enabled:1", "enabled:0"), &settings, 1, Level::Home).contains("appendonly")
        );
        assert!(told(good, &settings, 0, Level::Replicated).contains("fewer replicas"));
        assert!(told(good, &settings, 2, Level::Replicated).contains("redis.confirmations"));
        assert_eq!(told(good, &settings, 2, Level::Home), "");
        let cut_off = [("min-replicas-to-write", "0")];
        assert!(told(good, &cut_off, 1, Level::Home).contains("min-replicas-to-write 1"));
        assert_eq!(told(good, &cut_off, 0, Level::Home), "", "it would take no appends at all");
        let needing = |many, lag| [("min-replicas-to-write", many), ("min-replicas-max-lag", lag)];
        assert!(
            told(good, &needing("1", "0"), 1, Level::Home).contains("min-replicas-to-write 1"),
            "it is off"
        );
        assert_eq!(told(good, &needing("0", "10"), 0, Level::Home), "");
        assert!(told(good, &needing("1", "10"), 1, Level::Home).contains("goes on for 10 seconds"));
        assert!(told(good, &needing("1", "3"), 1, Level::Home).contains("min-replicas-max-lag 2"));
        assert_eq!(told(good, &needing("1", "1"), 1, Level::Home), "");
        assert!(told(good, &needing("2", "2"), 1, Level::Home).contains("has 2 replicas, and it has 1"));
        assert!(told(good, &needing("1", "2"), 0, Level::Home).contains("lower min-replicas-to-write"));
        assert_eq!(told(good, &needing("1", "0"), 0, Level::Home), "", "it is off");
        assert_eq!(told(good, &needing("2", "2"), 2, Level::Home), "");
        let small = [("client-output-buffer-limit", "normal 0 0 0 pubsub 1048576 8388608 60")];
        assert!(told(good, &small, 1, Level::Home).contains("pubsub"));
        let none = [("client-output-buffer-limit", "normal 0 0 0 pubsub 0 0 0")];
        assert_eq!(told(good, &none, 1, Level::Home), "");
    }
}
