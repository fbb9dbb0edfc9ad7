//! Writes the reference of all settings, `docs/configuration.md`.
//!
//! A test compares the committed page with this text, so the page cannot fall behind the table.

use std::fmt::{self, Write};

use super::registry::{Consequence, SETTINGS, STREAM_SETTINGS, STREAMS, Setting};

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `evergate config reference`; a test keeps this page and the program in step. -->

Every setting can be given in a file, in the environment and on the command line. Flags win over
the environment, the environment over the file, the file over the defaults.

- **File**: TOML, named by `--config FILE` or by the variable `EVERGATE_CONFIG`; without either, no
  file is read.
- **Environment**: the key in capitals with `_` for the dot, after `EVERGATE_`: `http.address` is
  `EVERGATE_HTTP_ADDRESS`. Lists are separated by commas.
- **Command line**: `--set KEY=VALUE`, as often as needed; the settings that are given often have a
  flag of their own.

`evergate config check` reads all three and prints every mistake with its place, or that there is
none. An unknown key, an unknown `EVERGATE_` variable and a value out of its range are mistakes,
and a process does not start with one.

```toml
# evergate.toml
node = \"edge-1\"
log = \"disk:/var/lib/evergate\"

[http]
address = \"0.0.0.0:8080\"
cors_origins = [\"https://app.example.com\"]

[retention]
age = \"2d\"

[streams.\"quote\"]
retention_events = 100000

[streams.\"orders.*\"]
level = \"REPLICATED\"
```

**Durations** are a whole number and a unit: `250ms`, `15s`, `2m`, `2h`, `7d`. **Sizes** are a
number of bytes, or a whole number and a unit: `4096`, `256KiB`, `8MiB`, `1GiB`. In the file both
stand in quotes, except for a bare number of bytes.

**Exit codes** of every command: 0 all went well; 1 a failure at run time; 2 a mistake in the
command line or the configuration.
";

const STREAMS_INTRODUCTION: &str = "
## Settings of one stream

A stream may have settings of its own in a table `[streams.\"NAME\"]` of the file, or by
`--set 'streams.\"NAME\".KEY=VALUE'`; not in the environment, whose names cannot spell a stream's. A
stream with a table, even an empty one, is *listed*: it exists when `streams.create` is `false`.

A `NAME` that ends in `*` is meant for every stream whose name begins so. Where several tables fit a
stream, each setting is taken from the narrowest that has it: its own, then the longest beginning.
";

/// The whole page.
pub(crate) fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    write_settings(&mut page).expect("writing to a string does not fail");
    page
}

fn write_settings(page: &mut String) -> fmt::Result {
    writeln!(page, "\n## General")?;
    for setting in SETTINGS.iter().filter(|setting| setting.section().is_none()) {
        write_setting(page, setting)?;
    }
    let mut section = None;
    for setting in SETTINGS {
        if setting.section().is_none() {
            continue;
        }
        if section != setting.section() {
            section = setting.section();
            writeln!(page, "\n## `[{}]`", section.unwrap_or_default())?;
        }
        write_setting(page, setting)?;
    }
    page.push_str(STREAMS_INTRODUCTION);
    for setting in STREAM_SETTINGS {
        write!(page, "\n### `{STREAMS}.\"NAME\".{}`\n\n{}", setting.key, setting.meaning)?;
        writeln!(page, " {}\n", consequence(setting))?;
        writeln!(page, "- default: that of `{}`", setting.default)?;
        writeln!(page, "- allowed: {}", setting.kind.range())?;
    }
    Ok(())
}

fn write_setting(page: &mut String, setting: &Setting) -> fmt::Result {
    write!(page, "\n### `{}`\n\n{}", setting.key, setting.meaning)?;
    writeln!(page, " {}\n", consequence(setting))?;
    write!(page, "- default: {}", default(setting.default))?;
    match setting.dev_default {
        Some(dev) => writeln!(page, "; for `evergate dev` {}", default(dev))?,
        None => writeln!(page)?,
    }
    writeln!(page, "- allowed: {}", setting.kind.range())?;
    write!(page, "- environment: `{}`", setting.variable())?;
    match setting.flag {
        Some(flag) => writeln!(page, "; flag: `--{flag} {}`", setting.kind.placeholder()),
        None => writeln!(page),
    }
}

fn default(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") }
}

fn consequence(setting: &Setting) -> String {
    match setting.consequence {
        Consequence::Bounds { small, large } => {
            format!("Too small: {small}. Too large: {large}.")
        }
        Consequence::Choice(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::CONFIG_VARIABLE;
    use super::*;

    #[test]
    fn the_committed_page_is_what_the_table_says() {
        let committed = include_str!("../../../../docs/configuration.md");
        assert!(
            committed == reference(),
            "docs/configuration.md is out of date; write it anew: evergate config reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_page_names_the_variable_of_the_file() {
        assert!(INTRODUCTION.contains(CONFIG_VARIABLE));
    }
}
