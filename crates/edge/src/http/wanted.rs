//! What a subscriber asks for, read from path, query and headers; every mistake named at once.

use evergate_domain::{ClientId, Cursor, KeyFilter, KeyPattern, Start, StreamName, StreamSet};
use evergate_fanout::{Begin, Framing, HeartbeatKind};
use http::HeaderMap;

use crate::config::SseConfig;
use crate::http::query::Query;
use crate::problem::FieldError;

/// A subscription, checked.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) streams: StreamSet,
    /// One per stream, in the set's order.
    pub(crate) filters: Vec<KeyFilter>,
    pub(crate) begin: Begin,
    /// Whether that is the client's own position: what it was sent last, not what its page asks for.
    pub(crate) own: bool,
    pub(crate) framing: Framing,
    pub(crate) heartbeat: HeartbeatKind,
    /// Whether transient refusals are plain statuses, for clients that understand them.
    pub(crate) errors_http: bool,
    /// Whether the stream ends without its last chunk, for clients that take a clean end as final.
    pub(crate) end_abort: bool,
    /// Under which name the server keeps the client's place.
    pub(crate) client: Option<ClientId>,
    /// Whether the client acknowledges what it has worked through.
    pub(crate) acknowledges: bool,
    /// Whether the stream ends when the client stops pinging.
    pub(crate) leased: bool,
}

/// The names under which a cursor may stand in the query, the first one found wins.
const CURSOR_PARAMETERS: [&str; 3] = ["last_event_id", "lastEventId", "lastEventID"];

/// Reads a request. `path_stream` is the stream that the path names, if it names one.
pub(crate) fn read(
    path_stream: Option<&str>,
    query: &Query,
    headers: &HeaderMap,
    limits: &SseConfig,
) -> Result<Wanted, Vec<FieldError>> {
    let mut errors = Vec::new();
    let streams = streams(path_stream, query, limits, &mut errors);
    let filters =
        streams.as_ref().and_then(|streams| filters(path_stream, streams, query, limits, &mut errors));
    let begin = streams.as_ref().and_then(|streams| begin(streams, query, headers, &mut errors));
    let mut choose = |name: &str, default: usize, values: &[&str]| match query.first(name) {
        None => default,
        Some(value) => values.iter().position(|known| *known == value).unwrap_or_else(|| {
            errors
                .push(FieldError::new(format!("query.{name}"), format!("expected {}", values.join(" or "))));
            default
        }),
    };
    let envelope = choose("envelope", usize::from(path_stream.is_none()), &["0", "1"]) == 1;
    let heartbeat = choose("heartbeat", 0, &["comment", "event"]) == 1;
    let errors_http = choose("errors", 0, &["sse", "http"]) == 1;
    let end_abort = choose("end", 0, &["clean", "abort"]) == 1;
    let acknowledges = choose("acks", 0, &["0", "1"]) == 1;
    let leased = choose("lease", 0, &["0", "1"]) == 1;
    let client = query.first("client_id").map(ClientId::new).transpose().unwrap_or_else(|error| {
        errors.push(FieldError::new("query.client_id", error));
        None
    });
    if acknowledges && query.first("client_id").is_none() {
        errors.push(FieldError::new("query.acks", "acknowledgements are kept under a client_id; give one"));
    }
    match (streams, filters, begin) {
        (Some(streams), Some(filters), Some(begin)) if errors.is_empty() => Ok(Wanted {
            streams,
            filters,
            own: has_own_position(query, headers),
            begin,
            framing: if envelope { Framing::Envelope } else { Framing::Plain },
            heartbeat: if heartbeat { HeartbeatKind::Event } else { HeartbeatKind::Comment },
            errors_http,
            end_abort,
            client,
            acknowledges,
            leased,
        }),
        _ => Err(errors),
    }
}

