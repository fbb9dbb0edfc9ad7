//! Changes of what holds for streams, and for the cluster.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use evergate_domain::cluster::{AfterDegradation, Command, StreamPolicy, View};
use evergate_domain::{Level, Retention, SlowReader, StreamName};

/// A change of what holds for streams, or for the cluster.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum PolicyChange {
    /// Set what holds for a stream; what is not given stays, or is the default
    Set {
        stream: StreamName,
        /// Keep at most this many events; 0 is no bound
        #[arg(long)]
        events: Option<u64>,
        /// Keep at most this many bytes; 0 is no bound
        #[arg(long)]
        bytes: Option<u64>,
        /// Keep events for about this many seconds; 0 is no bound
        #[arg(long)]
        age_s: Option<u64>,
        /// Fixed with the first policy
        #[arg(long, value_enum)]
        level: Option<LevelName>,
        #[arg(long, value_enum)]
        slow_reader: Option<SlowReaderName>,
        #[arg(long, value_enum)]
        after_degradation: Option<AfterDegradationName>,
    },
    /// Let a stream go by the nodes' own configuration again
    Remove { stream: StreamName },
    /// Set what holds for the cluster; what is not given stays
    Cluster {
        /// A node not heard of for so long loses its clients
        #[arg(long)]
        lease_ms: Option<u32>,
        /// A node that was lost is kept out for so long after it is back
        #[arg(long)]
        hysteresis_ms: Option<u32>,
        /// Nodes drained at the same time
        #[arg(long)]
        drains_at_once: Option<u32>,
        /// What a drain takes of the others' free rate of admission, in thousandths
        #[arg(long)]
        drain_share_permille: Option<u16>,
        /// How far above its share a node may be loaded, in thousandths of it
        #[arg(long)]
        bound_permille: Option<u16>,
        /// The longest that clients are asked to wait for fear of a crash
        #[arg(long)]
        retry_ms_max: Option<u32>,
        /// After an edge has come and all stayed the same for so long, send clients where they belong; 0 is never
        #[arg(long)]
        rebalance_after_ms: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LevelName {
    Home,
    Replicated,
    Quorum,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SlowReaderName {
    CatchUp,
    Conflate,
    Gap,
    Disconnect,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum AfterDegradationName {
    Replay,
    Skip,
}

impl PolicyChange {
    /// The command, given what holds now.
    pub(super) fn command(self, view: &View) -> Result<Command, String> {
        match self {
            Self::Remove { stream } => Ok(Command::RemovePolicy(stream)),
            Self::Set { stream, events, bytes, age_s, level, slow_reader, after_degradation } => {
                let mut policy = view.policies().get(&stream).cloned().unwrap_or(StreamPolicy {
                    retention: Retention::default(),
                    level: Level::default(),
                    slow_reader: SlowReader::default(),
                    after_degradation: AfterDegradation::default(),
                });
                let bound = |given: u64| (given > 0).then_some(given);
                if let Some(events) = events {
                    policy.retention.events = bound(events);
                }
                if let Some(bytes) = bytes {
                    policy.retention.bytes = bound(bytes);
                }
                if let Some(age_s) = age_s {
                    policy.retention.age = bound(age_s).map(Duration::from_secs);
                }
                if let Some(level) = level {
                    policy.level = match level {
                        LevelName::Home => Level::Home,
                        LevelName::Replicated => Level::Replicated,
                        LevelName::Quorum => Level::Quorum,
                    };
                }
                if let Some(slow_reader) = slow_reader {
                    policy.slow_reader = match slow_reader {
                        SlowReaderName::CatchUp => SlowReader::CatchUp,
                        SlowReaderName::Conflate => SlowReader::Conflate,
                        SlowReaderName::Gap => SlowReader::Gap,
                        SlowReaderName::Disconnect => SlowReader::Disconnect,
                    };
                }
                if let Some(after) = after_degradation {
                    policy.after_degradation = match after {
                        AfterDegradationName::Replay => AfterDegradation::Replay,
                        AfterDegradationName::Skip => AfterDegradation::Skip,
                    };
                }
                Ok(Command::SetPolicy(stream, policy))
            }
            Self::Cluster {
                lease_ms,
                hysteresis_ms,
                drains_at_once,
                drain_share_permille,
                bound_permille,
                retry_ms_max,
                rebalance_after_ms,
            } => {
                let mut settings = *view.settings();
                settings.lease_ms = lease_ms.unwrap_or(settings.lease_ms);
                settings.hysteresis_ms = hysteresis_ms.unwrap_or(settings.hysteresis_ms);
                settings.drains_at_once = drains_at_once.unwrap_or(settings.drains_at_once);
                settings.drain_share_permille = drain_share_permille.unwrap_or(settings.drain_share_permille);
                settings.bound_permille = bound_permille.unwrap_or(settings.bound_permille);
                settings.retry_ms_max = retry_ms_max.unwrap_or(settings.retry_ms_max);
                settings.rebalance_after_ms = rebalance_after_ms.unwrap_or(settings.rebalance_after_ms);
                settings.check().map_err(|error| error.to_string())?;
                Ok(Command::SetSettings(settings))
            }
        }
    }
}
