//! The group's figures.

use std::time::Duration;

use openraft::RaftMetrics;
use tokio::sync::watch;

use super::status::{Role, Status};
use crate::raft::types::{Member, NodeId};

/// Keeps the gauges true until the node ends.
pub(super) async fn measure(
    mut metrics: watch::Receiver<RaftMetrics<NodeId, Member>>,
    silence_max: Duration,
) {
    let mut term = 0;
    loop {
        let status = Status::of(&metrics.borrow_and_update());
        tell(&status, silence_max);
        // What was before this process is nothing that it saw.
        let begun = if term == 0 { 0 } else { status.term.saturating_sub(term) };
        metrics::counter!("evergate_raft_elections_total").increment(begun);
        term = status.term;
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn tell(status: &Status, silence_max: Duration) {
    let truth = |fact: bool| if fact { 1.0 } else { 0.0 };
    // A leader that hears nobody is none: the others may have one by now.
    let is_cut_off =
        status.role == Role::Leader && status.silence.is_some_and(|silence| silence > silence_max);
    metrics::gauge!("evergate_raft_term").set(status.term as f64);
    metrics::gauge!("evergate_raft_is_leader").set(truth(status.role == Role::Leader && !is_cut_off));
    metrics::gauge!("evergate_raft_has_leader").set(truth(status.leader.is_some() && !is_cut_off));
    metrics::gauge!("evergate_raft_last_entries").set(status.last as f64);
    metrics::gauge!("evergate_raft_applied_entries").set(status.applied as f64);
    metrics::gauge!("evergate_raft_members").set(status.members.len() as f64);
    let silence = status.silence.unwrap_or_default();
    metrics::gauge!("evergate_raft_quorum_silence_seconds").set(silence.as_secs_f64());
    let lags = status.members.iter().filter_map(|member| Some(status.last.saturating_sub(member.matched?)));
    metrics::gauge!("evergate_raft_lag_entries").set(lags.max().unwrap_or(0) as f64);
}
