//! The admin listener: `/livez`, `/readyz`, `/metrics`, `/admin`, `/explain`, `/drain` and `/revocations`, for supervisors and
//! operators, not for the public.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{Listener, ListenerExt as _};
use evergate_access::Revoked;
use evergate_edge::{Explainer, RevokeError, Revoker, Viewer};
use serde::Deserialize;
use serde_json::json;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::metrics::{Format, Metrics, openmetrics};
use crate::readiness::{Readiness, Stage};
use crate::troubles::Troubles;

mod cluster;
mod entry;
mod explain;
mod heap;
mod journal;
mod page;

pub(crate) use cluster::Cluster;
pub(crate) use entry::Entry;
pub(crate) use explain::EXPLAIN;
pub(crate) use journal::Journal;
pub(crate) use page::Viewers;

/// What the pages tell.
#[derive(Clone)]
pub(crate) struct About {
    pub node: String,
    pub region: String,
    pub readiness: Readiness,
    pub troubles: Troubles,
    pub certificates: Certificates,
    pub metrics: Metrics,
    /// Cancelled when the process is asked to end.
    pub drain: CancellationToken,
    /// Calls tokens back, once there is an edge.
    pub revoker: Arc<OnceLock<Revoker>>,
    /// Says why a client did or did not get an event, once there is an edge.
    pub explainer: Arc<OnceLock<Explainer>>,
    /// Looks at streams, once there is an edge.
    pub viewer: Arc<OnceLock<Viewer>>,
    /// The cluster, once this process belongs to one.
    pub cluster: Arc<OnceLock<Cluster>>,
    /// What happened lately.
    pub journal: Journal,
    /// Who may see the admin page, and how many may at once.
    pub entry: Entry,
    pub viewers: Viewers,
}

/// Asks the process to end in order.
pub(crate) const DRAIN: &str = "/drain";

/// Must come with it. A page in somebody's browser cannot send it to another origin without asking
/// first, and that is never allowed here.
pub(crate) const DRAIN_HEADER: &str = "evergate-admin";

/// Calls tokens back.
const REVOCATIONS: &str = "/revocations";

/// For so long, if nothing is said: longer than tokens should last.
const REVOKED_FOR_S: u64 = 24 * 3600;

/// A bound listener; it answers as soon as it [`run`](Self::run)s.
pub(crate) struct Admin {
    listener: TcpListener,
    about: About,
}

/// The listener, until it is left to another process: then it accepts nothing more, and who was accepted
/// is served on.
struct Leaving {
    listener: TcpListener,
    left: CancellationToken,
}

impl Admin {
    /// Binds the address, if it is not `bound` already.
    pub(crate) async fn bind(
        address: SocketAddr,
        bound: Option<std::net::TcpListener>,
        about: About,
    ) -> io::Result<Self> {
        let listener = match bound {
            Some(bound) => {
                bound.set_nonblocking(true)?;
                TcpListener::from_std(bound)?
            }
            None => TcpListener::bind(address).await?,
        };
        Ok(Self { listener, about })
    }

    /// A second handle on the listener. As long as one is held, its queue stays open.
    pub(crate) fn listener(&self) -> io::Result<std::net::TcpListener> {
        let handle: OwnedFd = self.listener.as_fd().try_clone_to_owned()?;
        Ok(handle.into())
    }

    /// The real address, also where the system chose the port.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the requests under way. Accepts until `left`.
    pub(crate) async fn run(
        self,
        left: CancellationToken,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = Leaving { listener: self.listener, left };
        let listener = listener.tap_io(|socket| {
            let probes = TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(10))
                .with_retries(3);
            let socket = SockRef::from(&*socket);
            let set = socket
                .set_tcp_keepalive(&probes)
                .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(30))));
            if let Err(error) = set {
                tracing::debug!(%error, "an admin connection was gone before it was served");
            }
        });
        axum::serve(listener, router(self.about)).with_graceful_shutdown(stop).await
    }
}

