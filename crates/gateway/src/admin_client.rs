//! Asks a process over its admin listener, for the commands that do.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::DRAIN_HEADER;

/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unasked {
    #[error("nobody listens there")]
    Refused,
    #[error("{0}")]
    Other(String),
}

/// Asks for a path, as somebody who means it.
pub(crate) async fn ask(admin: &str, method: Method, path: &str) -> Result<(StatusCode, String), Unasked> {
    let other = |error: &dyn std::fmt::Display| Unasked::Other(error.to_string());
    let asking = async {
        let socket = TcpStream::connect(admin).await.map_err(|error| {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                Unasked::Refused
            } else {
                other(&error)
            }
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| other(&error))?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, admin)
            .header(DRAIN_HEADER, "drain")
            .body(Empty::<Bytes>::new())
            .map_err(|error| other(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| other(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Ok((status, body.unwrap_or_default()))
    };
    let late = || Unasked::Other(format!("no answer within {} s", ANSWER_MAX.as_secs()));
    timeout(ANSWER_MAX, asking).await.map_err(|_| late())?
}
