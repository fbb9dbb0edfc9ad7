//! Changes of the rates that hold at every edge.

use std::num::NonZeroU32;

use clap::{Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use evergate_domain::cluster::{Command, Limit, LimitName};

/// A change of the rates that hold at every edge, before the edge's own `limits.…`.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum LimitChange {
    /// Let each edge take so much a second, of each address, principal or stream
    Set {
        /// Of what
        #[arg(value_parser = names())]
        name: LimitName,
        per_second: NonZeroU32,
        /// At once after a rest; what is added in a second, if it is not given
        #[arg(long)]
        burst: Option<NonZeroU32>,
    },
    /// Let each edge go by its own configuration again
    Remove { name: String },
    /// What is agreed on
    List,
}

impl LimitChange {
    /// The command, if anything is to be changed.
    pub(super) fn command(self) -> Option<Command> {
        match self {
            Self::List => None,
            Self::Remove { name } => Some(Command::RemoveLimit(name)),
            Self::Set { name, per_second, burst } => {
                let limit = Limit { per_second: per_second.get(), burst: burst.unwrap_or(per_second).get() };
                Some(Command::SetLimit(name.to_string(), limit))
            }
        }
    }
}

fn names() -> impl clap::builder::TypedValueParser<Value = LimitName> {
    PossibleValuesParser::new(LimitName::ALL.map(LimitName::as_str)).try_map(|name| name.parse::<LimitName>())
}
