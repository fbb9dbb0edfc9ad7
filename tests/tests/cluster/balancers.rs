//! Real balancers, given the edges by `evergate cluster upstream`: the same client comes to the same edge, and
//! when one dies its clients move. With nginx nobody else does; Envoy gives those that are left more points on
//! its ring, so that some of theirs change places too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use evergate_tests::clients::{pinned, system};
use evergate_tests::controls::{Controls, wait};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::left_out::say;
use evergate_tests::process::{Evergate, Options, binary};
use serde_json::Value;

use crate::places::{CLIENTS, three};

/// A process of this test's, killed with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(folder: &Path, name: &str, program: &Path, arguments: &[&str]) -> Running {
    let output = File::create(folder.join(format!("{name}.txt"))).expect("the folder is ours");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a handle can be cloned")).stderr(output);
    Running(command.spawn().expect("setpriv can be started"))
}

/// Keeps a balancer's list up to date.
fn followed(controls: &Controls, folder: &Path, arguments: &[&str]) -> Running {
    let server = format!("http://{}", controls.address(0));
    let token = controls.token();
    let common = [
        "cluster",
        "upstream",
        "--server",
        &server,
        "--token-file",
        token.to_str().expect("a path"),
        "--region",
        "eu",
        "--follow",
    ];
    run(folder, "follow", &binary(), &[&common[..], arguments].concat())
}

/// Which edge a client comes to, through the balancer.
async fn reached(balancer: SocketAddr, client: &str) -> Option<String> {
    let socket = tokio::net::TcpStream::connect(balancer).await.ok()?;
    let request = Request::get("/v1/route").header("X-Client", client);
    let answer = Connection::over(socket).try_call(&request).await.ok()?;
    let told: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(told["reached"].as_str()?.to_owned())
}

async fn all_reached(balancer: SocketAddr) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for number in 0..CLIENTS {
        let client = format!("192.0.2.{number}");
        all.insert(client.clone(), reached(balancer, &client).await?);
    }
    Some(all)
}

/// What holds for any balancer. Tells how many clients moved that were none of the dead edge's.
async fn judge(edges: &mut [Evergate], balancer: SocketAddr, list: &Path, mut renew: impl FnMut()) -> usize {
    let before = wait("the balancer answers for everybody", async || all_reached(balancer).await).await;
    assert_eq!(all_reached(balancer).await.as_ref(), Some(&before), "the same client, the same edge");
    for edge in ["edge-a", "edge-b", "edge-c"] {
        let own = before.values().filter(|reached| *reached == edge).count();
        assert!(own >= 5, "{own} of {CLIENTS} at {edge}: {before:?}");
    }
    let at = edges[1].http().to_string();
    let (host, port) = at.rsplit_once(':').expect("an address");
    let is_listed = || {
        let text = fs::read_to_string(list).unwrap_or_default();
        // Envoy's file tells the port by itself.
        text.contains(&format!("{host}:{port}")) || text.contains(&format!("\"port_value\": {port}"))
    };
    assert!(is_listed());
    edges[1].kill();
    wait("the edge is in the list no more", async || (!is_listed()).then_some(())).await;
    renew();
    let after = wait("nobody comes to the dead edge", async || {
        let after = all_reached(balancer).await?;
        after.values().all(|edge| edge != "edge-b").then_some(after)
    })
    .await;
    let moved = |of_dead: bool| {
        let those = before.iter().filter(|(_, edge)| (*edge == "edge-b") == of_dead);
        those.filter(|(client, edge)| after[*client] != **edge).count()
    };
    say(&format!(
        "{} of {CLIENTS} clients were the dead edge's and moved, and {} others\n",
        moved(true),
        moved(false)
    ));
    moved(false)
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

#[tokio::test]
async fn nginx_keeps_clients_at_their_edges() {
    let Some(nginx) = system("nginx_keeps_clients_at_their_edges", &["nginx"]) else { return };
    let controls = Controls::start(1).await;
    let mut edges = three(&controls, Options::memory).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, balancer) = (folder.path(), free());
    let list = folder.join("upstream.conf");
    let path = list.to_str().expect("a path");
    let then = "echo told >> told.txt";
    let _following = followed(&controls, folder, &["--for", "nginx", "--file", path, "--then", then]);
    let told = || fs::read_to_string(folder.join("told.txt")).map_or(0, |told| told.lines().count());
    wait("the list", async || (told() > 0).then_some(())).await;
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary.push_str(&format!("{kind}_temp_path {}/{kind};\n", folder.display()));
    }
    // The test's clients all come from one address; the header stands for what `set_real_ip_from` believes.
    let text = format!(
        "pid {0}/nginx.pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\naccess_log off;\n{temporary}\
         set_real_ip_from 127.0.0.1;\nreal_ip_header X-Client;\ninclude {1};\n\
         server {{\nlisten {balancer};\nlocation / {{ proxy_pass http://evergate; }}\n}}\n}}\n",
        folder.display(),
        list.display(),
    );
    fs::write(folder.join("main.conf"), text).expect("the folder is ours");
    let main = folder.join("main.conf");
    let own = folder.to_str().expect("a path");
    let arguments = [
        "-e",
        "stderr",
        "-g",
        "daemon off; master_process off;",
        "-p",
        own,
        "-c",
        main.to_str().expect("a path"),
    ];
    let start = || {
        let nginx = run(folder, "nginx", &nginx, &arguments);
        while TcpStream::connect(balancer).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        nginx
    };
    // A process without a master cannot reload its list, and one with a master would leave its workers behind.
    let mut running = Some(start());
    let renew = || {
        running = None;
        running = Some(start());
    };
    let others = judge(&mut edges, balancer, &list, renew).await;
    assert_eq!(others, 0, "only the dead edge's clients move");
    assert!(told() >= 2, "the command was run with each list");
}

#[tokio::test]
async fn envoy_keeps_clients_at_their_edges() {
    let Some(pinned) = pinned("envoy_keeps_clients_at_their_edges") else { return };
    let controls = Controls::start(1).await;
    let mut edges = three(&controls, Options::memory).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, balancer) = (folder.path(), free());
    let list = folder.join("endpoints.json");
    let path = list.to_str().expect("a path");
    let _following = followed(&controls, folder, &["--for", "envoy", "--file", path]);
    wait("the list", async || list.exists().then_some(())).await;
    let text = format!(
        r#"
node: {{id: test, cluster: test}}
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: test
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {{prefix: "/"}}
                          route:
                            cluster: evergate
                            hash_policy: [{{header: {{header_name: x-client}}}}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: evergate
      type: EDS
      lb_policy: RING_HASH
      connect_timeout: 1s
      eds_cluster_config:
        eds_config:
          resource_api_version: V3
          path_config_source: {{path: {path}}}
"#,
        port = balancer.port(),
    );
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).expect("the folder is ours");
    let arguments = ["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c"];
    let file = file.to_str().expect("a path");
    let _envoy = run(folder, "envoy", &pinned.envoy, &[&arguments[..], &[file]].concat());
    wait("Envoy listens", async || TcpStream::connect(balancer).is_ok().then_some(())).await;
    let others = judge(&mut edges, balancer, &list, || {}).await;
    assert!(others * 3 <= CLIENTS, "{others} of {CLIENTS} moved that did not have to");
}
