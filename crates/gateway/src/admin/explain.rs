//! `GET /explain?client=…&stream=…&event=…`: why a client did or did not get an event.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use evergate_domain::{ClientId, Offset, StreamName};
use evergate_edge::{ExplainError, Explanation};
use serde_json::json;
use url::form_urlencoded;

use super::{About, problem, reply};

/// Where it is asked.
pub(crate) const EXPLAIN: &str = "/explain";

/// The values of these names, if each is there once and nothing else is.
fn values<const N: usize>(uri: &Uri, names: [&str; N]) -> Option<[String; N]> {
    let given: Vec<_> = form_urlencoded::parse(uri.query()?.as_bytes()).collect();
    let mut values = [const { String::new() }; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = given.iter().find(|(given, _)| given == name)?.1.clone().into_owned();
    }
    (given.len() == N).then_some(values)
}

pub(super) async fn explain(State(about): State<About>, uri: Uri) -> Response {
    let Some([client, stream, event]) = values(&uri, ["client", "stream", "event"]) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "expected client, stream and event, each once and nothing else",
        );
    };
    let client = match ClientId::new(&client) {
        Ok(client) => client,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("client: {error}")),
    };
    let stream = match StreamName::new(&stream) {
        Ok(stream) => stream,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("stream: {error}")),
    };
    let event = match event.parse::<Offset>() {
        Ok(event) => event,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("event: {error}")),
    };
    let Some(explainer) = about.explainer.get() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "there is no edge yet");
    };
    match explainer.explain(&client, &stream, event).await {
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
        Err(error @ (ExplainError::Log(_) | ExplainError::Moving | ExplainError::Ended)) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

fn shown(explanation: &Explanation) -> serde_json::Value {
    let Explanation { verdict, sentence, accepted, opened, began_at, come_to, come_to_found } = explanation;
    json!({
        "answer": verdict.as_str(),
        "sentence": sentence,
        "accepted": accepted.map(|time| time.to_string()),
        "opened": opened.map(|time| time.to_string()),
        "began_at": began_at,
        "come_to": come_to,
        "come_to_found": come_to_found.map(|time| time.to_string()),
    })
}
