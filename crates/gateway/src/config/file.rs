//! Reads the layer of the configuration file.

use std::ops::Range;

use evergate_domain::StreamPattern;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::type_name;
use super::layer::{Key, Layer, unknown, unknown_of_stream, unknown_table};
use super::mistake::{Mistake, Place};
use super::registry::{self, SETTINGS, STREAMS, Setting};

/// A configuration file: its name as the operator gave it, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct FileSource {
    pub name: String,
    pub contents: Vec<u8>,
}

impl FileSource {
    /// Reads what is right and notes every mistake, syntax included.
    pub(crate) fn read(&self, mistakes: &mut Vec<Mistake>) -> Layer {
        let text = match std::str::from_utf8(&self.contents) {
            Ok(text) => text,
            Err(error) => {
                let valid = String::from_utf8_lossy(&self.contents[..error.valid_up_to()]);
                let place = place(&self.name, &valid, valid.len());
                mistakes.push(Mistake::of_source(place, "the file is not UTF-8 text"));
                return Layer::default();
            }
        };
        let mut reader = Reader { name: &self.name, text, layer: Layer::default(), mistakes: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut broken_lines = Vec::new();
        for error in errors {
            let at = reader.place(error.span().map_or(text.len(), |span| span.start));
            broken_lines.push(line(&at));
            mistakes.push(Mistake::of_source(at, error.message().replace('\n', " ")));
        }
        reader.general(table.get_ref(), "");
        // What a broken line seems to say is no second mistake.
        reader.mistakes.retain(|mistake| !broken_lines.contains(&line(&mistake.place)));
        mistakes.append(&mut reader.mistakes);
        reader.layer
    }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    layer: Layer,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// Reads a table of general settings whose keys begin with `prefix`.
    fn general(&mut self, table: &DeTable<'_>, prefix: &str) {
        for (key, value) in table {
            let full = format!("{prefix}{}", key.get_ref());
            match (registry::find(&full), value.get_ref()) {
                // A stream may be called like a setting of the section `streams`: a table is the
                // stream's, any other value the setting's.
                (_, DeValue::Table(streams)) if full == STREAMS => self.streams(streams),
                (Some(setting), _) => {
                    self.value(Key::General(setting.key), setting, value);
                }
                (None, DeValue::Table(inner)) if is_section(&full) => {
                    self.general(inner, &format!("{full}."));
                }
                (None, other) if is_section(&full) => {
                    let message = format!("expected a table, found {}", type_name(other));
                    self.mistake(value.span(), full, message);
                }
                (None, DeValue::Table(_)) => {
                    let message = unknown_table(&full);
                    self.mistake(key.span(), full, message);
                }
                (None, _) => {
                    let message = unknown(&full);
                    self.mistake(key.span(), full, message);
                }
            }
        }
    }

    /// Reads the table `[streams]`: settings of the section, and a table for each named stream.
    fn streams(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let DeValue::Table(own) = value.get_ref() else {
                let mut one = DeTable::new();
                one.insert(key.clone(), value.clone());
                self.general(&one, &format!("{STREAMS}."));
                continue;
            };
            match key.get_ref().parse::<StreamPattern>() {
                Ok(stream) => self.stream(&stream, own),
                Err(error) => {
                    let full = format!("{STREAMS}.{:?}", key.get_ref());
                    self.mistake(key.span(), full, error.to_string());
                }
            }
        }
    }

    /// Reads the table `[streams."name"]`.
    fn stream(&mut self, stream: &StreamPattern, table: &DeTable<'_>) {
        self.layer.list_stream(stream.clone());
        for (key, value) in table {
            if let Some(setting) = registry::find_of_stream(key.get_ref()) {
                let key = Key::OfStream { stream: stream.clone(), name: setting.key };
                self.value(key, setting, value);
            } else {
                let full = format!("{STREAMS}.\"{stream}\".{}", key.get_ref());
                self.mistake(key.span(), full, unknown_of_stream(key.get_ref()));
            }
        }
    }

    fn value(&mut self, key: Key, setting: &Setting, value: &Spanned<DeValue<'_>>) {
        let place = self.place(value.span().start);
        let read = match setting.kind.read_toml(value) {
            Ok(read) => Some(read),
            Err(faults) => {
                for fault in faults {
                    self.mistake(fault.span, key.to_string(), fault.message);
                }
                None
            }
        };
        self.layer.insert(key, read, place);
    }

    fn mistake(&mut self, span: Range<usize>, key: String, message: String) {
        let place = self.place(span.start);
        self.mistakes.push(Mistake::new(place, key, message));
    }

    fn place(&self, at: usize) -> Place {
        place(self.name, self.text, at)
    }
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.section() == Some(name))
}

/// Line and column of a byte, both counted from one, the column in characters.
fn place(name: &str, text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place::File {
        name: name.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

fn line(place: &Place) -> Option<usize> {
    match place {
        Place::File { line, .. } => Some(*line),
        Place::Default | Place::RoleDefault | Place::Environment(_) | Place::Flag(_) => None,
    }
}
