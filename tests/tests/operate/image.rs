//! The image: built from the Dockerfile's last stage, and run as a cluster would run it, by an engine of the test's own.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::clients::{checkout, pinned, system};
use evergate_tests::http1::{Request, call};
use evergate_tests::left_out::left_out;
use evergate_tests::process::binary;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const IMAGE: &str = "localhost/evergate:test";
const CONTAINER: &str = "evergate";
/// Enough for a test, and less than any machine allows.
const FILES: u64 = 4096;
const PROCESSES: &str = "nproc=1024:1024";
/// Whoever is killed in the middle of it leaves nothing running for longer.
const LASTS_S: &str = "300";

/// Where both versions of control groups are mounted, containers are not made. The engine then sees one of them only.
const BOTH_VERSIONS: &str = "/sys/fs/cgroup/unified";
const SEES_ONE: [&str; 6] = ["unshare", "--mount", "sh", "-c", r#"umount "$0" && exec "$@""#, BOTH_VERSIONS];

/// Podman, with a store of its own: nothing on this machine is touched, and no service is needed.
struct Engine {
    program: PathBuf,
    home: TempDir,
}

impl Engine {
    /// `None`, said aloud, where there is none, or where it may not make what a container is made of.
    fn find(test: &str) -> Option<Self> {
        let program = system(test, &["podman"])?;
        let engine = Self { program, home: tempfile::tempdir().expect("a folder can be made") };
        let told = engine.command(&["info"]).output().expect("it starts");
        if told.status.success() {
            return Some(engine);
        }
        let why = String::from_utf8_lossy(&told.stderr).trim().to_owned();
        left_out(test, &format!("podman cannot run here: {why}"));
        None
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if Path::new(BOTH_VERSIONS).exists() {
            let mut command = Command::new(SEES_ONE[0]);
            command.args(&SEES_ONE[1..]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command.arg("--root").arg(self.home.path().join("root"));
        command.arg("--runroot").arg(self.home.path().join("run"));
        command.arg("--tmpdir").arg(self.home.path().join("tmp"));
        // Plain folders and no service of the system's.
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Whether it may make a container here of an image that is fine; said aloud if it may not.
    fn may_run(&self, test: &str) -> bool {
        let bound = self.bound();
        let bound: Vec<_> = bound.iter().map(String::as_str).collect();
        let words = [&["run", "--rm"][..], &bound, &[IMAGE, "--version"]].concat();
        let told = self.command(&words).output().expect("it starts");
        let why = String::from_utf8_lossy(&told.stderr).trim().to_owned();
        // Its own words for what the machine refuses it, and none of an image's faults.
        let refused = ["Operation not permitted", "not supported"];
        let may = told.status.success() || !refused.iter().any(|words| why.contains(words));
        if !may {
            left_out(test, &format!("podman may run nothing here: {why}"));
        }
        may
    }

    /// What stands around a container: what the chart gives it and no more.
    fn bound(&self) -> Vec<String> {
        // No more than this machine allows, and without a hierarchy of groups, which it may not have.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES).min(FILES);
        let files = format!("nofile={files}:{files}");
        let words = "--read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges \
                     --pull never --network host --cgroups disabled --log-driver none";
        let limits = ["--timeout", LASTS_S, "--ulimit", &*files, "--ulimit", PROCESSES];
        words.split_whitespace().chain(limits).map(str::to_owned).collect()
    }

    /// What a command says.
    ///
    /// # Panics
    /// If it fails.
    fn told(&self, words: &[&str]) -> String {
        let told = self.command(words).output().expect("it starts");
        assert!(told.status.success(), "{words:?}: {told:?}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for words in [&["rm", "--all", "--force", "--time", "0"][..], &["rmi", "--all", "--force"]] {
            let _ = self.command(words).output();
        }
    }
}

/// A copy of the binary without what is only for finding mistakes in it, and the libraries that it wants, under `root`.
/// Says whether there are any: the image's own build makes a static one.
fn install(root: &Path) -> bool {
    let folder = |path: &str| {
        let folder = root.join(path);
        fs::create_dir_all(&folder).expect("the folder is ours");
        folder
    };
    let evergate = folder("out").join("evergate");
    let stripped = Command::new("strip").arg("-o").arg(&evergate).arg(binary()).status();
    assert!(stripped.expect("strip comes with the linker").success());
    fs::write(folder("etc/ssl/certs").join("ca-certificates.crt"), "").expect("the folder is ours");
    let told = Command::new("ldd").arg(&evergate).output().expect("ldd comes with the C library");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let libraries =
        told.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let mut any = false;
    for library in libraries {
        let path = Path::new(library);
        let into = folder(&format!("libraries{}", path.parent().expect("it is a file").display()));
        fs::copy(path, into.join(path.file_name().expect("it is a file"))).expect("it can be read");
        any = true;
    }
    any
}

/// The Dockerfile's last stage as it is, over a first one that has only to be copied.
fn recipe(dynamic: bool) -> String {
    let file = fs::read_to_string(checkout().join("Dockerfile")).expect("readable");
    let last = file.rfind("\nFROM ").expect("it has stages") + 1;
    let libraries = if dynamic { "COPY --from=build /libraries /\n" } else { "" };
    format!("FROM scratch AS build\nCOPY root /\n{}{libraries}", &file[last..])
}

/// A container in the foreground: what is done to this process is done to the one inside.
struct Running<'a> {
    engine: &'a Engine,
    child: Child,
    output: PathBuf,
}

impl<'a> Running<'a> {
    fn start(engine: &'a Engine, words: &[&str]) -> Self {
        let output = engine.home.path().join("output");
        let file = fs::File::create(&output).expect("the folder is ours");
        let bound = engine.bound();
        let bound: Vec<_> = bound.iter().map(String::as_str).collect();
        let mut command =
            engine.command(&[&["run", "--name", CONTAINER][..], &bound, &[IMAGE], words].concat());
        command.stdout(file.try_clone().expect("a file handle can be cloned")).stderr(file);
        Self { engine, child: command.spawn().expect("it starts"), output }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Where its admin pages are, once it is ready; as it says in its log.
    async fn ready(&mut self) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let told = lines
                .filter_map(|line| {
                    line["fields"]["admin"].as_str().or(line["admin"].as_str()).map(str::to_owned)
                })
                .next();
            if let Some(address) = told {
                return address.parse().expect("an address");
            }
            let ended = self.child.try_wait().expect("our own child can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "it is not ready ({ended:?}): {output}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process inside, as this machine knows it.
    fn pid(&self) -> i32 {
        self.engine.told(&["inspect", "--format", "{{.State.Pid}}", CONTAINER]).parse().expect("a number")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.engine.command(&["rm", "--force", "--time", "0", CONTAINER]).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn hadolint_finds_nothing_wrong_with_the_dockerfile() {
    let Some(pinned) = pinned("hadolint_finds_nothing_wrong_with_the_dockerfile") else { return };
    let judged = |file: &Path| {
        let told = Command::new(pinned.python.with_file_name("hadolint"))
            .args(["--no-color", "--failure-threshold", "style"])
            .arg(file)
            .output()
            .expect("hadolint starts");
        let said =
            format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        (told.status.success(), said)
    };
    assert_eq!(judged(&checkout().join("Dockerfile")), (true, String::new()));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let spoiled = folder.path().join("Dockerfile");
    fs::write(&spoiled, "FROM debian:latest\nRUN apt-get install curl\n").expect("the folder is ours");
    let (sound, said) = judged(&spoiled);
    assert!(!sound && said.contains("DL3007"), "{said}");
}

#[tokio::test]
async fn the_image_runs_read_only_as_nobody_and_ends_when_told() {
    let test = "the_image_runs_read_only_as_nobody_and_ends_when_told";
    let Some(engine) = Engine::find(test) else { return };
    let context = tempfile::tempdir().expect("a folder can be made");
    let dynamic = install(&context.path().join("root"));
    let mut file = fs::File::create(context.path().join("Dockerfile")).expect("the folder is ours");
    file.write_all(recipe(dynamic).as_bytes()).expect("the folder is ours");
    let folder = context.path().display().to_string();
    engine.told(&["build", "--isolation", "chroot", "--pull-never", "--tag", IMAGE, &folder]);
    if !engine.may_run(test) {
        return;
    }
    let config = engine.told(&["inspect", "--format", "{{json .Config}}", IMAGE]);
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["User"], "65532:65532", "{config}");
    assert_eq!(
        (&config["Entrypoint"][0], &config["Cmd"][0]),
        (&"/evergate".into(), &"edge".into()),
        "{config}"
    );
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0", "{config}");

    let words = [
        "edge",
        "--log",
        "memory",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut running = Running::start(&engine, &[&words[..], &["--set", "log_output.format=json"]].concat());
    let admin = running.ready().await;
    assert_eq!(call(admin, Request::get("/livez")).await.status(), 200);
    assert_eq!(call(admin, Request::get("/readyz")).await.status(), 200);

    let of_process =
        |what: &str| fs::read_to_string(format!("/proc/{}/{what}", running.pid())).expect("it lives");
    let status = of_process("status");
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).expect("it is told").trim().to_owned()
    };
    assert_eq!(line("Uid:"), "65532\t65532\t65532\t65532");
    assert_eq!(line("CapEff:").trim_start_matches('0'), "", "it may do nothing that others may not");
    assert_eq!(line("NoNewPrivs:"), "1");
    let mounts = of_process("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("it has a root");
    assert!(
        root.split(' ').nth(5).is_some_and(|options| options.split(',').any(|option| option == "ro")),
        "{root}"
    );

    kill_process(Pid::from_child(&running.child), Signal::TERM).expect("our own child can be signalled");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = running.child.try_wait().expect("our own child can be asked") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end: {}", running.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}: {}", running.output());
}
