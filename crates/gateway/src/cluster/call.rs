//! Calls to a control node.

use std::time::Duration;

use evergate_domain::cluster::{Command, NodeAddress, View};
use evergate_member::{decode_view, encode_command};
use evergate_proto::control::v1 as proto;
use evergate_tls::Protocol;
use proto::admin_client::AdminClient;
use proto::change_member_request::{Change, Newcomer};
use proto::control_client::ControlClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::args::{ClusterArgs, MemberChange};

const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A change of members has to be followed by a node that may be far away.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// A view of the largest cluster.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A connection to a control node, in an operator's name.
pub(super) struct Link {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    operator: Option<MetadataValue<Ascii>>,
}

impl Link {
    /// Connects, as the arguments say.
    pub(super) async fn to(args: &ClusterArgs) -> Result<Self, String> {
        let token = args.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let value = format!("Bearer {}", text.trim()).parse();
            value.map_err(|_| format!("{} holds no token", path.display()))
        });
        let (address, by_tls) = place(&args.server)?;
        let dialer = args.tls.dialer(&[Protocol::Http2])?;
        let tls = if by_tls { Some(dialer.client()?) } else { None };
        let connecting = evergate_member::channel(&address, tls.as_ref());
        let channel = connecting.await.map_err(|error| format!("{address}: {}", chain(&error)))?;
        let user = std::env::var("USER").ok();
        Ok(Self { channel, token: token.transpose()?, operator: user.and_then(|user| user.parse().ok()) })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(operator) = &self.operator {
            request.metadata_mut().insert("evergate-operator", operator.clone());
        }
        request
    }

    fn brief<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(ANSWER_MAX);
        request
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(super) async fn status(&mut self) -> Result<proto::StatusResponse, String> {
        let answer = self.admin().status(self.brief(proto::StatusRequest {})).await;
        answer.map(tonic::Response::into_inner).map_err(|status| sentence(&status))
    }

    pub(super) async fn view(&mut self) -> Result<View, String> {
        let answer = self.admin().get_view(self.brief(proto::GetViewRequest {})).await;
        let view = answer.map_err(|status| sentence(&status))?.into_inner();
        decode_view(&view).map_err(|error| error.to_string())
    }

    pub(super) async fn execute(&mut self, command: &Command) -> Result<proto::Answer, String> {
        let request = proto::ExecuteRequest { command: Some(encode_command(command)) };
        let answer = self.admin().execute(self.brief(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| sentence(&status))
    }

    pub(super) async fn audit(&mut self, max: u32) -> Result<Vec<proto::AuditEntry>, String> {
        let answer = self.admin().audit(self.brief(proto::AuditRequest { max })).await;
        answer.map(|answer| answer.into_inner().entries).map_err(|status| sentence(&status))
    }

    pub(super) async fn members(&mut self) -> Result<proto::MembersResponse, String> {
        let answer = self.admin().members(self.brief(proto::MembersRequest {})).await;
        answer.map(tonic::Response::into_inner).map_err(|status| sentence(&status))
    }

    pub(super) async fn change_member(&mut self, change: MemberChange) -> Result<(), String> {
        let change = match change {
            MemberChange::Add { id, address } => Change::Add(Newcomer { id, address: address.to_string() }),
            MemberChange::Promote { id } => Change::Promote(id),
            MemberChange::Demote { id } => Change::Demote(id),
            MemberChange::Remove { id } => Change::Remove(id),
        };
        let mut request = self.request(proto::ChangeMemberRequest { change: Some(change) });
        request.set_timeout(CHANGE_MAX);
        let answer = self.admin().change_member(request).await;
        answer.map(drop).map_err(|status| sentence(&status))
    }

    /// Everything from now on.
    pub(super) async fn watch(&mut self) -> Result<Streaming<proto::WatchResponse>, String> {
        let cluster = self.status().await?.cluster;
        let request = proto::WatchRequest { cluster, node: "operator".to_owned(), version: 0, digest: 0 };
        let mut client =
            ControlClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = client.watch(self.request(request)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| sentence(&status))
    }
}

/// Where a control node is, and whether it speaks TLS.
fn place(server: &str) -> Result<(NodeAddress, bool), String> {
    let wrong = || format!("--server {server:?}: not a URL such as \"http://127.0.0.1:8083\"");
    let (by_tls, rest) = match server.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(wrong()),
    };
    let address = rest.trim_end_matches('/').parse().map_err(|_| wrong())?;
    Ok((address, by_tls))
}

/// A status as a sentence for the user.
pub(super) fn sentence(status: &Status) -> String {
    let message = status.message();
    if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
        format!("the control node cannot be asked, or cannot ask the others: {message}")
    } else if status.code() == Code::Unauthenticated {
        format!("the control node wants to know who asks: {message}")
    } else {
        message.to_owned()
    }
}

/// An error with its sources: a transport's own words say little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