impl Listener for Leaving {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let accepting = Listener::accept(&mut self.listener);
        match self.left.run_until_cancelled(accepting).await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn router(about: About) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(DRAIN, post(drain).fallback(only_post))
        .route(heap::HEAP, get(heap::heap).post(heap::heap).delete(heap::heap))
        .route(EXPLAIN, get(explain::explain))
        .route("/admin", get(page::page))
        .route("/admin/admin.css", get(page::page))
        .route("/admin/admin.js", get(page::page))
        .route("/admin/events", get(page::events))
        .route("/admin/stream", get(page::stream_page))
        .route(REVOCATIONS, post(revoke).fallback(only_post))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(about)
}

/// That this is answered at all is the proof of life.
async fn livez() -> Response {
    reply(StatusCode::OK, "application/json", &json!({ "status": "alive" }))
}

/// Fails only for what is local: a shared dependency that is down must not empty the balancer. It
/// is named among the troubles.
async fn readyz(State(about): State<About>) -> Response {
    let stage = about.readiness.stage();
    let status = match stage {
        Stage::Ready => StatusCode::OK,
        Stage::Starting | Stage::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let now = SystemTime::now();
    let troubles = [about.troubles.now(), about.certificates.troubles(now)].concat();
    let days_left = about.certificates.days_left(now).into_iter();
    let days_left: BTreeMap<_, _> =
        days_left.map(|(file, days)| (file.display().to_string(), days)).collect();
    let body = json!({
        "status": stage.as_str(),
        "node": about.node,
        "region": about.region,
        "version": env!("CARGO_PKG_VERSION"),
        "troubles": troubles,
        "certificates_days_left": days_left,
    });
    reply(status, "application/json", &body)
}

/// In the format that whoever asks likes better; in the text format if they do not say.
async fn metrics(State(about): State<About>, headers: HeaderMap) -> Response {
    let (format, name) = if openmetrics::is_wanted(&headers) {
        (Format::Open, openmetrics::CONTENT_TYPE)
    } else {
        (Format::Text, "text/plain; version=0.0.4; charset=utf-8")
    };
    ([(header::CONTENT_TYPE, name)], about.metrics.render(format)).into_response()
}

/// Begins what a SIGTERM begins. Harmless if repeated.
async fn drain(State(about): State<About>, headers: HeaderMap) -> Response {
    if !headers.contains_key(DRAIN_HEADER) {
        return problem(StatusCode::FORBIDDEN, &format!("the header field {DRAIN_HEADER} is missing"));
    }
    about.drain.cancel();
    let body = json!({ "status": Stage::Stopping.as_str(), "node": about.node });
    reply(StatusCode::ACCEPTED, "application/json", &body)
}

/// `{"subject": "…"}` or `{"token_id": "…"}`, and `"for_s"` if it is not a day. Harmless if repeated.
async fn revoke(State(about): State<About>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        subject: Option<String>,
        token_id: Option<String>,
        for_s: Option<u64>,
    }
    if !headers.contains_key(DRAIN_HEADER) {
        return problem(StatusCode::FORBIDDEN, &format!("the header field {DRAIN_HEADER} is missing"));
    }
    let Ok(Asked { subject, token_id, for_s }) = serde_json::from_slice(&body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "expected an object with subject or token_id, and perhaps for_s",
        );
    };
    let revoked = match (&subject, &token_id) {
        (Some(subject), None) => Revoked::Subject(subject),
        (None, Some(token)) => Revoked::Token(token),
        (Some(_), Some(_)) | (None, None) => {
            return problem(StatusCode::BAD_REQUEST, "expected either subject or token_id");
        }
    };
    let Some(revoker) = about.revoker.get() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no edge yet");
    };
    let lasts = Duration::from_secs(for_s.unwrap_or(REVOKED_FOR_S));
    match revoker.revoke(revoked, lasts) {
        Ok(()) => reply(StatusCode::ACCEPTED, "application/json", &json!({ "for_s": lasts.as_secs() })),
        Err(error @ RevokeError::NoTokens) => problem(StatusCode::CONFLICT, &error.to_string()),
        Err(error @ RevokeError::Full(_)) => problem(StatusCode::INSUFFICIENT_STORAGE, &error.to_string()),
    }
}

async fn only_post() -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    response
}

