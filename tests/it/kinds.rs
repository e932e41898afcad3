//! The four kinds of method, and which agent has a call.

use std::time::Instant;

use adit_proto::failure::Reason;
use futures_util::stream;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::world::raw::{RawClient, message, request};
use crate::world::sample::{self, Sample};
use crate::world::upstream::Server;
use crate::world::{GRACE, Hub, SHORT_GRACE, World, soon};

#[tokio::test]
async fn all_four_kinds_reach_the_agent_that_is_named() {
    let world = World::new();
    let hub = world.hub().await;
    let (a, b) = (Sample::start().await, Sample::start().await);
    let _agents = [
        world.agent(&hub, "site-a", &a.url()),
        world.agent(&hub, "site-b", &b.url()),
    ];
    sample::four_kinds(hub.clients, Some("site-a")).await;
    assert_eq!((a.calls().begun, b.calls().begun), (4, 0));
    sample::four_kinds(hub.clients, Some("site-b")).await;
    assert_eq!((a.calls().begun, b.calls().begun), (4, 4));
    assert_eq!((a.calls().cancelled, b.calls().cancelled), (0, 0));
}

#[tokio::test]
async fn all_four_kinds_reach_the_only_agent_that_has_the_service() {
    let world = World::new();
    let hub = world.hub().await;
    let (sample, other) = (Sample::start().await, Server::echo().await);
    let _agents = [
        world.agent(&hub, "site-a", &sample.url()),
        world.agent_with(hub.agents, "site-b", &[&other.url()], |agent| {
            agent.advertise("echo.Echo")
        }),
    ];
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-b", "/echo.Echo/Say").await.succeeded();

    sample::four_kinds(hub.clients, None).await;
    assert_eq!(sample.calls().begun, 4);
    let reply = client.call(request("/echo.Echo/Say").body(()).unwrap(), message(b"hello"));
    assert_eq!(reply.await.unwrap().succeeded(), b"hello");
}

#[tokio::test]
async fn a_service_that_two_agents_have_needs_a_name() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let agents = ["site-a", "site-b"];
    let _agents = agents.map(|id| world.agent(&hub, id, &sample.url()));
    for id in agents {
        sample::four_kinds(hub.clients, Some(id)).await;
    }

    let client = RawClient::connect(hub.clients).await;
    let begun = Instant::now();
    for path in [
        "/routeguide.RouteGuide/GetFeature",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let reply = client.get(request(path).body(()).unwrap()).await;
        let said = reply.failed_at_once(Reason::AmbiguousRoute, Code::FailedPrecondition, "no");
        assert!(said.contains("adit-agent (site-a, site-b)"), "{said}");
    }
    assert!(begun.elapsed() < GRACE / 2, "waiting brings no answer to it");
    assert_eq!(sample.calls().begun, 8);
}

#[tokio::test]
async fn the_only_agent_that_advertises_nothing_has_what_nobody_else_has() {
    let world = World::new();
    let hub = world.hub().await;
    let (sample, silent) = (Sample::start().await, Server::echo().await);
    let _agents = [
        world.agent(&hub, "site-a", &sample.url()),
        world.agent(&hub, "site-b", &silent.url()),
    ];
    sample::four_kinds(hub.clients, Some("site-a")).await;
    let client = RawClient::connect(hub.clients).await;
    let reply = client.call(request("/echo.Echo/Say").body(()).unwrap(), message(b"hello"));
    assert_eq!(reply.await.unwrap().succeeded(), b"hello");
    sample::four_kinds(hub.clients, None).await;
}

#[tokio::test]
async fn a_service_that_nobody_has_may_come_while_the_hub_is_new() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let reply = RawClient::connect(hub.clients)
        .await
        .get(request("/nobody.Has/This").body(()).unwrap())
        .await;
    let said = reply.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");
    assert!(
        said.contains("nobody.Has") && said.contains("just started"),
        "{said}"
    );
}

/// The services that are listed to a client that names no agent.
async fn listed(hub: &Hub) -> Result<Vec<String>, tonic::Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", hub.clients)).unwrap();
    let mut client = ServerReflectionClient::new(endpoint.connect_lazy());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = soon(client.server_reflection_info(stream::iter([request]))).await?;
    let answer = soon(answers.into_inner().message()).await?.unwrap();
    match answer.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reflection_is_that_of_the_only_agent() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let _a = world.agent(&hub, "site-a", &sample.url());
    let names = listed(&hub).await.unwrap();
    assert!(names.contains(&"routeguide.RouteGuide".to_owned()), "{names:?}");
    // Another agent makes it ambiguous, and its end clear again.
    let b = world.agent(&hub, "site-b", &sample.url());
    sample::four_kinds(hub.clients, Some("site-b")).await;
    assert_eq!(listed(&hub).await.unwrap_err().code(), Code::FailedPrecondition);
    b.stop().await;
    soon(async { while listed(&hub).await.is_err() {} }).await;
}
