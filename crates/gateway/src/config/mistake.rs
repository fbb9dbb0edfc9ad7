//! A mistake in the configuration, with the place where it was made.

use std::fmt;

/// Where a value was written. Ordered as mistakes are listed: file first, then environment, flags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The built-in default.
    Default,
    /// The default of one role, where it differs from the general one.
    RoleDefault,
    /// A position in the configuration file; line and column count from one.
    File { name: String, line: usize, column: usize },
    /// An environment variable, by its name.
    Environment(String),
    /// A command-line flag, as `--http` or `--set http.address`.
    Flag(String),
}

/// One mistake. All mistakes of a configuration are reported together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    pub place: Place,
    /// The setting concerned, where the place does not already name it.
    pub key: Option<String>,
    pub message: String,
}

/// Every mistake found, in the order of [`Place`]. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl Mistake {
    pub(crate) fn new(place: Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, key: Some(key.into()), message: message.into() }
    }

    /// A mistake that concerns no setting in particular, such as a file that is not TOML.
    pub(crate) fn of_source(place: Place, message: impl Into<String>) -> Self {
        Self { place, key: None, message: message.into() }
    }
}

impl Mistakes {
    /// `None` if there are none.
    pub(crate) fn from_list(mut list: Vec<Mistake>) -> Option<Self> {
        list.sort();
        (!list.is_empty()).then_some(Self(list))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::RoleDefault => f.write_str("the default of this role"),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        // A variable and a flag name their setting already; a line of a file does not.
        match (&self.place, &self.key) {
            (Place::File { .. } | Place::Default | Place::RoleDefault, Some(key)) => {
                write!(f, "{key}: ")?;
            }
            (Place::Environment(_) | Place::Flag(_), Some(_)) | (_, None) => {}
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