async fn not_found(uri: Uri) -> Response {
    let detail = format!(
        "there is no {}, only /livez, /readyz, /metrics, /admin, /explain, /debug/heap, /drain and /revocations",
        uri.path()
    );
    problem(StatusCode::NOT_FOUND, &detail)
}

async fn method_not_allowed() -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET,HEAD"));
    response
}

/// A refusal by RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    reply(status, "application/problem+json", &body)
}

fn reply(status: StatusCode, content_type: &'static str, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use metrics_exporter_prometheus::PrometheusRecorder;

    use super::*;
    use crate::metrics::recorder;

    /// With a collector of its own: the process's can be installed only once.
    fn about(recorder: &PrometheusRecorder) -> About {
        About {
            node: "edge-1".to_owned(),
            region: "eu".to_owned(),
            readiness: Readiness::default(),
            troubles: Troubles::default(),
            certificates: Certificates::default(),
            metrics: Metrics::of(recorder),
            drain: CancellationToken::new(),
            revoker: Arc::default(),
            explainer: Arc::default(),
            viewer: Arc::default(),
            cluster: Arc::default(),
            journal: Journal::default(),
            entry: Entry::Closed,
            viewers: Viewers::default(),
        }
    }

    async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn the_pages_tell_the_stage_and_end_when_told() {
        let about = about(&recorder().unwrap());
        let readiness = about.readiness.clone();
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), None, about).await.unwrap();
        let address = admin.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(admin.run(CancellationToken::new(), async { drop(stopped.await) }));

        for (stage, code, word) in [
            (Stage::Starting, "503", "starting"),
            (Stage::Ready, "200", "ready"),
            (Stage::Stopping, "503", "stopping"),
        ] {
            readiness.advance(stage);
            let (head, body) = ask(address, "GET", "/readyz").await;
            assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (&body["status"], &body["node"], &body["region"]),
                (&json!(word), &json!("edge-1"), &json!("eu"))
            );
            let (head, _) = ask(address, "GET", "/livez").await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }

        drop(stop);
        running.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_process_is_drained_by_who_means_it() {
        let about = about(&recorder().unwrap());
        let drain = about.drain.clone();
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), None, about).await.unwrap();
        let address = admin.address().unwrap();
        let running = tokio::spawn(admin.run(CancellationToken::new(), std::future::pending()));
        for (method, path, status) in [
            ("GET", "/drain", "405 Method Not Allowed"),
            ("POST", "/drain", "403 Forbidden"),
            // As a page of another origin may send it.
            ("POST", "/drain?evergate-admin=drain", "403 Forbidden"),
        ] {
            let (head, _) = ask(address, method, path).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert!(!drain.is_cancelled());
        }
        let (head, _) = ask(address, "POST", "/drain HTTP/1.1\r\nevergate-admin: drain\r\nx-rest:").await;
        assert!(head.starts_with("HTTP/1.1 202"), "{head}");
        assert!(drain.is_cancelled());
        running.abort();
    }

    #[tokio::test]
    async fn metrics_are_text_unless_asked_otherwise_and_anything_else_a_problem() {
        let recorder = recorder().unwrap();
        ::metrics::with_local_recorder(&recorder, || ::metrics::counter!("evergate_test_total").increment(3));
        let about = about(&recorder);
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), None, about).await.unwrap();
        let address = admin.address().unwrap();
        let running = tokio::spawn(admin.run(CancellationToken::new(), std::future::pending()));

        let (head, body) = ask(address, "GET", "/metrics").await;
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("# TYPE evergate_test_total counter\nevergate_test_total 3"), "{body}");
        let asking = "/metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\nx-rest:";
        let (head, body) = ask(address, "GET", asking).await;
        assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
        assert!(body.contains("# TYPE evergate_test counter\nevergate_test_total 3\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        for (method, path, status, code) in
            [("GET", "/nothing", "404 Not Found", 404), ("POST", "/livez", "405 Method Not Allowed", 405)]
        {
            let (head, body) = ask(address, method, path).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
            assert!(head.contains("application/problem+json"), "{head}");
            let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["status"], json!(code));
        }
        running.abort();
    }
}
