//! Reads the layer of the command line: the settings' own flags, and `--set key=value`.

use super::layer::{Key, Layer};
use super::mistake::{Mistake, Place};
use super::registry::Setting;

/// A setting as it was given on the command line, not read yet.
#[derive(Debug, Clone)]
pub(crate) enum FlagSource {
    /// `--http ADDR`: a setting that has a flag of its own.
    Own { setting: &'static Setting, flag: &'static str, text: String },
    /// `--set key=value`.
    Set(String),
}

/// Reads what is right and notes every mistake.
pub(crate) fn read(flags: &[FlagSource], mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    for flag in flags {
        match flag {
            FlagSource::Own { setting, flag, text } => {
                let place = Place::Flag(format!("--{flag}"));
                let key = Key::General(setting.key);
                insert(&mut layer, key, setting, text, place, mistakes);
            }
            FlagSource::Set(assignment) => read_set(&mut layer, assignment, mistakes),
        }
    }
    layer
}

fn read_set(layer: &mut Layer, assignment: &str, mistakes: &mut Vec<Mistake>) {
    let Some((name, text)) = assignment.split_once('=') else {
        let place = Place::Flag("--set".to_owned());
        let message = format!("{assignment:?} is not of the form key=value");
        mistakes.push(Mistake::of_source(place, message));
        return;
    };
    let name = name.trim();
    let place = Place::Flag(format!("--set {name}"));
    match Key::resolve(name) {
        Ok((key, setting)) => insert(layer, key, setting, text, place, mistakes),
        Err(message) => mistakes.push(Mistake::of_source(place, message)),
    }
}

fn insert(
    layer: &mut Layer,
    key: Key,
    setting: &Setting,
    text: &str,
    place: Place,
    mistakes: &mut Vec<Mistake>,
) {
    if let Some(earlier) = layer.get(&key) {
        // Two values of one rank: neither is more right than the other.
        let message = format!("{key} is given twice, also by {}", earlier.place);
        mistakes.push(Mistake::new(place, key.to_string(), message));
        return;
    }
    layer.read(key, setting, text, place, mistakes);
}
