//! A hub that drains, as its clients see it: frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_hub::Limits;
use adit_proto::failure::Reason;
use futures_util::future::join_all;
use h2::client::ResponseFuture;
use http::HeaderMap;
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::frames::{DATA, Frame, Frames, GOAWAY, HEADERS, PING};
use crate::world::raw::{RawClient, Reply, message, next_message, to};
use crate::world::upstream::{self, Server};
use crate::world::{PATIENCE, World, soon};

/// The largest id of a stream: a GOAWAY that rules nothing out yet (RFC 9113 §6.8).
const ANY: u32 = u32::MAX >> 1;

#[tokio::test]
async fn a_running_call_ends_in_its_own_time_after_two_goaways() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut client = Frames::connect(hub.clients).await;
    client.send([Frame::call(1, "site-a", false)]).await.unwrap();
    // The response has begun.
    while client.next().await.unwrap().kind != HEADERS {}

    let address = hub.clients;
    hub.drain();
    let first = next_of(&mut client, &[GOAWAY]).await;
    assert_eq!(first.goaway(), (ANY, 0));
    assert!(TcpStream::connect(address).await.is_err(), "the port is open");
    // A call that was under way when the first came is taken: the second one says how far.
    client.send([Frame::call(3, "site-a", true)]).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = next_of(&mut client, &[PING, GOAWAY, HEADERS]).await;
        if frame.kind != HEADERS || frame.ends_stream() {
            seen.push(frame);
        }
    }
    let kinds: Vec<u8> = seen.iter().map(|frame| frame.kind).collect();
    let second = seen
        .iter()
        .find(|frame| frame.kind == GOAWAY)
        .expect("a second GOAWAY");
    assert_eq!(kinds[0], PING, "{seen:?}");
    assert_eq!(second.goaway(), (3, 0));
    assert!(seen.iter().any(|frame| frame.stream == 3), "{seen:?}");
    // One above it is not seen.
    client.send([Frame::call(5, "site-a", true)]).await.unwrap();
    client.send([Frame::end(1)]).await.unwrap();
    let rest = client.rest().await;
    assert!(rest.iter().all(|frame| frame.stream != 5), "{rest:?}");
    let end = rest.iter().rfind(|frame| frame.stream == 1).unwrap();
    assert!(end.ends_stream() && end.kind == HEADERS, "{rest:?}");
    hub.ended().await;
}

#[tokio::test]
async fn calls_that_come_behind_the_last_goaway_harm_no_other() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut client = Frames::connect(hub.clients).await;
    client.send([Frame::call(1, "site-a", false)]).await.unwrap();
    while client.next().await.unwrap().kind != HEADERS {}
    hub.drain();
    for last in [ANY, 1] {
        assert_eq!(next_of(&mut client, &[GOAWAY]).await.goaway(), (last, 0));
    }
    // gRPC's C core answers the hub's PING before it sends the calls that it had begun by then, and this is what it
    // sends of each.
    let late = |stream| {
        [
            Frame::call(stream, "site-a", false),
            Frame::credit(stream),
            Frame::end(stream),
        ]
    };
    client.send([3, 5, 7].into_iter().flat_map(late)).await.unwrap();
    client.send([Frame::end(1)]).await.unwrap();
    let rest = client.rest().await;
    assert!(
        rest.iter().all(|frame| ![3, 5, 7].contains(&frame.stream)),
        "{rest:?}"
    );
    let end = rest.iter().rfind(|frame| frame.stream == 1).expect("an end");
    assert!(end.ends_stream() && end.kind == HEADERS, "{rest:?}");
    hub.ended().await;
}

#[tokio::test]
async fn a_connection_that_is_old_ends_after_its_last_call() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.limits(Limits {
                connection_age: Some(Duration::from_secs(1)),
                ..Limits::default()
            })
        })
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut client = Frames::connect(hub.clients).await;
    client.send([Frame::call(1, "site-a", false)]).await.unwrap();
    assert_eq!(next_of(&mut client, &[GOAWAY]).await.goaway(), (ANY, 0));
    // It is told how far its calls were taken, and those go on.
    let second = next_of(&mut client, &[GOAWAY]).await;
    assert_eq!(second.goaway(), (1, 0));
    let next = RawClient::connect(hub.clients).await;
    next.get_at("site-a", "/a.B/C").await.succeeded();
    client.send([Frame::end(1)]).await.unwrap();
    let rest = client.rest().await;
    let end = rest.iter().rfind(|frame| frame.stream == 1).unwrap();
    assert!(end.ends_stream() && end.kind == HEADERS, "{rest:?}");
}

/// Connections that each of a few clients uses up, one after the other, with calls all the time.
const CONNECTIONS: usize = 5;

