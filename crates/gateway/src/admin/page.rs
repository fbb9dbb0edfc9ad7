//! The admin page: what the process tells of itself, once a second, and a look at its streams. It changes
//! nothing, and is shown to whom [`Entry`](super::entry::Entry) lets in.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use evergate_domain::{EventType, Key, StreamName, sse};
use evergate_edge::Viewer;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::form_urlencoded;

use super::{About, Cluster, problem, reply};
use crate::metrics::Format;
use crate::readiness::Stage;

/// How often the page is told.
const EVERY: Duration = Duration::from_secs(1);
/// Pages that are open at once; each costs a rendering of all figures a second.
const VIEWERS_MAX: usize = 16;
/// Events that one look shows.
const EVENTS: usize = 20;
/// Characters of data that are shown of each.
const DATA_CHARS: usize = 400;

/// Nothing from elsewhere, and nothing that stands in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How many more pages may be open.
#[derive(Clone)]
pub(crate) struct Viewers(Arc<Semaphore>);

impl Default for Viewers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(VIEWERS_MAX)))
    }
}

/// The page and what belongs to it.
pub(super) async fn page(State(about): State<About>, headers: HeaderMap, uri: Uri) -> Response {
    if let Err(refused) = about.entry.admit(&headers) {
        return *refused;
    }
    let (kind, text) = match uri.path() {
        "/admin/admin.css" => ("text/css; charset=utf-8", include_str!("../../assets/admin/admin.css")),
        "/admin/admin.js" => ("text/javascript; charset=utf-8", include_str!("../../assets/admin/admin.js")),
        _ => ("text/html; charset=utf-8", include_str!("../../assets/admin/index.html")),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

/// An event stream of states. It ends when the process does, and whoever comes meanwhile gets one.
pub(super) async fn events(State(about): State<About>, headers: HeaderMap) -> Response {
    if let Err(refused) = about.entry.admit(&headers) {
        return *refused;
    }
    let Ok(viewer) = Arc::clone(&about.viewers.0).try_acquire_owned() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "so many look already");
    };
    let frames = stream::unfold(Some((about, viewer, true)), |watching| async move {
        let (about, viewer, first): (About, OwnedSemaphorePermit, bool) = watching?;
        if !first {
            tokio::time::sleep(EVERY).await;
        }
        let last = about.readiness.stage() == Stage::Stopping;
        let mut frame = Vec::new();
        if first {
            sse::retry_hint(&mut frame, 1_000);
        }
        sse::fields(&mut frame, Some("state"), &state(&about).to_string());
        frame.push(b'\n');
        let next = (!last).then_some((about, viewer, false));
        Some((Ok::<_, Infallible>(Bytes::from(frame)), next))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(frames)).into_response()
}

/// `GET /admin/stream?stream=…`: where a stream stands, and its newest events.
pub(super) async fn stream_page(State(about): State<About>, headers: HeaderMap, uri: Uri) -> Response {
    if let Err(refused) = about.entry.admit(&headers) {
        return *refused;
    }
    let query = uri.query().unwrap_or_default();
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "stream");
    let stream = match named.map(|(_, name)| StreamName::new(&name)) {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return problem(StatusCode::BAD_REQUEST, &format!("stream: {error}")),
        None => return problem(StatusCode::BAD_REQUEST, "expected stream"),
    };
    let Some(viewer) = about.viewer.get() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no edge here, or none yet");
    };
    let look = match viewer.look(&stream, EVENTS).await {
        Ok(look) => look,
        Err(error) => return problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let shown = look.events.iter().rev().map(|event| {
        json!({
            "id": event.offset.to_string(),
            "accepted": event.time.to_string(),
            "key": event.key.as_ref().map(Key::as_str),
            "type": event.kind.as_ref().map(EventType::as_str),
            "data": shortened(&event.data),
        })
    });
    let (status, retention) = (look.status, look.retention);
    let body = json!({
        "stream": stream.as_str(),
        "tail": status.tail.to_string(),
        "uncommitted": status.appended.seq.get().saturating_sub(status.tail.seq.get()),
        "floor": status.floor.to_string(),
        "bytes": status.bytes,
        "level": look.level.as_str(),
        "retention": {
            "events": retention.events,
            "bytes": retention.bytes,
            "age_s": retention.age.map(|age| age.as_secs()),
        },
        "events": shown.collect::<Vec<_>>(),
    });
    reply(StatusCode::OK, "application/json", &body)
}

fn shortened(data: &str) -> String {
    match data.char_indices().nth(DATA_CHARS) {
        Some((at, _)) => format!("{} … ({} bytes)", &data[..at], data.len()),
        None => data.to_owned(),
    }
}

fn state(about: &About) -> Value {
    let now = SystemTime::now();
    let troubles = [about.troubles.now(), about.certificates.troubles(now)].concat();
    let followed = about.viewer.get().map(Viewer::followed).unwrap_or_default();
    let streams: Vec<_> = followed
        .into_iter()
        .map(|(stream, head)| json!({ "stream": stream.as_str(), "head": head.to_string() }))
        .collect();
    json!({
        "node": about.node,
        "region": about.region,
        "version": env!("CARGO_PKG_VERSION"),
        "stage": about.readiness.stage().as_str(),
        "troubles": troubles,
        "streams": streams,
        "cluster": about.cluster.get().map(Cluster::told),
        "journal": about.journal.told(),
        "figures": figures(&about.metrics.render(Format::Text)),
    })
}

/// The figures of a metrics page by their series, without buckets.
fn figures(page: &str) -> BTreeMap<&str, f64> {
    let ours = |series: &str| matches!(series.split('_').next(), Some("evergate" | "process"));
    let lines = page.lines().filter(|line| ours(line));
    let pairs = lines.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite())?;
        (!series.contains("_bucket{")).then_some((series, value))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_given_numbers_and_no_buckets() {
        let page = "# HELP evergate_a A.\nevergate_a{node=\"x\"} 3\nevergate_b_bucket{le=\"1\"} 4\n\
                    evergate_b_sum 0.5\nprocess_c 7\nother 8\nevergate_d NaN\n";
        let expected = [("evergate_a{node=\"x\"}", 3.0), ("evergate_b_sum", 0.5), ("process_c", 7.0)];
        assert_eq!(figures(page), BTreeMap::from(expected));
    }

    #[test]
    fn long_data_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(DATA_CHARS + 1);
        assert_eq!(shortened(&long), format!("{} … ({} bytes)", "ä".repeat(DATA_CHARS), long.len()));
    }
}
