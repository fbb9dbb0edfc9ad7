//! Publishing over gRPC.

use std::net::SocketAddr;
use std::time::Duration;

use evergate_proto::publish::v1 as pb;
use pb::publisher_client::PublisherClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::PATIENCE;
use crate::offset::{Offset, offset};

pub use pb::{Event, Level, Producer, PublishBatchRequest, PublishRequest, PublishResponse};
pub use pb::{PublishStreamRequest, PublishStreamResponse, Refused};

/// A gRPC publisher over one connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: PublisherClient<Channel>,
}

/// One `PublishStream` call.
#[derive(Debug)]
pub struct PublishCall {
    requests: Option<mpsc::Sender<PublishStreamRequest>>,
    responses: Streaming<PublishStreamResponse>,
}

/// An event with nothing but data.
#[must_use]
pub fn event(data: impl Into<String>) -> Event {
    Event { data: data.into(), ..Event::default() }
}

/// An event with a key.
#[must_use]
pub fn keyed(key: &str, data: impl Into<String>) -> Event {
    Event { key: key.to_owned(), ..event(data) }
}

/// An event of a producer.
#[must_use]
pub fn produced(producer: &str, seq: u64, data: impl Into<String>) -> Event {
    let producer = Producer { id: producer.to_owned(), seq };
    Event { producer: Some(producer), ..event(data) }
}

/// A channel to `address`.
///
/// # Errors
/// Nobody listens there.
pub async fn channel(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URL")
        .connect_timeout(Duration::from_secs(5))
        .connect()
        .await
}

impl Publisher {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("the server listens for gRPC")
    }

    /// Over a channel that is connected already.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        Self { client: PublisherClient::new(channel) }
    }

    /// Connects to a server that may be gone.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn try_connect(address: SocketAddr) -> Result<Self, tonic::transport::Error> {
        Ok(Self { client: PublisherClient::new(channel(address).await?) })
    }

    /// Publishes one event.
    ///
    /// # Errors
    /// The server's status.
    pub async fn try_publish(&self, stream: &str, event: Event) -> Result<PublishResponse, Status> {
        let request = PublishRequest { stream: stream.to_owned(), event: Some(event), ..Default::default() };
        self.try_request(request).await
    }

    /// Publishes one event as the request says.
    ///
    /// # Errors
    /// The server's status.
    pub async fn try_request(&self, request: PublishRequest) -> Result<PublishResponse, Status> {
        let mut request = tonic::Request::new(request);
        request.set_timeout(PATIENCE);
        Ok(self.client.clone().publish(request).await?.into_inner())
    }

    /// Publishes one event that must be taken; returns its offset.
    pub async fn publish(&self, stream: &str, event: Event) -> Offset {
        let answer = self.try_publish(stream, event).await.expect("the event is taken");
        assert!(!answer.duplicate, "a new event is no duplicate");
        offset(&answer.offset)
    }

    /// Publishes the texts one after the other; returns their offsets.
    pub async fn publish_all<T: Into<String>>(
        &self,
        stream: &str,
        texts: impl IntoIterator<Item = T>,
    ) -> Vec<Offset> {
        let mut offsets = Vec::new();
        for text in texts {
            offsets.push(self.publish(stream, event(text)).await);
        }
        offsets
    }

    /// Publishes a batch.
    ///
    /// # Errors
    /// The server's status.
    pub async fn try_batch(&self, stream: &str, events: Vec<Event>) -> Result<Vec<PublishResponse>, Status> {
        let request = PublishBatchRequest { stream: stream.to_owned(), events, ..Default::default() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(PATIENCE);
        Ok(self.client.clone().publish_batch(request).await?.into_inner().results)
    }

    /// Opens a `PublishStream` call.
    ///
    /// # Errors
    /// The server's status.
    pub async fn open(&self) -> Result<PublishCall, Status> {
        // One: what the server has not asked for waits with the caller, where it can be counted.
        let (requests, waiting) = mpsc::channel(1);
        let responses = self.client.clone().publish_stream(ReceiverStream::new(waiting)).await?.into_inner();
        Ok(PublishCall { requests: Some(requests), responses })
    }
}

impl PublishCall {
    /// Sends one request. Waits while the server does not read.
    ///
    /// # Errors
    /// The call is over.
    pub async fn send(&self, request: PublishStreamRequest) -> Result<(), Status> {
        let requests = self.requests.as_ref().expect("the sending side is open");
        requests.send(request).await.map_err(|_| Status::unavailable("the call is over"))
    }

    /// A handle for sending from elsewhere while answers are read here.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<PublishStreamRequest> {
        self.requests.clone().expect("the sending side is open")
    }

    /// Says that no more requests come.
    pub fn finish(&mut self) {
        self.requests = None;
    }

    /// The next answer; `None` at the end of the call.
    ///
    /// # Errors
    /// The status that ended the call.
    pub async fn answer(&mut self) -> Result<Option<PublishStreamResponse>, Status> {
        match tokio::time::timeout(PATIENCE, self.responses.message()).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}

/// One request of a `PublishStream` call.
#[must_use]
pub fn request(stream: &str, correlation: u64, event: Event) -> PublishStreamRequest {
    PublishStreamRequest { stream: stream.to_owned(), event: Some(event), level: 0, correlation }
}

/// The event was published: its offset and whether it was there already.
#[must_use]
pub fn published(answer: &PublishStreamResponse) -> (Offset, bool) {
    match &answer.result {
        Some(pb::publish_stream_response::Result::Published(published)) => {
            (offset(&published.offset), published.duplicate)
        }
        other => panic!("the event was not taken: {other:?}"),
    }
}

/// The event was refused.
#[must_use]
pub fn refused(answer: &PublishStreamResponse) -> &Refused {
    match &answer.result {
        Some(pb::publish_stream_response::Result::Refused(refused)) => refused,
        other => panic!("the event was not refused: {other:?}"),
    }
}

/// Checks that a status has this code and blames this field, in words and in its details.
pub fn assert_blames(status: &Status, code: Code, field: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    let details = status.get_error_details();
    let request = details.bad_request().unwrap_or_else(|| panic!("no BadRequest detail: {status:?}"));
    let violation = request.field_violations.first().expect("a violation");
    assert_eq!(violation.field, field, "{status:?}");
    assert!(!violation.description.is_empty(), "{status:?}");
}
