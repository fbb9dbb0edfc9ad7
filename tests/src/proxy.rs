//! A real proxy before the gateway, run with the very file of `deploy/proxies`, in which only ports,
//! addresses and paths are replaced; and what a test gets wrong on purpose.
//!
//! Promises: the process never outlives its test (it is killed when the value is dropped, and by the
//! kernel when the thread that started it is gone), and only that process is ever signalled, by pid.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::PATIENCE;
use crate::clients::{checkout, pinned, system};
use crate::http1::{Connection, Request, Response};
use crate::http2;
use crate::left_out::say;
use crate::process::Evergate;
use crate::subscription::Subscription;
use crate::tls::{Certificate, HOST};

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Whose proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Debian's nginx.
    Nginx,
    /// Debian's HAProxy.
    HaProxy,
    /// The pinned Envoy.
    Envoy,
}

/// What stands behind the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Upstream {
    /// Where it serves.
    pub http: SocketAddr,
    /// Where it says whether it is ready.
    pub admin: SocketAddr,
}

/// A running proxy that terminates TLS. Dropping it kills it.
#[derive(Debug)]
pub struct Proxy {
    product: Product,
    address: SocketAddr,
    certificate: Certificate,
    folder: TempDir,
    child: Child,
}

impl Upstream {
    /// A gateway.
    #[must_use]
    pub fn of(server: &Evergate) -> Self {
        Self { http: server.http(), admin: server.admin() }
    }
}

impl Proxy {
    /// Starts a proxy with the documented configuration and returns once it accepts. `None`, said
    /// aloud, if it is not to be had here.
    ///
    /// Call it on the thread of the test: the kernel kills the process when that thread ends.
    pub async fn start(test: &str, product: Product, behind: [Upstream; 2]) -> Option<Self> {
        Self::changed(test, product, behind, &[]).await
    }

    /// The same with replacements in the configuration, each of which must find its text.
    ///
    /// # Panics
    /// If the proxy is missing on CI, or does not start, or a replacement finds nothing.
    pub async fn changed(
        test: &str,
        product: Product,
        behind: [Upstream; 2],
        changes: &[(&str, &str)],
    ) -> Option<Self> {
        let program = product.program(test)?;
        let openssl = system(test, &["openssl"])?;
        let folder = tempfile::Builder::new().prefix("evergate-proxy-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let certificate = Certificate::make(&openssl, folder.path());
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The port may be the momentary end of somebody else's connection: then another one.
            let port = free_port();
            let text = product.configuration(behind, port, folder.path(), changes);
            let mut child = product.spawn(&program, folder.path(), &text);
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            while child.try_wait().expect("our own child can be asked").is_none() {
                if certificate.connect(address, "http/1.1").await.is_ok() {
                    return Some(Self { product, address, certificate, folder, child });
                }
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("{product:?} accepts nothing within {PATIENCE:?}: {}", told(folder.path()));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let told = told(folder.path());
            assert!(
                told.contains("in use") && Instant::now() < deadline,
                "{product:?} does not stay; it wrote:\n{told}"
            );
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.address.port())
    }

    /// The certificate by which to know it.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// An HTTP/1.1 connection over TLS.
    pub async fn connect(&self) -> Connection {
        let wire = self.certificate.connect(self.address, "http/1.1").await;
        Connection::over(wire.expect("the proxy accepts"))
    }

    /// The same from an address of this machine's own, such as any in `127.0.0.0/8`.
    pub async fn connect_from(&self, source: Ipv4Addr) -> Connection {
        let socket = TcpSocket::new_v4().expect("a socket can be had");
        socket.bind(SocketAddr::from((source, 0))).expect("it is ours");
        let wire = socket.connect(self.address).await.expect("the proxy accepts");
        Connection::over(self.certificate.over(wire, "http/1.1").await.expect("it is the proxy"))
    }

    /// An HTTP/2 connection over TLS, as a browser makes one.
    pub async fn http2(&self) -> http2::Client {
        let wire = self.certificate.connect(self.address, "h2").await.expect("the proxy accepts");
        http2::Client::over(wire, &format!("{HOST}:{}", self.address.port())).await
    }

    /// Subscribes over HTTP/1.1.
    pub async fn subscribe(&self, request: &Request) -> Subscription {
        self.try_subscribe(request).await.expect("the subscription is answered")
    }

    /// Subscribes over HTTP/1.1 where the edge behind may be gone or going.
    ///
    /// # Errors
    /// The connection breaks before the answer.
    pub async fn try_subscribe(&self, request: &Request) -> io::Result<Subscription> {
        let mut connection = Connection::over(self.certificate.connect(self.address, "http/1.1").await?);
        connection.try_send_bytes(&request.encode()).await?;
        Subscription::over(connection).await
    }

    /// One request on a connection of its own.
    pub async fn call(&self, request: Request) -> Response {
        self.connect().await.call(&request).await
    }

    /// One request on a connection of its own, which may break.
    ///
    /// # Errors
    /// The connection breaks before the end of the answer.
    pub async fn try_call(&self, request: &Request) -> io::Result<Response> {
        let mut connection = Connection::over(self.certificate.connect(self.address, "http/1.1").await?);
        connection.try_call(request).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only where the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("--- {:?} wrote:\n{}---\n", self.product, told(self.folder.path())));
        }
    }
}

