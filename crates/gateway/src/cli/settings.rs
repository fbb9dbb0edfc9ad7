//! The flags by which a command takes settings, made from the table of settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::{
    CONFIG_VARIABLE, Config, Defaults, FileSource, FlagSource, Mistakes, SETTINGS, Setting, Sources,
};

const CONFIG: &str = "config";
const SET: &str = "set";

/// `--config`, `--set`, and one flag for each setting that has its own.
#[derive(Debug, Clone)]
pub(crate) struct SettingsArgs {
    file: Option<PathBuf>,
    flags: Vec<FlagSource>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{name}: cannot be read: {error}")]
    File {
        name: String,
        // Part of the sentence rather than a source: it is printed in one line.
        error: std::io::Error,
    },
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

impl SettingsArgs {
    /// Reads the file and proves the configuration of all three sources.
    pub(crate) fn load(
        &self,
        defaults: Defaults,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Config, LoadError> {
        let file = self.file.as_ref().map(|path| {
            let name = path.display().to_string();
            match std::fs::read(path) {
                Ok(contents) => Ok(FileSource { name, contents }),
                Err(error) => Err(LoadError::File { name, error }),
            }
        });
        let sources = Sources {
            defaults,
            file: file.transpose()?,
            environment: environment.collect(),
            flags: self.flags.clone(),
        };
        Ok(Config::prove(&sources)?)
    }

    #[cfg(test)]
    pub(crate) fn flags(&self) -> &[FlagSource] {
        &self.flags
    }
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env(CONFIG_VARIABLE)
            .value_parser(value_parser!(PathBuf))
            .help("Read settings from this TOML file");
        let set = Arg::new(SET)
            .long(SET)
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Give any setting; see `evergate config reference`");
        SETTINGS.iter().filter_map(own_flag).fold(command.arg(file).arg(set), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let own = SETTINGS.iter().filter_map(|setting| {
            let flag = setting.flag?;
            let text = matches.get_one::<String>(flag)?.clone();
            Some(FlagSource::Own { setting, flag, text })
        });
        let set = matches.get_many::<String>(SET).into_iter().flatten().cloned().map(FlagSource::Set);
        Ok(Self {
            // An empty variable is how a shell takes one back.
            file: matches.get_one::<PathBuf>(CONFIG).filter(|path| !path.as_os_str().is_empty()).cloned(),
            flags: own.chain(set).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn own_flag(setting: &'static Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let default = setting.dev_default.unwrap_or(setting.default);
    let meaning = setting.meaning.trim_end_matches('.').replace('`', "");
    let help = if default.is_empty() { meaning } else { format!("{meaning} [default: {default}]") };
    Some(Arg::new(flag).long(flag).value_name(setting.kind.placeholder()).help(help))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn settings(arguments: &[&str]) -> SettingsArgs {
        let command = SettingsArgs::augment_args(Command::new("test"));
        let matches = command.get_matches_from([&["test"], arguments].concat());
        SettingsArgs::from_arg_matches(&matches).unwrap()
    }

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn file_environment_and_flags_come_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evergate.toml");
        std::fs::write(&path, "node = \"file\"\nregion = \"file\"\nlog = \"memory\"\n").unwrap();
        let args = settings(&["--config", path.to_str().unwrap(), "--node", "flag"]);
        let variables = variables(&[("EVERGATE_NODE", "e"), ("EVERGATE_REGION", "e")]);
        let config = args.load(Defaults::Dev, variables).unwrap();
        assert_eq!(config.node, "flag");
        assert_eq!(config.region, "e");
        assert_eq!(config.log.to_string(), "memory");
    }

    #[test]
    fn a_file_that_is_not_there_is_told_by_name() {
        let args = settings(&["--config", "no/such/evergate.toml"]);
        let error = args.load(Defaults::Dev, variables(&[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no/such/evergate.toml: cannot be read: No such file or directory (os error 2)"
        );
    }
}
