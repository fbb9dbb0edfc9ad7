//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// What a process has open beside its connections: the log, the listeners, the admin pages, links to
/// other edges.
const OTHERS: u64 = 512;

/// Raises the soft limit to the hard one, and says so if that is too little for `streams_max`.
///
/// The soft limit is low on most systems for the sake of programs that use `select`; this one does
/// not.
///
/// Returns how many of them the HTTP connections may take. The others are kept for the rest, so that
/// no storm of clients can cut the process off from its log, its publishers and its operator.
pub(crate) fn raise(streams_max: usize, grpc_max: usize) -> usize {
    let others = OTHERS + grpc_max as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is unlimited.
    let reached = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            debug!(%error, "the limit of open files cannot be raised");
            current
        }
    };
    let wanted = streams_max as u64 + others;
    if let Some(limit) = reached
        && limit < wanted
    {
        warn!(limit, wanted, "fewer files may be open than http.connections_max needs, so fewer clients");
    }
    reached.map_or(usize::MAX, |limit| for_connections(limit, others))
}

/// What of a limit is for HTTP connections.
fn for_connections(limit: u64, others: u64) -> usize {
    usize::try_from(limit - others.min(limit / 4)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise(1, 1);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn something_is_kept_for_the_rest() {
        assert_eq!([64, 1024, 20_000].map(|limit| for_connections(limit, 512)), [48, 768, 19_488]);
    }
}
