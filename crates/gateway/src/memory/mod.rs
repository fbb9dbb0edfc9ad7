//! How much memory there is for this process, and how much of it is taken.
//!
//! What the operator names is compared with what the process itself has taken; else the container's own
//! limit, beyond which the kernel kills, with all that counts towards it there.

mod cgroup;
mod process;

use std::num::NonZeroU64;
use std::sync::Arc;

use evergate_edge::MemoryLimit;

use cgroup::Cgroup;
use process::Process;

/// The limit of this process. `bytes_max` is the operator's word, 0 for none.
pub(crate) fn limit(bytes_max: u64) -> MemoryLimit {
    if let Some(bytes_max) = NonZeroU64::new(bytes_max) {
        return MemoryLimit { bytes_max: Some(bytes_max), gauge: Arc::new(Process) };
    }
    match Cgroup::limiting() {
        Some((cgroup, bytes_max)) => MemoryLimit { bytes_max: Some(bytes_max), gauge: Arc::new(cgroup) },
        None => MemoryLimit { bytes_max: None, gauge: Arc::new(Process) },
    }
}
