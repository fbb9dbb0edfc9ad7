//! What the cluster agreed on for streams and rates, kept for a start at which no control node can be reached.

use std::io;
use std::path::PathBuf;

use evergate_domain::cluster::View;
use evergate_domain::{AgreedLimits, AgreedPolicies};
use evergate_folder::replace;
use evergate_member::{KeptError, decode_kept, encode_kept};
use tracing::{error, info, warn};

use crate::config::Config;

/// The file, and whose word is believed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keepsake {
    path: PathBuf,
    cluster: String,
}

/// Why nothing of a file is used.
#[derive(Debug, thiserror::Error)]
enum RecallError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Kept(#[from] KeptError),
}

impl Keepsake {
    /// Where the configuration says, for a process that belongs to a cluster.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let path = config.cluster.policies_file.as_ref().filter(|_| !config.cluster.control.is_empty())?;
        // A bare name has no folder that could be made safe.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Some(Self { path, cluster: config.control.cluster.clone() })
    }

    /// Has streams and rates go by what was kept, until a control node is heard. What cannot be used is told of and
    /// left alone: then they go by the configuration, as without it.
    pub(crate) fn recall(&self, agreed: &AgreedPolicies, limits: &AgreedLimits) {
        let path = self.path.display();
        match self.read() {
            Ok(None) => info!(%path, "no policies of the cluster are kept yet"),
            Ok(Some(view)) => {
                let (streams, version, rates) = (view.policies().len(), view.version(), view.limits().len());
                info!(
                    streams,
                    rates, version, "streams go by the policies that the cluster agreed on before the start"
                );
                agreed.replace(view.policies().clone());
                limits.replace(view.limits());
            }
            Err(why) => error!(
                %path, %why,
                "the policies that are kept are not used; streams go by the configuration until a control node is heard"
            ),
        }
    }

    fn read(&self) -> Result<Option<View>, RecallError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(decode_kept(&self.cluster, &bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the policies of a view in place of those before, whole or not at all.
    pub(crate) async fn keep(&self, view: &View) {
        let (path, bytes) = (self.path.clone(), encode_kept(&self.cluster, view));
        let kept = tokio::task::spawn_blocking(move || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            replace(&path, &bytes)
        });
        let kept = kept.await.map_err(io::Error::other).and_then(|kept| kept);
        if let Err(error) = kept {
            warn!(
                path = %self.path.display(), %error,
                "the policies of the cluster cannot be kept; started while no control node is there, this process would go by older ones"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use evergate_domain::cluster::{AfterDegradation, Change, StreamPolicy};
    use evergate_domain::{Level, Retention, SlowReader, StreamName};

    fn view(events: u64) -> View {
        let policy = StreamPolicy {
            retention: Retention { events: Some(events), ..Retention::FOREVER },
            level: Level::Replicated,
            slow_reader: SlowReader::CatchUp,
            after_degradation: AfterDegradation::Replay,
        };
        let mut view = View::default();
        view.advance(vec![Change::Policy(StreamName::new("s").unwrap(), policy)]);
        view
    }

    fn recalled(keepsake: &Keepsake) -> Option<Option<u64>> {
        let agreed = AgreedPolicies::default();
        keepsake.recall(&agreed, &AgreedLimits::default());
        agreed.of(&StreamName::new("s").unwrap(), |policy| policy.retention.events)
    }

    #[tokio::test]
    async fn what_was_kept_last_holds_and_what_is_damaged_or_foreign_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/policies");
        let keepsake = Keepsake { path: path.clone(), cluster: "one".to_owned() };
        assert_eq!(recalled(&keepsake), None, "nothing is kept yet");
        for events in [1, 2] {
            keepsake.keep(&view(events)).await;
            assert_eq!(recalled(&keepsake), Some(Some(events)));
        }
        let other = Keepsake { path: path.clone(), cluster: "two".to_owned() };
        assert_eq!(recalled(&other), None);
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], b"{}", b""] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(recalled(&keepsake), None);
        }
        // Of what a crash leaves half written nothing is read.
        std::fs::write(&path, &whole).unwrap();
        std::fs::write(path.with_file_name("policies.new"), &whole[..9]).unwrap();
        assert_eq!(recalled(&keepsake), Some(Some(2)));
        // One that cannot be written is no reason to end.
        std::fs::remove_dir_all(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep"), "").unwrap();
        keepsake.keep(&view(3)).await;
        assert_eq!(recalled(&keepsake), None);
    }
}
