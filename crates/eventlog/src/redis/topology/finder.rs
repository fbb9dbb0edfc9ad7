//! Asks Sentinels or a cluster's nodes who the primaries are.
//!
//! All of them are asked, and the answer with the highest epoch is believed: whoever was cut off or
//! asleep answers what was true once, under an older epoch.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::task::JoinSet;

use super::super::address::Address;
use super::super::url::Deployment;
use super::super::{RedisOpenError, RedisOptions, link, reply};
use super::layout::Layout;

/// How long the slower ones are waited for once somebody answered.
const GRACE: Duration = Duration::from_millis(250);
/// Of a larger cluster, so many nodes are asked each time, drawn by lot.
const ASKED_MAX: usize = 8;

/// Finds the primaries, again and again.
pub(crate) struct Finder {
    options: Arc<RedisOptions>,
    /// Connections to those who answered.
    lines: HashMap<Address, MultiplexedConnection>,
    /// All nodes of the cluster that were ever heard of, replicas too.
    nodes: BTreeSet<Address>,
}

/// What one of those asked says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Testimony {
    epoch: u64,
    layout: Layout,
    /// Everybody it named.
    nodes: Vec<Address>,
}

impl Finder {
    pub(crate) fn new(options: Arc<RedisOptions>) -> Self {
        Self { options, lines: HashMap::new(), nodes: BTreeSet::new() }
    }

    /// Whether it can ever change who the primaries are.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.options.url.deployment(), Deployment::Primaries(_))
    }

    /// Who the primaries are now.
    pub(crate) async fn find(&mut self) -> Result<Layout, RedisOpenError> {
        let options = Arc::clone(&self.options);
        match options.url.deployment() {
            Deployment::Primaries(primaries) => Ok(Layout::divided(primaries.clone())),
            Deployment::Sentinel { sentinels, name } => {
                let found = self.ask(sentinels, &Question::Sentinel { name: name.clone() }).await;
                found.map(|it| it.layout).map_err(|why| match why {
                    NoAnswer::Silent(why) => RedisOpenError::NoSentinel { at: listed(sentinels), why },
                    NoAnswer::Refused(why) => RedisOpenError::NoSentinel { at: listed(sentinels), why },
                    NoAnswer::Unknown => {
                        RedisOpenError::NotMonitored { at: listed(sentinels), name: name.clone() }
                    }
                })
            }
            Deployment::Cluster { seeds } => {
                self.nodes.extend(seeds.iter().cloned());
                let mut asked: Vec<Address> = self.nodes.iter().cloned().collect();
                fastrand::shuffle(&mut asked);
                asked.truncate(ASKED_MAX);
                let found = self.ask(&asked, &Question::Cluster).await.map_err(|why| match why {
                    NoAnswer::Silent(why) => RedisOpenError::Unreachable { at: listed(seeds), why },
                    NoAnswer::Refused(why) => RedisOpenError::Failed { at: listed(seeds), why },
                    NoAnswer::Unknown => RedisOpenError::NoCluster { at: listed(seeds) },
                })?;
                self.nodes = found.nodes.into_iter().chain(seeds.iter().cloned()).collect();
                Ok(found.layout)
            }
        }
    }

    async fn ask(&mut self, asked: &[Address], question: &Question) -> Result<Testimony, NoAnswer> {
        let mut asking = JoinSet::new();
        for address in asked {
            let (address, question) = (address.clone(), question.clone());
            let line = self.lines.remove(&address);
            let options = Arc::clone(&self.options);
            asking.spawn(async move {
                let limit = options.connect_timeout;
                let answer = tokio::time::timeout(limit, question.put(&options, &address, line)).await;
                (address, answer.unwrap_or_else(|_| Err(NoAnswer::Silent("no answer in time".to_owned()))))
            });
        }
        let mut best: Option<Testimony> = None;
        let mut failure = NoAnswer::Silent("nobody was asked".to_owned());
        loop {
            let next = match &best {
                None => asking.join_next().await,
                // Whoever is silent now is left behind, with the connection.
                Some(_) => tokio::time::timeout(GRACE, asking.join_next()).await.unwrap_or(None),
            };
            match next {
                Some(Ok((address, Ok((line, testimony))))) => {
                    self.lines.insert(address, line);
                    if best.as_ref().is_none_or(|best| testimony.epoch > best.epoch) {
                        best = Some(testimony);
                    }
                }
                Some(Ok((address, Err(why)))) => failure = failure.or(why.by(&address)),
                Some(Err(_)) => {}
                None => return best.ok_or(failure),
            }
        }
    }
}

/// Why nobody could tell.
enum NoAnswer {
    Silent(String),
    Refused(String),
    /// It answered, and knows no such primary, or is no node of a cluster.
    Unknown,
}

impl NoAnswer {
    fn by(self, address: &Address) -> Self {
        match self {
            Self::Silent(why) => Self::Silent(format!("{address}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{address}: {why}")),
            Self::Unknown => Self::Unknown,
        }
    }

    /// The one that tells more.
    fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Unknown, _) | (Self::Refused(_), Self::Silent(_)) => self,
            (Self::Silent(_) | Self::Refused(_), _) => other,
        }
    }
}

#[derive(Clone)]
enum Question {
    Sentinel { name: String },
    Cluster,
}

