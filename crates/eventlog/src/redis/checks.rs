//! What is looked at before the log is opened, and said in one sentence if it will not do.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, Value, cmd};

use super::keys::Slot;
use super::{RedisOpenError, RedisOptions, library, link, reply};

/// Looks at everything.
pub(super) async fn check(options: &RedisOptions) -> Result<(), RedisOpenError> {
    let check = Check { options };
    let mut connection = link::connect(options, None).await.map_err(|error| check.reached(&error))?;
    let info = check.info(&mut connection).await?;
    check.version(&info)?;
    check.role(&info)?;
    check.eviction(&info)?;
    check.advise(&info);
    check.library(&mut connection).await?;
    check.permissions(&mut connection).await?;
    check.names(&mut connection).await
}

struct Check<'a> {
    options: &'a RedisOptions,
}

impl Check<'_> {
    fn at(&self) -> String {
        self.options.url.at().to_owned()
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
        if field(info, "cluster_enabled") == Some("1") {
            return Err(RedisOpenError::Cluster { at: self.at() });
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
    fn advise(&self, info: &str) {
        let at = self.options.url.at();
        if field(info, "maxmemory") == Some("0") {
            tracing::warn!(
                at,
                "Redis has no maxmemory: it will take memory until the machine has none; set one"
            );
        }
        if field(info, "aof_enabled") == Some("0") {
            tracing::warn!(
                at,
                "Redis keeps no append-only file: a restart of it forgets everything; set appendonly yes"
            );
        }
        let replicas = field(info, "connected_slaves").and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        if self.options.level > evergate_domain::Level::Home && replicas == 0 {
            tracing::warn!(
                at,
                "Redis has no replica: nothing can be acknowledged at the level REPLICATED until it has one"
            );
        }
    }

    async fn library(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisOpenError> {
        match library::ensure(connection).await.map_err(|error| self.failed(&error))? {
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
        permitted.arg("evergate_1_permitted").arg(1).arg("evergate:{0}:permitted");
        permitted.arg("evergate:{0}:live:permitted");
        let answer = link::send(connection, &permitted).await.map_err(|error| self.failed(&error))?;
        let lacking = reply::words(answer).unwrap_or_default();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(RedisOpenError::Permissions { commands: lacking.join(", ") })
        }
    }

    /// The names that every log uses. Those of streams are looked at when a stream is begun.
    async fn names(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisOpenError> {
        let names: Vec<_> = Slot::all()
            .into_iter()
            .flat_map(|slot| [(slot.record(), "hash"), (slot.streams(), "set")])
            .collect();
        let mut pipe = redis::pipe();
        for (key, _) in &names {
            pipe.cmd("TYPE").arg(key);
        }
        let types = connection.send_packed_commands(&pipe, 0, names.len()).await;
        for ((key, wanted), found) in names.into_iter().zip(types.map_err(|error| self.failed(&error))?) {
            let found = match found {
                Value::ServerError(error) => return Err(self.failed(&error.into())),
                found => reply::text(found).unwrap_or_default(),
            };
            if found != "none" && found != wanted {
                return Err(RedisOpenError::Foreign { key, found, wanted });
            }
        }
        Ok(())
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

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
