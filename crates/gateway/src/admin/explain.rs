//! `GET /explain?client=…&stream=…&event=…`: why a client did or did not get an event. `&key=…` and `&with=…` say of
//! which of its subscriptions the kept place is looked for.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use evergate_domain::{ClientId, Offset, StreamName};
use evergate_edge::{ExplainError, Explanation, Subscription};
use serde_json::json;
use url::form_urlencoded;

use super::{About, problem, reply};

/// Where it is asked.
pub(crate) const EXPLAIN: &str = "/explain";

/// What is asked, as it is written.
#[derive(Default)]
struct Asked {
    client: Vec<String>,
    stream: Vec<String>,
    event: Vec<String>,
    /// The subscription's keys.
    key: Vec<String>,
    /// The subscription's other streams.
    with: Vec<String>,
}

impl Asked {
    /// `None` if there is anything else.
    fn read(uri: &Uri) -> Option<Self> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query()?.as_bytes()) {
            let values = match &*name {
                "client" => &mut asked.client,
                "stream" => &mut asked.stream,
                "event" => &mut asked.event,
                "key" => &mut asked.key,
                "with" => &mut asked.with,
                _ => return None,
            };
            values.push(value.into_owned());
        }
        Some(asked)
    }
}

pub(super) async fn explain(State(about): State<About>, uri: Uri) -> Response {
    let asked = Asked::read(&uri).unwrap_or_default();
    let ([client], [stream], [event]) = (&*asked.client, &*asked.stream, &*asked.event) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "expected client, stream and event, each once, any number of key and with, and nothing else",
        );
    };
    let client = match ClientId::new(client) {
        Ok(client) => client,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("client: {error}")),
    };
    let stream = match StreamName::new(stream) {
        Ok(stream) => stream,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("stream: {error}")),
    };
    let event = match event.parse::<Offset>() {
        Ok(event) => event,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("event: {error}")),
    };
    let others = asked.with.iter().map(|name| StreamName::new(name)).collect::<Result<_, _>>();
    let subscription = others
        .map_err(|error| format!("with: {error}"))
        .and_then(|others| Subscription::new(&stream, others, &asked.key));
    let subscription = match subscription {
        Ok(subscription) => subscription,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error),
    };
    let Some(explainer) = about.explainer.get() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no edge yet");
    };
    match explainer.explain(&client, &stream, &subscription, event).await {
        Ok(answers) => {
            let answers: Vec<_> = answers.iter().map(shown).collect();
            let body = json!({
                "node": about.node,
                "region": about.region,
                "client": client.as_str(),
                "stream": stream.as_str(),
                "event": event.to_string(),
                "answers": answers,
            });
            reply(StatusCode::OK, "application/json", &body)
        }
        Err(error @ ExplainError::NoEvent(_)) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(
            error @ (ExplainError::Log(_)
            | ExplainError::Places(_)
            | ExplainError::Moving
            | ExplainError::Ended),
        ) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn shown(explanation: &Explanation) -> serde_json::Value {
    let Explanation { verdict, sentence, accepted, opened, began_at, come_to, come_to_found, kept_at } =
        explanation;
    json!({
        "answer": verdict.as_str(),
        "sentence": sentence,
        "accepted": accepted.map(|time| time.to_string()),
        "opened": opened.map(|time| time.to_string()),
        "began_at": began_at,
        "come_to": come_to,
        "come_to_found": come_to_found.map(|time| time.to_string()),
        "kept_at": kept_at,
    })
}
