//! The unit files under `deploy/systemd`: they name each other, and what they say the binary takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use evergate_tests::clients::checkout;
use evergate_tests::process::binary;

/// Values by `Section.Key`, each as often as it stands there.
type Unit = BTreeMap<String, Vec<String>>;

fn folder() -> PathBuf {
    checkout().join("deploy/systemd")
}

fn unit(name: &str) -> Unit {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut unit = Unit::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line:?}"));
            unit.entry(format!("{section}.{key}")).or_default().push(value.to_owned());
        }
    }
    unit
}

fn one<'a>(unit: &'a Unit, key: &str) -> &'a str {
    match unit.get(key).map(Vec::as_slice) {
        Some([value]) => value,
        other => panic!("{key} stands there once, not as {other:?}"),
    }
}

/// The settings of a service are taken by the binary that is tested.
fn assert_runs(service: &Unit) {
    let words: Vec<&str> = one(service, "Service.ExecStart").split_whitespace().collect();
    let [program, "edge", settings @ ..] = words.as_slice() else { panic!("{words:?}") };
    assert_eq!(*program, "/usr/bin/evergate");
    // The file of settings is the operator's own, and begins as the one beside the units.
    let example = folder().join("evergate.toml");
    let settings = settings.iter().map(|word| {
        let word = word.replace("/etc/evergate/evergate.toml", example.to_str().expect("a plain path"));
        word.replace("%t", "/run").replace("%H", "host").replace("%i", "blue")
    });
    let checked = Command::new(binary())
        .args(["config", "check", "--log", "redis://127.0.0.1:6379"])
        .args(settings)
        // The suite's own, and no setting.
        .env_remove("EVERGATE_SKIPPED")
        .output()
        .expect("the binary can be started");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let patience = one(service, "Service.TimeoutStopSec").parse().expect("seconds");
    // The defaults of `shutdown.grace` and `shutdown.deadline`.
    assert!(Duration::from_secs(patience) > Duration::from_secs(5 + 15), "systemd kills no drain");
}

#[test]
fn every_socket_has_the_name_the_binary_knows_and_the_service_it_is_for() {
    let service = unit("evergate.service");
    assert_runs(&service);
    let sockets: Vec<&str> = one(&service, "Service.Sockets").split_whitespace().collect();
    assert_eq!(sockets, ["evergate-http.socket", "evergate-grpc.socket", "evergate-admin.socket"]);
    for (socket, name) in sockets.iter().zip(["http", "grpc", "admin"]) {
        let socket = unit(socket);
        assert_eq!(one(&socket, "Socket.FileDescriptorName"), name);
        assert_eq!(one(&socket, "Socket.Service"), "evergate.service");
        assert_eq!(one(&socket, "Socket.Accept"), "no", "the process accepts, not systemd");
        let address = one(&socket, "Socket.ListenStream");
        assert!(address.parse::<std::net::SocketAddr>().is_ok(), "{address:?}");
    }
}

#[test]
fn the_settings_beside_the_units_are_whole_and_let_nobody_publish_without_a_token() {
    let example = folder().join("evergate.toml");
    let checked = Command::new(binary())
        .args(["config", "check", "--config"])
        .arg(&example)
        .env_remove("EVERGATE_SKIPPED")
        .output()
        .expect("the binary can be started");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = fs::read_to_string(example).expect("it is text");
    assert!(text.contains("mode = \"tokens\"") && !text.contains("anonymous_publish"), "{text}");
    // In the folder that the unit gives it.
    let folder = one(&unit("evergate.service"), "Service.StateDirectory").to_owned();
    assert!(text.contains(&format!("log = \"disk:/var/lib/{folder}/")), "{text}");
}

#[test]
fn two_instances_meet_in_a_directory_of_their_own() {
    let service = unit("evergate@.service");
    assert_runs(&service);
    let start = one(&service, "Service.ExecStart");
    let directory = one(&service, "Service.RuntimeDirectory");
    assert!(start.contains(&format!("--takeover=%t/{directory}/")), "{start}");
    // The first of the two to end must not take the directory along.
    assert_eq!(one(&service, "Service.RuntimeDirectoryPreserve"), "yes");
    assert_eq!(one(&service, "Service.RuntimeDirectoryMode"), "0700");
    // One that was taken over ends well, and must stay away.
    assert_eq!(one(&service, "Service.Restart"), "on-failure");
}

#[test]
fn systemd_itself_finds_no_mistake() {
    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        evergate_tests::left_out::left_out("systemd_itself_finds_no_mistake", "there is no systemd-analyze");
        return;
    };
    assert!(found.status.success());
    let copies = tempfile::tempdir().expect("a temporary folder can be made");
    let mut words = Vec::new();
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            continue;
        }
        let name = path.file_name().expect("a file").to_str().expect("a plain name").to_owned();
        // It wants the program to exist.
        let text = fs::read_to_string(&path).expect("it is text");
        let text = text.replace("/usr/bin/evergate", binary().to_str().expect("a plain path"));
        let name = name.replace("@.", "@blue.");
        fs::write(copies.path().join(&name), text).expect("the folder is ours");
        words.push(copies.path().join(name));
    }
    let told = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&words)
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{said}");
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("evergate")).collect();
    assert!(about_ours.is_empty(), "{about_ours:#?}");
}
