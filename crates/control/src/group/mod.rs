//! The group as its callers see it: what is proposed, what is read, who belongs to it.

mod acquaint;
mod bootstrap;
mod error;
mod founding;
mod handle;
mod leading;
mod meter;
mod node;
mod proposer;
mod settings;
mod status;

pub use error::{ChangeError, ProposeError, ReadError, StartError};
pub use handle::{Answer, Handle};
pub(crate) use leading::Leading;
pub use node::Group;
pub use settings::{GroupSettings, Seeds, Timing};
pub use status::{MemberStatus, Role, Status};
