//! Who else belongs to the group, asked of those who are known to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::network::{Admission, Links};

/// Time before they are asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks whenever somebody was refused whom this node does not know. Whoever is asked proves that it is reached at a
/// member's host, so its word counts; the stranger's own does not.
pub(super) async fn acquaint(admission: Arc<Admission>, links: Arc<Links>) {
    loop {
        admission.is_wondering().await;
        let known = admission.known();
        let asking = known.iter().map(|address| async {
            let asked = links.greet(address, None, PATIENCE);
            let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
            Some(answer.members)
        });
        let members = join_all(asking).await;
        admission.hear_of(members.into_iter().flatten().flatten());
        tokio::time::sleep(PAUSE).await;
    }
}
