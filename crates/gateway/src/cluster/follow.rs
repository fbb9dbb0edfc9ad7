//! The view, as it changes.

use evergate_domain::cluster::{Change, View};
use evergate_member::{decode_delta, decode_view};
use evergate_proto::control::v1 as proto;
use proto::watch_response::What;
use tonic::Streaming;

use super::call::{Link, sentence};

/// Follows one control node, until it ends.
pub(super) struct Following {
    messages: Streaming<proto::WatchResponse>,
    view: View,
}

impl Following {
    /// From all that there is now.
    pub(super) async fn begin(link: &mut Link) -> Result<Self, String> {
        Ok(Self { messages: link.watch().await?, view: View::default() })
    }

    /// What is known.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Waits for the next version, and tells how it differs: at first, from nothing.
    pub(super) async fn next(&mut self) -> Result<Vec<Change>, String> {
        loop {
            let message = self.messages.message().await.map_err(|status| sentence(&status))?;
            let message = message.ok_or("the control node ended")?;
            match message.what {
                Some(What::View(whole)) => {
                    self.view = decode_view(&whole).map_err(|error| error.to_string())?;
                    return Ok(self.view.contents());
                }
                Some(What::Delta(delta)) => {
                    let delta = decode_delta(&delta).map_err(|error| error.to_string())?;
                    self.view = self.view.follow(&delta).map_err(|error| error.to_string())?;
                    return Ok(delta.changes);
                }
                Some(What::Loads(_) | What::Alive(_)) | None => {}
            }
        }
    }
}
