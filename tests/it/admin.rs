//! The port for operators, and the commands that ask it.

use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::hub::v1::{GetStatusRequest, WatchLinksRequest};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::operator::{Operator, channel, client, list, ready};
use crate::world::{SHORT_GRACE, World, soon};

mod commands;
mod links;

/// The sample service's name.
const ROUTE_GUIDE: &str = "routeguide.RouteGuide";

#[tokio::test]
async fn the_hub_says_that_it_serves() {
    let world = World::new();
    let hub = world.hub().await;
    let mut health = HealthClient::new(channel(hub.admin));
    for service in ["", "adit.hub.v1.Hub"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let health = soon(health.check(request)).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn reflection_has_the_schema() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let world = World::new();
    let hub = world.hub().await;
    let mut reflection = ServerReflectionClient::new(channel(hub.admin));
    let questions = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("adit.hub.v1.Hub".to_owned()),
        MessageRequest::FileByFilename("google/protobuf/duration.proto".to_owned()),
    ];
    let requests = questions.map(|question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    });
    let answers = soon(reflection.server_reflection_info(futures_util::stream::iter(requests))).await;
    let mut answers = answers.unwrap().into_inner();
    let mut answer = async || {
        soon(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    };

    let MessageResponse::ListServicesResponse(services) = answer().await else {
        panic!("no list of services");
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&"adit.hub.v1.Hub") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.starts_with("adit.tunnel")),
        "{names:?}"
    );
    for file in ["adit/hub/v1/hub.proto", "google/protobuf/duration.proto"] {
        let MessageResponse::FileDescriptorResponse(files) = answer().await else {
            panic!("no {file}");
        };
        let files = files.file_descriptor_proto.iter();
        let mut names = files.map(|bytes| {
            let file: prost_types::FileDescriptorProto = prost::Message::decode(bytes.as_slice()).unwrap();
            file.name().to_owned()
        });
        assert!(names.any(|name| name == file), "{file}");
    }
}

#[tokio::test]
async fn the_status_counts() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = crate::world::sample::Sample::start().await;
    let _agents = [
        world.agent(&hub, "a", &sample.url()),
        world.agent(&hub, "a", &sample.url()),
        world.agent(&hub, "b", &sample.url()),
    ];
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(3)).await;
    let mut chat = links::Chat::start(&hub, "b").await;

    let status = soon(operator.hub.get_status(GetStatusRequest {})).await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(status.trust_domain, "adit");
    assert!(!status.draining);
    assert_eq!((status.agents, status.links, status.clients), (2, 3, 1));
    assert_eq!((status.calls_in_flight, status.calls_waiting), (1, 0));
    let age = std::time::SystemTime::try_from(status.started_at.unwrap())
        .unwrap()
        .elapsed();
    assert!(age.unwrap() < crate::world::PATIENCE);
    chat.says("still here").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let world = World::new();
    let hub = world.hub().await;
    let mut operator = Operator::of(&hub).await;
    let agent = |agent: &str| Some(Whom::Agent(agent.to_owned()));

    for (answer, code, words) in [
        (
            operator.drain("nobody", "").await,
            Code::NotFound,
            "agent nobody is not connected",
        ),
        (
            operator.drain("nobody", "x").await,
            Code::NotFound,
            "no instance \"x\"",
        ),
        (
            operator.resume("nobody", "").await,
            Code::NotFound,
            "agent nobody is not connected",
        ),
        (
            operator.kick(agent("nobody"), "").await,
            Code::NotFound,
            "agent nobody is not connected",
        ),
        (
            operator.kick(Some(Whom::Link(77)), "").await,
            Code::NotFound,
            "no link 77",
        ),
        (operator.drain("", "").await, Code::InvalidArgument, "agent: "),
        (
            operator.drain("Site 7", "").await,
            Code::InvalidArgument,
            "Site 7",
        ),
        (
            operator.kick(None, "").await,
            Code::InvalidArgument,
            "name an agent, or a link",
        ),
        (
            operator.kick(agent("a"), &"x".repeat(257)).await,
            Code::InvalidArgument,
            "257 bytes",
        ),
        (
            operator.kick(agent("a"), "\u{1b}[31m").await,
            Code::InvalidArgument,
            "\"\\u{1b}[31m\" has a control character",
        ),
    ] {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let request = WatchLinksRequest {
        interval: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        ..WatchLinksRequest::default()
    };
    let refused = soon(operator.hub.watch_links(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(list(hub.admin, "nobody", false).await, []);
}

#[tokio::test]
async fn watching_has_a_limit_and_ends_with_whoever_watches() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.drain_timeout(SHORT_GRACE)).await;
    let mut watchers = Vec::new();
    for _ in 0..adit_hub::MAX_WATCHES {
        let mut watcher = Operator::of(&hub).await;
        soon(watcher.next()).await.unwrap();
        watchers.push(watcher);
    }
    let mut one_more = client(hub.admin);
    let refused = soon(one_more.watch_links(WatchLinksRequest::default())).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    drop(watchers.pop());
    // Its reset is on its way.
    soon(async { while one_more.watch_links(WatchLinksRequest::default()).await.is_err() {} }).await;

    hub.stop().await;
    let ended = soon(async {
        loop {
            if let Err(status) = watchers[0].next().await {
                return status;
            }
        }
    })
    .await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
}
