//! What only operators know: passwords, tokens, headers for collectors, keys. A process is told all of it and then meets
//! whatever may go wrong; nothing of it is in what is written or shown.

use std::path::Path;
use std::process::{Command, Stdio};

use evergate_tests::authority::{Authority, text};
use evergate_tests::collector::{Collector, Manner};
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options, binary, own_settings_only};
use evergate_tests::subscription::Subscription;
use tempfile::TempDir;

/// Each is marked, so that it is found whole and in part.
const MARK: &str = "S3CRET";

struct Secrets {
    folder: TempDir,
    authority: Authority,
}

impl Secrets {
    fn new() -> Self {
        let secrets = Self { folder: tempfile::tempdir().expect("a folder"), authority: Authority::new() };
        let key = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k","k":"S3CRETS3CRETS3CRETS3CRETS3CRETS3CRETS3CRETA"}]}"#;
        secrets.write("keys.json", key);
        secrets.write("admin-token", &format!("{MARK}-of-the-admin-pages"));
        secrets.write("sentinel-login", &format!("user {MARK}-of-the-sentinels"));
        secrets.write("tickets", &"0a".repeat(32));
        secrets
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("the folder is ours");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration with all of them, as a file holds it.
    fn configuration(&self, log: &str) -> String {
        let shown = self.authority.sign("edge", &["localhost"]);
        format!(
            "log = \"{log}\"\n[access]\nmode = \"tokens\"\nkeys = [\"file:{}\"]\n[admin]\ntoken_file = \"{}\"\n[tls]\n\
             certificate_files = [\"{}\"]\nkey_files = [\"{}\"]\nticket_secrets_file = \"{}\"\n[http]\ntls = \"on\"\n",
            text(&self.path("keys.json")),
            text(&self.path("admin-token")),
            text(&shown.certificate),
            text(&shown.key),
            text(&self.path("tickets")),
        )
    }

    /// What must be nowhere: the marks, and what is in the key files, which bear none.
    fn assert_hidden(&self, said: &str, what: &str) {
        assert!(!said.contains(MARK), "{what} tells a secret: {said}");
        assert!(!said.contains(&"0a".repeat(8)), "{what} tells what tickets are made of: {said}");
        let key = std::fs::read_to_string(self.authority.path("edge.key")).unwrap_or_default();
        for line in key.lines().filter(|line| line.len() > 30) {
            assert!(!said.contains(&line[..20]), "{what} tells a private key: {said}");
        }
    }
}

/// What a command of the binary writes, however it ends.
fn said_by(arguments: &[&str], environment: &[(&str, &str)], at: &Path) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(at).stdin(Stdio::null());
    own_settings_only(&mut command);
    let output = command.envs(environment.iter().copied()).output().expect("the binary starts");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_check_of_the_configuration_repeats_no_secret() {
    let secrets = Secrets::new();
    let redis = format!("redis://user:{MARK}@127.0.0.1:1/0");
    secrets.write("good.toml", &secrets.configuration(&redis));
    let good = secrets.path("good.toml");
    let headers = format!("authorization=Bearer {MARK}");
    let told = [("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str())];
    let said = said_by(&["config", "check", "--config", text(&good)], &told, secrets.folder.path());
    assert!(said.contains("configuration is valid"), "{said}");
    secrets.assert_hidden(&said, "config check");

    // What is wrong is told by where it is, and not by repeating what may be a secret.
    for (at, wrong) in [
        format!("redis://user:{MARK}@127.0.0.1:none/0"),
        format!("redis-sentinel://user:{MARK}@host"),
        format!("reddis://user:{MARK}@host"),
        format!("redis://user:{MARK}@host/0?what={MARK}"),
    ]
    .iter()
    .enumerate()
    {
        secrets.write("wrong.toml", &secrets.configuration(wrong));
        let file = secrets.path("wrong.toml");
        for arguments in [
            vec!["config", "check", "--config", text(&file)],
            vec!["config", "check", "--log", wrong.as_str()],
            vec!["dev", "--config", text(&file)],
        ] {
            let said = said_by(&arguments, &told, secrets.folder.path());
            assert!(!said.is_empty());
            secrets.assert_hidden(&said, &format!("{arguments:?} of mistake {at}"));
        }
        let by_environment = [("EVERGATE_LOG", wrong.as_str())];
        let said = said_by(&["config", "check"], &by_environment, secrets.folder.path());
        secrets.assert_hidden(&said, "a mistake in the environment");
    }
}

/// A Redis that is not there, tokens that are wrong, an admin page without its token: all of it is told of, at the
/// greatest length.
#[tokio::test]
async fn a_process_in_trouble_writes_no_secret() {
    let secrets = Secrets::new();
    let told = secrets.configuration("memory").replace("log = \"memory\"\n", "");
    let collector = Collector::start(Manner::Takes).await;
    let headers = format!("OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20{MARK}");
    let options = Options::memory()
        .configured(&told)
        .launched_by(&["env", &headers])
        .set("access.anonymous_subscribe", "open")
        .set("telemetry.endpoint", &collector.url())
        .set("telemetry.sample_one_in", "1")
        .set("tls.reload_interval", "200ms")
        .set("log_output.level", "trace");
    let server = Evergate::start(options).await;
    let (token, page) = (format!("Bearer {MARK}-of-the-admin-pages"), "/admin");
    let wrong = Request::get(page).header("Authorization", format!("Bearer {MARK}-that-is-wrong"));
    assert_eq!(call(server.admin(), wrong).await.status(), 401);
    let shown = call(server.admin(), Request::get(page).header("Authorization", &token)).await;
    assert_eq!(shown.status(), 200, "{shown:?}");
    secrets.assert_hidden(&String::from_utf8_lossy(&shown.body), "the admin page");
    for path in ["/metrics", "/readyz", "/version"] {
        let shown = call(server.admin(), Request::get(path)).await;
        secrets.assert_hidden(&String::from_utf8_lossy(&shown.body), path);
    }
    let wire = secrets.authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let asked =
        Request::get("/v1/streams/s/events").header("Authorization", format!("Bearer {MARK}.{MARK}.{MARK}"));
    let answer = Connection::over(wire).call(&asked).await;
    answer.problem(401);
    secrets.assert_hidden(&String::from_utf8_lossy(&answer.body), "a refusal");
    let wire = secrets.authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let mut connection = Connection::over(wire);
    connection.send(&Request::get("/v1/streams/open/events")).await;
    Subscription::over(connection).await.expect("answered").opened().await;
    // A pair that does not belong together is told of by its files.
    let other = secrets.authority.sign("other", &["localhost"]);
    std::fs::copy(&other.key, secrets.authority.path("edge.key")).expect("the folder is ours");
    server.writes("changed files make no TLS").await;
    collector.called(1).await;
    secrets.assert_hidden(&server.output(), "the log output");

    // Ends before it is ready, or soon after, and says why.
    let redis = format!("redis://user:{MARK}@127.0.0.1:1/0");
    let said = Evergate::refusal(Options::redis(&redis).set("log_output.level", "trace")).await;
    // The test's own words repeat how it was started.
    let said = said.rsplit_once("it wrote:").expect("what it wrote").1;
    assert!(!said.trim().is_empty());
    secrets.assert_hidden(said, "a process without its Redis");
}
