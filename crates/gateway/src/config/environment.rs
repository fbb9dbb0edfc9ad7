//! Reads the layer of the environment: every variable that begins with `EVERGATE_`.

use std::ffi::OsString;

use super::layer::{Key, Layer, suggest};
use super::mistake::{Mistake, Place};
use super::near::nearest;
use super::registry::{ENVIRONMENT_PREFIX, SETTINGS, Setting};

/// Names the configuration file; read before any setting, and no setting itself.
pub(crate) const CONFIG_VARIABLE: &str = "EVERGATE_CONFIG";

/// Reads what is right and notes every mistake.
pub(crate) fn read(variables: &[(OsString, OsString)], mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in variables {
        let Some(name) = name.to_str() else {
            continue; // Not ours: all our names are ASCII.
        };
        if !name.starts_with(ENVIRONMENT_PREFIX) || name == CONFIG_VARIABLE {
            continue;
        }
        let place = Place::Environment(name.to_owned());
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            if !is_service_link(name) {
                mistakes.push(Mistake::of_source(place, unknown_variable(name)));
            }
            continue;
        };
        let key = Key::General(setting.key);
        if let Some(text) = value.to_str() {
            layer.read(key, setting, text, place, mistakes);
        } else {
            mistakes.push(Mistake::new(place.clone(), setting.key, "the value is not UTF-8 text"));
            layer.insert(key, None, place);
        }
    }
    layer
}

/// Kubernetes puts the addresses of a namespace's services into every container. A service called
/// `evergate` or `evergate-…` makes names that look like ours and are nobody's mistake:
/// `EVERGATE_SERVICE_HOST`, `EVERGATE_PORT`, `EVERGATE_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let marks = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    marks.iter().any(|mark| name.ends_with(mark))
        || name.contains("_SERVICE_PORT_")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            name.contains("_PORT_") && (name.ends_with(protocol) || name.contains(&format!("{protocol}_")))
        })
}

fn unknown_variable(name: &str) -> String {
    // Compared without the prefix they share, which would make any two alike.
    let own = |name: &str| name[ENVIRONMENT_PREFIX.len()..].to_owned();
    let words: Vec<String> = SETTINGS
        .iter()
        .map(Setting::variable)
        .chain([CONFIG_VARIABLE.to_owned()])
        .map(|name| own(&name))
        .collect();
    let near = nearest(&own(name), words.iter().map(String::as_str))
        .map(|word| format!("{ENVIRONMENT_PREFIX}{word}"));
    suggest("no setting has this variable", near.as_deref())
}
