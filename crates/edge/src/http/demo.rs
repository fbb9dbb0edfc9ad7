//! The demo page and the one call it needs: for development, off otherwise.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::http::answer::{Answer, content, empty};
use crate::http::context::Context;
use crate::problem::Problem;

/// Answers what belongs to the demo; `None` if the path does not.
pub(crate) async fn answer(
    context: &Context,
    method: &Method,
    path: &str,
) -> Option<Result<Answer, Problem>> {
    if !context.config.demo {
        return None;
    }
    if let Some(connection) = path.strip_prefix("/dev/cut/") {
        return Some(cut(context, method, connection).await);
    }
    let (kind, bytes): (_, &[u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("../../assets/demo/index.html")),
        "/demo/demo.css" => ("text/css; charset=utf-8", include_bytes!("../../assets/demo/demo.css")),
        "/demo/demo.js" => ("text/javascript; charset=utf-8", include_bytes!("../../assets/demo/demo.js")),
        _ => return None,
    };
    Some(match *method {
        Method::GET | Method::HEAD => Ok(content(kind, bytes)),
        _ => Err(Problem::method_not_allowed("GET, HEAD")),
    })
}

/// Resets the TCP connection that carries a stream, as a broken network would.
async fn cut(context: &Context, method: &Method, connection: &str) -> Result<Answer, Problem> {
    if method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let connection = percent_encoding::percent_decode_str(connection).decode_utf8_lossy();
    if context.streams.cut(&connection) {
        context.engine.look_for_cuts();
        // Whoever is answered may rely on it.
        let gone = async {
            while context.streams.contains(&connection) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-connection",
        "There is no such connection",
        "no open stream has this name",
    ))
}
