//! Health and reflection, as tools expect them.

use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;

const SERVICE: &str = "evergate.publish.v1.Publisher";

#[tokio::test]
async fn health_is_told() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = HealthClient::new(channel(server.grpc()).await.expect("the server listens"));
    for service in ["", SERVICE] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = client.check(request).await.expect("an answer").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test]
async fn services_and_their_messages_can_be_listed() {
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;

    let server = Evergate::start(Options::memory()).await;
    let channel = channel(server.grpc()).await.expect("the server listens");
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(channel);
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(SERVICE.to_owned()),
    ];
    let requests = asked.map(|message| reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    });
    let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
    let mut answers = answers.expect("reflection is on").into_inner();
    let mut next = async || {
        let answer = answers.message().await.expect("an answer").expect("one for each request");
        answer.message_response.expect("an answer says something")
    };
    let MessageResponse::ListServicesResponse(listed) = next().await else { panic!("no list") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for service in [SERVICE, "evergate.edge.v1.Edge"] {
        assert!(names.contains(&service), "{names:?}");
    }
    let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("no descriptor") };
    assert!(!files.file_descriptor_proto.is_empty());
}