fn streams(
    path_stream: Option<&str>,
    query: &Query,
    limits: &SseConfig,
    errors: &mut Vec<FieldError>,
) -> Option<StreamSet> {
    let (field, names): (_, Vec<&str>) = match path_stream {
        Some(name) => ("path.stream", vec![name]),
        None => ("query.stream", query.all("stream").collect()),
    };
    let mut checked = Vec::with_capacity(names.len());
    for name in names {
        match StreamName::new(name) {
            Ok(name) => checked.push(name),
            Err(error) => errors.push(FieldError::new(field, error)),
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let set = StreamSet::new(checked).map_err(|error| error.to_string()).and_then(|set| {
        let (given, max) = (set.names().len(), limits.streams_max);
        if given > max {
            Err(format!("a subscription names 1 to {max} streams, not {given}"))
        } else {
            Ok(set)
        }
    });
    set.map_err(|error| errors.push(FieldError::new(field, error))).ok()
}

fn filters(
    path_stream: Option<&str>,
    streams: &StreamSet,
    query: &Query,
    limits: &SseConfig,
    errors: &mut Vec<FieldError>,
) -> Option<Vec<KeyFilter>> {
    let mut filters = vec![KeyFilter::all(); streams.names().len()];
    let before = errors.len();
    let keys: Vec<_> = query.all("key").collect();
    if keys.len() > limits.keys_max {
        let error = format!("a subscription has at most {} keys, not {}", limits.keys_max, keys.len());
        errors.push(FieldError::new("query.key", error));
        return None;
    }
    for text in keys {
        match key_of(path_stream.is_some(), streams, text) {
            Ok((stream, pattern)) => filters[stream].add(pattern),
            Err(error) => errors.push(FieldError::new("query.key", error)),
        }
    }
    (errors.len() == before).then_some(filters)
}

/// `AAPL` where the path names the stream, which is the only one then, else `quote/AAPL`.
pub(crate) fn key_of(in_path: bool, streams: &StreamSet, text: &str) -> Result<(usize, KeyPattern), String> {
    let (stream, pattern) = if in_path {
        (0, text)
    } else {
        let (stream, pattern) =
            text.split_once('/').ok_or_else(|| format!("{text:?} names no stream; write stream/key"))?;
        let name = StreamName::new(stream).map_err(|error| error.to_string())?;
        let position = streams.position(&name);
        (position.ok_or_else(|| format!("{stream:?} is not among the streams asked for"))?, pattern)
    };
    KeyPattern::parse(pattern).map(|pattern| (stream, pattern)).map_err(|error| error.to_string())
}

fn has_own_position(query: &Query, headers: &HeaderMap) -> bool {
    headers.get("last-event-id").is_some_and(|id| !id.is_empty())
        || CURSOR_PARAMETERS.iter().any(|name| query.first(name).is_some_and(|id| !id.is_empty()))
}

/// The client's own position beats every other wish: header, then query, then `from`.
fn begin(
    streams: &StreamSet,
    query: &Query,
    headers: &HeaderMap,
    errors: &mut Vec<FieldError>,
) -> Option<Begin> {
    let mut resume = |field: &str, text: &str| match Cursor::parse(streams, text) {
        Ok(cursor) => Some(Begin::Resume(cursor)),
        Err(error) => {
            errors.push(FieldError::new(field, error));
            None
        }
    };
    match headers.get("last-event-id").map(http::HeaderValue::to_str) {
        // A client that holds no position may still send the header.
        None | Some(Ok("")) => {}
        Some(Ok(text)) => return resume("header.Last-Event-ID", text),
        Some(Err(_)) => {
            errors.push(FieldError::new("header.Last-Event-ID", "is not printable ASCII"));
            return None;
        }
    }
    for name in CURSOR_PARAMETERS {
        if let Some(text) = query.first(name).filter(|text| !text.is_empty()) {
            return resume(&format!("query.{name}"), text);
        }
    }
    let Some(from) = query.first("from") else { return Some(Begin::Start(Start::Latest)) };
    match from.parse::<Start>() {
        Ok(Start::After(_)) => resume("query.from", from),
        Ok(start) => Some(Begin::Start(start)),
        // Over several streams a place of one's own is a token.
        Err(_) if from.starts_with("m1.") => resume("query.from", from),
        Err(error) => {
            errors.push(FieldError::new("query.from", error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::RetryRange;
    use std::time::Duration;

    fn wanted(
        path: Option<&str>,
        query: &str,
        last_event_id: Option<&'static str>,
    ) -> Result<Wanted, Vec<String>> {
        let retry = RetryRange::new(Duration::ZERO, Duration::ZERO).expect("ordered");
        let limits = SseConfig {
            heartbeat: Duration::from_secs(15),
            ping_interval: Duration::from_secs(30),
            retry,
            retry_refresh: Duration::from_secs(300),
            busy_retry: retry,
            streams_max: 3,
            keys_max: 4,
            gzip: true,
            cursor_overlap: None,
        };
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert("last-event-id", http::HeaderValue::from_static(id));
        }
        read(path, &Query::parse(query).expect("UTF-8"), &headers, &limits)
            .map_err(|errors| errors.into_iter().map(|e| format!("{}: {}", e.field, e.detail)).collect())
    }

    #[test]
    fn a_client_has_a_name_if_it_acknowledges() {
        let named = wanted(Some("s"), "client_id=alice@example&acks=1", None).expect("valid");
        assert_eq!(named.client.map(|client| client.to_string()).as_deref(), Some("alice@example"));
        assert!(named.acknowledges);
        for bad in
            ["client_id=", "client_id=a%20b", "client_id=%0a", "acks=1", "client_id=a&acks=yes", "lease=30"]
        {
            assert!(wanted(Some("s"), bad, None).is_err(), "{bad}");
        }
    }

    fn position(wanted: &Wanted) -> String {
        match &wanted.begin {
            Begin::Resume(cursor) => cursor.to_string(),
            Begin::Start(start) => format!("{start:?}"),
        }
    }

    #[test]
    fn the_clients_own_position_beats_every_other_wish() {
        let query = "from=earliest&lastEventID=1-4&lastEventId=1-3&last_event_id=1-2";
        let at = |query, header| position(&wanted(Some("s"), query, header).expect("valid"));
        assert_eq!(at(query, Some("1-1")), "1-1");
        assert_eq!(at(query, None), "1-2");
        assert_eq!(at(query, Some("")), "1-2");
        assert_eq!(at("from=earliest&lastEventID=1-4&lastEventId=1-3", None), "1-3");
        assert_eq!(at("from=earliest&lastEventID=1-4", None), "1-4");
        assert_eq!(at("from=earliest", None), "Earliest");
        assert_eq!(at("from=7-9", None), "7-9");
        assert_eq!(at("from=-20", None), "Last(20)");
        assert_eq!(at("", None), "Latest");
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let errors =
            wanted(Some("s"), "from=yesterday&key=a*b&envelope=yes&heartbeat=never", None).expect_err("bad");
        let fields: Vec<_> = errors.iter().map(|e| e.split(':').next().expect("a field")).collect();
        assert_eq!(fields, ["query.key", "query.from", "query.envelope", "query.heartbeat"]);
    }

    #[test]
    fn a_malformed_position_is_refused_even_when_another_is_good() {
        let errors = wanted(Some("s"), "last_event_id=1-1", Some("$")).expect_err("bad");
        assert!(errors[0].starts_with("header.Last-Event-ID"), "{errors:?}");
    }

    #[test]
    fn over_several_streams_a_key_names_its_stream() {
        let wanted_ = wanted(None, "stream=b&stream=a&key=b/x/y*&stream=b", None).expect("valid");
        assert_eq!(wanted_.streams.names().len(), 2);
        assert!(wanted_.filters[0].is_all() && !wanted_.filters[1].is_all());
        assert_eq!(wanted_.framing, Framing::Envelope, "the default where streams are several");
        for bad in
            ["stream=a&key=x", "stream=a&key=b/x", "", "stream=a&stream=b&stream=c&stream=d", "stream=a/b"]
        {
            assert!(wanted(None, bad, None).is_err(), "{bad}");
        }
        assert!(
            wanted(None, "stream=a&stream=b", Some("1-1")).is_err(),
            "an offset is no position in two streams"
        );
    }
}
