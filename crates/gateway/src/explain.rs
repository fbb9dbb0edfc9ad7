//! `evergate explain`: asks edges why a client did or did not get an event.

use std::io::Write as _;

use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use crate::admin::EXPLAIN;
use crate::admin_client::ask;
use crate::cli::Exit;

/// Say why a client did or did not get an event, as far as an edge can know it
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The admin address of an edge; several are asked one after the other
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082")]
    admin: Vec<String>,
    /// The client's name: its `client_id`
    #[arg(long, value_name = "NAME")]
    client: String,
    /// The stream of the event
    #[arg(long, value_name = "STREAM")]
    stream: String,
    /// The event, by its id
    #[arg(long, value_name = "ID")]
    event: String,
    /// A key that the client's subscription names, as the client writes it; for the place that is kept for it
    #[arg(long, value_name = "PATTERN")]
    key: Vec<String>,
    /// Another stream of the same subscription; keys are then written as stream/pattern
    #[arg(long, value_name = "STREAM")]
    with: Vec<String>,
    /// For people, or for programs: each edge's answer on a line
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Deserialize)]
struct Answered {
    node: String,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    answer: String,
    sentence: String,
    accepted: Option<String>,
    opened: Option<String>,
}

/// Exit 0 if every edge has answered, 2 if it was asked something that makes no sense.
pub(crate) async fn run(args: ExplainArgs) -> Exit {
    let ExplainArgs { admin, client, stream, event, key, with, output } = args;
    let mut query = Serializer::new(String::new());
    query.append_pair("client", &client).append_pair("stream", &stream).append_pair("event", &event);
    query
        .extend_pairs(key.iter().map(|key| ("key", key)))
        .extend_pairs(with.iter().map(|name| ("with", name)));
    let path = format!("{EXPLAIN}?{}", query.finish());
    let mut exit = Exit::Ok;
    for admin in &admin {
        match ask(admin, Method::GET, &path).await {
            Ok((StatusCode::OK, body)) => match output {
                Output::Json => say(body.trim()),
                Output::Text => match serde_json::from_str::<Answered>(&body) {
                    Ok(answered) => tell(&answered),
                    Err(_) => exit = failed(&format!("{admin} answers what is no explanation")),
                },
            },
            Ok((StatusCode::BAD_REQUEST, body)) => {
                failed(&format!("{admin} answers: {}", detail(&body)));
                return Exit::Usage;
            }
            Ok((status, body)) => exit = failed(&format!("{admin} answers {status}: {}", detail(&body))),
            Err(why) => exit = failed(&format!("{admin} cannot be asked: {why}")),
        }
    }
    exit
}

fn tell(answered: &Answered) {
    for Answer { answer, sentence, accepted, opened } in &answered.answers {
        say(&format!("{}: {answer}", answered.node));
        say(&format!("  {sentence}"));
        for (what, when) in
            [("the log accepted it at", accepted), ("the client's stream was opened at", opened)]
        {
            if let Some(when) = when {
                say(&format!("  {what} {when}"));
            }
        }
    }
}

/// What a problem says, or all of it if it is none.
fn detail(body: &str) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    serde_json::from_str::<Problem>(body).map_or_else(|_| body.trim().to_owned(), |problem| problem.detail)
}

fn say(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn failed(why: &str) -> Exit {
    let _ = writeln!(std::io::stderr().lock(), "evergate explain: {why}");
    Exit::Failed
}
