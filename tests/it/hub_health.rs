//! The health that a hub tells of itself and of the services behind it, to clients that name no agent.

use http::HeaderValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::world::raw::{RawClient, message, request};
use crate::world::upstream::Server;
use crate::world::{Hub, World, soon};

fn health(hub: &Hub) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", hub.clients)).unwrap();
    HealthClient::new(endpoint.connect_lazy())
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    soon(watch.message())
        .await
        .unwrap()
        .expect("the watch ended")
        .status()
}

#[tokio::test]
async fn a_service_is_well_while_an_agent_serves_it() {
    let world = World::new();
    let hub = world.hub().await;
    let mut health = health(&hub);
    let status = soon(health.check(of(""))).await.unwrap().into_inner();
    assert_eq!(status.status(), ServingStatus::Serving);
    let unknown = soon(health.check(of("a.B"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("a.B"), "{unknown}");

    let mut watch = soon(health.watch(of("a.B"))).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await, ServingStatus::ServiceUnknown);
    let server = Server::echo().await;
    let serve = || {
        world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B")
        })
    };
    for _ in 0..2 {
        let agent = serve();
        assert_eq!(next(&mut watch).await, ServingStatus::Serving);
        let status = soon(health.check(of("a.B"))).await.unwrap().into_inner();
        assert_eq!(status.status(), ServingStatus::Serving);
        agent.stop().await;
        assert_ne!(next(&mut watch).await, ServingStatus::Serving);
    }
    // An agent of another service changes nothing, and a watcher is told nothing.
    let _other = world.agent_with(hub.agents, "site-b", &[&server.url()], |agent| {
        agent.advertise("c.D")
    });
    let mut other = soon(health.watch(of("c.D"))).await.unwrap().into_inner();
    while next(&mut other).await != ServingStatus::Serving {}
    let _agent = serve();
    assert_eq!(next(&mut watch).await, ServingStatus::Serving);
}

#[tokio::test]
async fn who_names_an_agent_asks_its_upstream() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    let check = request("/grpc.health.v1.Health/Check").header("adit-agent", "site-a");
    let reply = client.get(check.body(()).unwrap()).await;
    // The upstream has no such service; the hub would have said that it serves.
    assert_eq!(reply.told()["grpc-status"], "12", "{reply:?}");
    assert!(!reply.told().contains_key("adit-error"), "{reply:?}");
}

#[tokio::test]
async fn odd_questions_have_an_answer() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let ask = |path: &str| request(path).body(()).unwrap();
    let status = |reply: &crate::world::raw::Reply| reply.told()["grpc-status"].clone();
    let code = |code: Code| HeaderValue::from(code as i32);

    let reply = client.get(ask("/grpc.health.v1.Health/List2")).await;
    assert_eq!(status(&reply), code(Code::Unimplemented));
    let reply = client.get(ask("/grpc.health.v9.Health/Check")).await;
    assert_eq!(status(&reply), code(Code::Unimplemented));
    let long = [&[0x0a, 0xff, 0xff, 0x03][..], &[b'x'; 65_535]].concat();
    let reply = client
        .call(ask("/grpc.health.v1.Health/Check"), message(&long))
        .await
        .unwrap();
    assert_eq!(status(&reply), code(Code::OutOfRange));
    let reply = client
        .call(ask("/grpc.health.v1.Health/Check"), message(&[0xff; 20]))
        .await
        .unwrap();
    assert_ne!(status(&reply), code(Code::Ok));
    let reply = client.get(ask("/grpc.health.v1.Health/Check")).await;
    assert_eq!(reply.succeeded(), [8, 1], "SERVING");
}