impl Question {
    async fn put(
        &self,
        options: &RedisOptions,
        address: &Address,
        line: Option<MultiplexedConnection>,
    ) -> Result<(MultiplexedConnection, Testimony), NoAnswer> {
        let failed = |error: RedisError| {
            if error.is_io_error() || error.is_timeout() || error.is_connection_refusal() {
                NoAnswer::Silent(error.to_string())
            } else {
                NoAnswer::Refused(error.to_string())
            }
        };
        let mut line = match line {
            Some(line) => line,
            None => match self {
                Self::Sentinel { .. } => link::connect_sentinel(options, address).await,
                Self::Cluster => link::connect(options, address, None).await,
            }
            .map_err(failed)?,
        };
        let mut pipe = redis::pipe();
        match self {
            Self::Sentinel { name } => {
                pipe.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
                pipe.cmd("SENTINEL").arg("MASTER").arg(name);
            }
            Self::Cluster => {
                pipe.cmd("CLUSTER").arg("INFO");
                pipe.cmd("CLUSTER").arg("SLOTS");
            }
        }
        let answers: RedisResult<Vec<Value>> = line.send_packed_commands(&pipe, 0, 2).await;
        let answers = answers.map_err(failed)?;
        if let Some(error) = answers.iter().find_map(denied) {
            return Err(NoAnswer::Refused(error.to_string()));
        }
        let mut answers = answers.into_iter();
        let testimony = match (self, answers.next(), answers.next()) {
            (Self::Sentinel { .. }, Some(at), Some(master)) => from_sentinel(at, master),
            (Self::Cluster, Some(info), Some(slots)) => from_cluster(info, slots, address),
            _ => None,
        };
        testimony.map(|testimony| (line, testimony)).ok_or(NoAnswer::Unknown)
    }
}

/// The error of whoever may answer us nothing: that says nothing of what it knows.
fn denied(answer: &Value) -> Option<RedisError> {
    let Value::ServerError(error) = answer else { return None };
    let error = RedisError::from(error.clone());
    matches!(error.code(), Some("NOAUTH" | "NOPERM")).then_some(error)
}

/// `SENTINEL GET-MASTER-ADDR-BY-NAME` and `SENTINEL MASTER`.
fn from_sentinel(at: Value, master: Value) -> Option<Testimony> {
    let at = reply::words(at)?;
    let [host, port] = at.as_slice() else { return None };
    let address = Address::new(host, port.parse().ok()?);
    let fields = match master {
        Value::Map(pairs) => {
            pairs.into_iter().map(|(name, value)| Some((reply::text(name)?, reply::text(value)?))).collect()
        }
        flat => reply::words(flat).map(|words| {
            words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Vec<_>>()
        }),
    }?;
    let epoch = fields.iter().find(|(name, _)| name == "config-epoch")?.1.parse().ok()?;
    Some(Testimony { epoch, layout: Layout::divided(vec![address]), nodes: vec![] })
}

/// `CLUSTER INFO` and `CLUSTER SLOTS`, as this node answers them.
fn from_cluster(info: Value, slots: Value, asked: &Address) -> Option<Testimony> {
    let info = reply::text(info)?;
    let epoch = info.lines().find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:"))?;
    let Value::Array(entries) = slots else { return None };
    let (mut ranges, mut nodes) = (Vec::new(), Vec::new());
    for entry in entries {
        let Value::Array(entry) = entry else { return None };
        let [Value::Int(first), Value::Int(last), members @ ..] = entry.as_slice() else { return None };
        let members: Vec<Address> =
            members.iter().map(|member| member_of(member, asked)).collect::<Option<_>>()?;
        let primary = members.first()?.clone();
        ranges.push((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, primary));
        nodes.extend(members);
    }
    Some(Testimony { epoch: epoch.parse().ok()?, layout: Layout::of_ranges(&ranges), nodes })
}

/// One member of an entry: its host, its port, its id, and more.
fn member_of(member: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = member else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        // It does not know its own name: then it is where it was asked.
        _ => "",
    };
    let host = if matches!(host, "" | "?") { asked.host() } else { host };
    Some(Address::new(host, u16::try_from(*port).ok()?))
}

fn listed(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::super::hash_slot::HashSlot;
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_sentinel_is_understood() {
        let at = || Value::Array(vec![text("10.0.0.2"), text("6380")]);
        let words = ["name", "main", "ip", "10.0.0.1", "config-epoch", "7"];
        let told = from_sentinel(at(), Value::Array(words.map(text).to_vec())).expect("understood");
        assert_eq!((told.epoch, told.layout.primaries()), (7, &[Address::new("10.0.0.2", 6380)][..]));
        let pairs = vec![(text("config-epoch"), text("7"))];
        assert_eq!(from_sentinel(at(), Value::Map(pairs)), Some(told));
        assert_eq!(from_sentinel(Value::Nil, Value::Nil), None);
    }

    #[test]
    fn a_cluster_is_understood() {
        let member = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let entry = |first, last, members: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], members].concat())
        };
        let slots = Value::Array(vec![
            entry(0, 8000, vec![member(text("a"), 1), member(text("b"), 2)]),
            entry(8001, 16_383, vec![member(Value::Nil, 3)]),
        ]);
        let info = text("cluster_state:ok\r\ncluster_current_epoch:9\r\n");
        let told = from_cluster(info, slots, &Address::new("seed", 3)).expect("understood");
        assert_eq!(told.epoch, 9);
        assert_eq!(told.layout.owner(HashSlot::new(8000).expect("is one")), Some(&Address::new("a", 1)));
        assert_eq!(told.layout.owner(HashSlot::new(8001).expect("is one")), Some(&Address::new("seed", 3)));
        assert_eq!(told.nodes.len(), 3);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let seed = Address::new("seed", 3);
        for odd in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(70_000)])]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1), Value::Array(vec![])])]),
        ] {
            assert_eq!(from_cluster(text("cluster_current_epoch:9\n"), odd, &seed), None);
        }
        assert_eq!(from_cluster(text("ERR"), Value::Array(vec![]), &seed), None);
    }
}