/// A client that heeds GOAWAY, as gRPC libraries do: it makes its next call on another connection, and lets those that
/// run go on. It says how many calls it has made.
async fn calls_until_its_connections_were_old(hub: SocketAddr) -> usize {
    let mut calls = 0;
    let (mut connections, mut running) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let client = RawClient::connect(hub).await;
        // One that outlives the connection's age, and then many that don't.
        if let Some((long, mut say)) = client.send_if_open(to("site-a", "/a.B/C"), false).await {
            let _ = say.send_data(message(b"before"), false);
            running.push((long, say));
        }
        while let Some((response, mut send)) = client.send_if_open(to("site-a", "/a.B/C"), false).await {
            let _ = send.send_data(message(b"one of many"), true);
            if let Some(reply) = unless_unseen(response).await {
                assert_eq!(reply.succeeded(), b"one of many");
                calls += 1;
            }
        }
        connections.push(client);
    }
    for (long, mut say) in running {
        let _ = say.send_data(message(b"after"), true);
        if let Some(reply) = unless_unseen(long).await {
            assert_eq!(reply.told()["grpc-status"], "0");
            assert_eq!(reply.data, [message(b"before"), message(b"after")].concat());
            calls += 1;
        }
    }
    calls
}

/// The reply to a call; or nothing, where the call is above the last one that the hub has taken, so that it may be made
/// again. The client's library answers the hub's PING before it sends calls that wait: they come too late then.
async fn unless_unseen(response: ResponseFuture) -> Option<Reply> {
    match soon(response).await {
        Ok(response) => Some(Reply::read(response.into_parts()).await.unwrap()),
        Err(error) if error.is_go_away() && error.is_remote() => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn no_call_is_lost_when_connections_get_too_old() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.limits(Limits {
                connection_age: Some(Duration::from_millis(200)),
                ..Limits::default()
            })
        })
        .await;
    let seen = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |exchange| {
            seen.fetch_add(1, Ordering::Relaxed);
            upstream::echo(exchange)
        }
    })
    .await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    // Connected by now, so that no connection grows old before its first call is answered.
    RawClient::connect(hub.clients)
        .await
        .get_at("site-a", "/a.B/C")
        .await
        .succeeded();
    let clients = join_all((0..4).map(|_| calls_until_its_connections_were_old(hub.clients)));
    let calls: usize = clients.await.into_iter().sum();
    // Each reached the upstream once, and those that the hub has not taken never did.
    assert_eq!(seen.load(Ordering::Relaxed), calls + 1);
    assert!(calls > 8 * CONNECTIONS, "{calls} calls");
}

async fn next_of(client: &mut Frames, kinds: &[u8]) -> Frame {
    loop {
        let frame = client.next().await.expect("the connection ended");
        // A PING of the hub's, not an answer to one.
        if kinds.contains(&frame.kind) && frame.kind != DATA {
            return frame;
        }
    }
}

#[tokio::test]
async fn what_a_call_sends_after_goaway_arrives() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"before"), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(&next_message(&mut body).await[5..], b"before");
    hub.drain();
    for _ in 0..100 {
        send.send_data(message(b"after"), false).unwrap();
        assert_eq!(&next_message(&mut body).await[5..], b"after");
    }
    send.send_data(bytes::Bytes::new(), true).unwrap();
    assert!(soon(body.data()).await.is_none());
    let trailers: HeaderMap = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    hub.ended().await;
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_told_why_it_ends() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| hub.drain_timeout(Duration::from_millis(100)))
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"before"), false).unwrap();
    let response = soon(response).await.unwrap().into_parts();
    hub.drain();
    let reply = Reply::read(response).await.unwrap();
    assert_eq!(reply.data.get(5..), Some(&b"before"[..]));
    reply.failed(Reason::Draining, tonic::Code::Unavailable, "maybe");
    hub.ended().await;
}

#[tokio::test]
async fn idle_and_unfinished_connections_hold_no_drain_up() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut idle = Frames::connect(hub.clients).await;
    idle.send([Frame::call(1, "site-a", true)]).await.unwrap();
    idle.ended(1).await;
    let mut silent = TcpStream::connect(hub.clients).await.unwrap();
    let begun = Instant::now();
    hub.drain();
    let frames = idle.rest().await;
    let goaways: Vec<_> = frames
        .iter()
        .filter(|frame| frame.kind == GOAWAY)
        .map(Frame::goaway)
        .collect();
    assert_eq!(goaways, [(ANY, 0), (1, 0)]);
    soon(tokio::io::AsyncReadExt::read(&mut silent, &mut [0]))
        .await
        .ok();
    hub.ended().await;
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_watches_the_hub_is_told_and_holds_no_drain_up() {
    let world = World::new();
    let hub = world.hub().await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", hub.clients)).unwrap();
    let mut health = HealthClient::new(endpoint.connect_lazy());
    let watch = health.watch(HealthCheckRequest::default());
    let mut watch = soon(watch).await.unwrap().into_inner();
    let first = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    hub.drain();
    let next = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    let end = soon(watch.message()).await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable);
    assert_eq!(end.metadata().get("adit-error").unwrap(), "draining");
    hub.ended().await;
}