impl Product {
    fn program(self, test: &str) -> Option<PathBuf> {
        match self {
            Self::Nginx => system(test, &["nginx"]),
            Self::HaProxy => system(test, &["haproxy"]),
            Self::Envoy => pinned(test).map(|pinned| pinned.envoy),
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::HaProxy => "haproxy.cfg",
            Self::Envoy => "envoy.yaml",
        }
    }

    /// The documented file, with the places of this test, and its faults.
    fn configuration(
        self,
        behind: [Upstream; 2],
        port: u16,
        folder: &Path,
        changes: &[(&str, &str)],
    ) -> String {
        let path = checkout().join("deploy/proxies").join(self.file());
        let mut text = fs::read_to_string(&path).expect("the file is documented");
        let mut replace = |from: &str, to: &str| {
            assert!(text.contains(from), "{} does not say {from:?}", path.display());
            text = text.replace(from, to);
        };
        for (from, to) in changes {
            replace(from, to);
        }
        replace("/etc/ssl/evergate", &folder.display().to_string());
        let port_of = |address: SocketAddr| address.port().to_string();
        // What `Upstream` knows is on this machine's own address, as in the files.
        match self {
            Self::Nginx => {
                replace("listen 443 ", &format!("listen 127.0.0.1:{port} "));
                replace("127.0.0.1:8080", &behind[0].http.to_string());
                replace("127.0.0.1:9080", &behind[1].http.to_string());
            }
            Self::HaProxy => {
                // As many as a test needs, and as its descriptors allow.
                replace("maxconn 65536", "maxconn 4000");
                replace("bind :443 ", &format!("bind 127.0.0.1:{port} "));
                replace("127.0.0.1:8080", &behind[0].http.to_string());
                replace("127.0.0.1:9080", &behind[1].http.to_string());
                replace("port 8082", &format!("port {}", port_of(behind[0].admin)));
                replace("port 9082", &format!("port {}", port_of(behind[1].admin)));
            }
            Self::Envoy => {
                replace(
                    "address: 0.0.0.0, port_value: 443 ",
                    &format!("address: 127.0.0.1, port_value: {port} "),
                );
                replace("port_value: 9901", "port_value: 0");
                for (documented, real) in [
                    ("8080", behind[0].http),
                    ("9080", behind[1].http),
                    ("8082", behind[0].admin),
                    ("9082", behind[1].admin),
                ] {
                    replace(
                        &format!("port_value: {documented} "),
                        &format!("port_value: {} ", port_of(real)),
                    );
                }
            }
        }
        text
    }

    fn spawn(self, program: &Path, folder: &Path, text: &str) -> Child {
        let file = folder.join(self.file());
        fs::write(&file, text).expect("the folder is ours");
        let output = File::create(folder.join("output.txt")).expect("the folder is ours");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        match self {
            Self::Nginx => {
                let main = folder.join("main.conf");
                fs::write(&main, nginx_around(&file, folder)).expect("the folder is ours");
                // One process, so that it ends with us.
                command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-p"]).arg(folder);
                command.arg("-c").arg(main);
            }
            Self::HaProxy => {
                command.arg("-db").arg("-f").arg(file);
            }
            Self::Envoy => {
                command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
                command.arg("-c").arg(file);
            }
        }
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .expect("setpriv can be started")
    }
}

/// What Debian's own file says around ours, with everything it writes in a folder of the test's.
fn nginx_around(file: &Path, folder: &Path) -> String {
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(temporary, "{kind}_temp_path {}/{kind};", folder.display());
    }
    format!(
        "pid {0}/nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 20000; }}\n\
         http {{\naccess_log off;\ntypes {{ text/html html; }}\n{temporary}include {1};\n}}\n",
        folder.display(),
        file.display(),
    )
}

fn told(folder: &Path) -> String {
    fs::read_to_string(folder.join("output.txt")).unwrap_or_default()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}
