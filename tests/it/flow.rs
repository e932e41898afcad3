//! Readers that have stopped hold up nobody else.

use std::time::Duration;

use adit_transport::Tuning;
use bytes::Bytes;
use futures_util::future::join_all;
use h2::RecvStream;
use h2::client::Builder;

use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::upstream::{Exchange, Server, answer, echo};
use crate::world::{World, soon};

const MIB: usize = 1 << 20;

/// What stopped readers are owed together.
const OWED: usize = 64 * MIB;

/// Calls at once beside them.
const CALLS: usize = 1000;

/// Readers that stop where the ceiling is low: more than it has room for.
const READERS: usize = 12;

/// How long an upstream gets nothing sent until it counts as blocked.
const STILL: Duration = Duration::from_millis(1500);

/// Answers `/a.B/Flood/<bytes>` with as many, and everything else with itself.
async fn flood_or_echo(exchange: Exchange) {
    let path = exchange.request.uri().path().to_owned();
    match path.strip_prefix("/a.B/Flood/") {
        Some(bytes) => answer(exchange, Bytes::from(vec![7; bytes.parse().unwrap()])).await,
        None => echo(exchange).await,
    }
}

/// Begins a call that is owed so many bytes, and reads none of them.
async fn stop_reading(client: &RawClient, bytes: usize) -> RecvStream {
    let path = format!("/a.B/Flood/{bytes}");
    let (response, _) = client.send(to("site-a", &path), true).await;
    soon(response).await.unwrap().into_body()
}

/// Makes the calls at once, each of which stays open until all have begun.
async fn all_at_once(client: &RawClient) {
    let begun = join_all((0..CALLS).map(|_| async {
        let (response, mut send) = client.send(to("site-a", "/a.B/Echo"), false).await;
        send.send_data(message(b"one"), false).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!(head.headers.get("adit-error"), None, "{head:?}");
        assert_eq!(next_message(&mut body).await, message(b"one"));
        (send, body)
    }));
    let ended = soon(begun)
        .await
        .into_iter()
        .map(|(mut send, mut body)| async move {
            send.send_data(message(b"two"), true).unwrap();
            assert_eq!(next_message(&mut body).await, message(b"two"));
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        });
    soon(join_all(ended)).await;
}

/// Reads what was owed.
async fn read_on(mut body: RecvStream) -> usize {
    let mut read = 0;
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read += data.len();
    }
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    read
}

async fn stopped(readers: usize) {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::start(flood_or_echo).await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    // Its own connection: what a client does to itself is its own affair.
    let stopped = RawClient::connect_with(hub.clients, &Builder::new()).await;
    let mut bodies = Vec::new();
    for _ in 0..readers {
        bodies.push(stop_reading(&stopped, OWED / readers).await);
    }
    let client = RawClient::connect(hub.clients).await;
    all_at_once(&client).await;

    // Nothing was lost meanwhile: who reads on gets all of it.
    let read = soon(join_all(bodies.into_iter().map(read_on))).await;
    assert_eq!(read, vec![OWED / readers; readers]);
}

#[tokio::test]
async fn a_thousand_calls_pass_a_reader_that_has_stopped() {
    stopped(1).await;
}

#[tokio::test]
async fn a_thousand_calls_pass_many_readers_that_have_stopped() {
    // 4 MiB each: more than any one leg's window for a call, so that all legs hold bytes of all of them.
    stopped(16).await;
}

#[tokio::test]
async fn readers_that_stand_still_are_given_up_at_the_ceiling() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.tuning(Tuning {
                stream_window: 512 << 10,
                link_window: 2 << 20,
                link_memory: 3 << 20,
                ..Tuning::default()
            })
        })
        .await;
    let (blocked, mut all_blocked) = tokio::sync::mpsc::channel(READERS);
    let server = Server::start(move |exchange| {
        let blocked = blocked.clone();
        async move {
            let flood = flood_or_echo(exchange);
            tokio::pin!(flood);
            let given_up = tokio::time::timeout(STILL, &mut flood).await.is_ok();
            let _ = blocked.send(()).await;
            if !given_up {
                flood.await;
            }
        }
    })
    .await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    let stopped = RawClient::connect_with(hub.clients, &Builder::new()).await;
    let bodies = join_all((0..READERS).map(|_| stop_reading(&stopped, 4 * MIB))).await;
    for _ in 0..READERS {
        soon(all_blocked.recv()).await.unwrap();
    }

    // They could spend all of the link's credit, of which a new call needs some.
    let client = RawClient::connect(hub.clients).await;
    for _ in 0..READERS {
        let call = client.call(to("site-a", "/a.B/Echo"), message(b"live"));
        assert_eq!(soon(call).await.unwrap().succeeded(), b"live");
    }

    // Those that were given up learn why when they read on; the others get all of it.
    let ends = join_all(bodies.into_iter().map(|mut body| async move {
        let mut read = 0;
        while let Some(data) = soon(body.data()).await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
        }
        let trailers = soon(body.trailers()).await.unwrap().unwrap();
        match trailers["grpc-status"].as_bytes() {
            b"0" => assert_eq!(read, 4 * MIB),
            _ => {
                assert_eq!(trailers["grpc-status"], "8");
                assert_eq!(trailers["adit-error"], "slow-reader");
                assert_eq!(trailers["adit-delivered"], "maybe");
            }
        }
        trailers.contains_key("adit-error")
    }));
    let given_up = ends.await.into_iter().filter(|&given_up| given_up).count();
    assert!((1..READERS).contains(&given_up), "{given_up} were given up");
}
