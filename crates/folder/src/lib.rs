//! Folders in which a process keeps what it must not lose: each says what it is and in which format, and
//! is held by one process at a time. What lies in them beyond that is not known here.
//!
//! ```text
//!   FORMAT      says what this is and in which version
//!   LOCK        held by the process that has the folder open
//! ```

mod error;
mod folder;
mod replace;

pub use error::FolderError;
pub use folder::{Folder, Kind};
pub use replace::{replace, sync};
