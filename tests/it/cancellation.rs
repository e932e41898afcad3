//! A call that its client gives up is given up at the upstream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use tokio::sync::mpsc;

use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::sample::{self, Sample};
use crate::world::upstream::{Exchange, Server, head, reset, send_all};
use crate::world::{Agent, Hub, World, soon};

/// A hub and an agent before an upstream that tells what it sees.
struct Watched {
    hub: Hub,
    seen: mpsc::Receiver<Seen>,
    _server: Server,
    _agent: Agent,
    _world: World,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A call began.
    Began,
    /// What it sends is not taken any more.
    Blocked,
    /// It was reset with this code.
    Reset(Option<Reason>),
}

type Tell = mpsc::Sender<Seen>;

impl Watched {
    async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Exchange, Tell) -> R + Send + Sync + 'static,
        R: Future<Output = Seen> + Send + 'static,
    {
        let (tell, seen) = mpsc::channel(8);
        let handler = Arc::new(handler);
        let server = Server::start(move |exchange| {
            let (tell, handler) = (tell.clone(), Arc::clone(&handler));
            async move {
                tell.send(Seen::Began).await.unwrap();
                let end = handler(exchange, tell.clone()).await;
                tell.send(end).await.unwrap();
            }
        })
        .await;
        let world = World::new();
        let hub = world.hub().await;
        let agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            // Or its upstream would see the agent ask for its services.
            agent.advertise("a.B")
        });
        Self {
            hub,
            seen,
            _server: server,
            _agent: agent,
            _world: world,
        }
    }

    async fn sees(&mut self, expected: Seen) {
        assert_eq!(soon(self.seen.recv()).await, Some(expected));
    }

    async fn sees_cancelled(&mut self) {
        self.sees(Seen::Reset(Some(Reason::CANCEL))).await;
    }
}

/// How long nothing moves until a stream counts as blocked.
const STILL: Duration = Duration::from_millis(500);

/// Sends until the other end takes no more for a while.
async fn send_until_blocked(send: &mut h2::SendStream<Bytes>) {
    let data = Bytes::from(vec![0; 64 << 10]);
    while let Ok(sent) = tokio::time::timeout(STILL, send_all(send, data.clone())).await {
        assert!(sent, "the stream ended");
    }
}

#[tokio::test]
async fn before_the_response() {
    let mut watched = Watched::start(|mut exchange, _| async move {
        let code = std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
        Seen::Reset(code.ok())
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    // By a reset, and by a stream that is simply let go.
    for explicit in [true, false] {
        let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
        send.send_data(message(b"request"), true).unwrap();
        watched.sees(Seen::Began).await;
        if explicit {
            send.send_reset(Reason::CANCEL);
        }
        drop((response, send));
        watched.sees_cancelled().await;
    }
}

#[tokio::test]
async fn when_the_connection_of_the_client_ends() {
    let mut watched = Watched::start(|mut exchange, _| async move {
        let code = std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
        Seen::Reset(code.ok())
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    let call = client.send(to("site-a", "/a.B/C"), true).await;
    watched.sees(Seen::Began).await;
    drop((client, call));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn amid_the_messages_of_the_upstream() {
    let mut watched = Watched::start(|mut exchange, _| async move {
        let mut send = exchange.respond.send_response(head(), false).unwrap();
        send.send_data(message(b"one"), false).unwrap();
        Seen::Reset(reset(&mut send).await)
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    let (response, send) = client.send(to("site-a", "/a.B/C"), true).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"one"));
    watched.sees(Seen::Began).await;
    drop((body, send));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn amid_the_messages_of_the_client() {
    let mut watched = Watched::start(|mut exchange, tell| async move {
        let body = exchange.request.body_mut();
        loop {
            match body.data().await {
                Some(Ok(data)) => {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    tell.send(Seen::Blocked).await.unwrap();
                }
                Some(Err(error)) => return Seen::Reset(error.reason()),
                None => panic!("a cancelled request ended as a complete one"),
            }
        }
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"one"), false).unwrap();
    watched.sees(Seen::Began).await;
    watched.sees(Seen::Blocked).await;
    drop((response, send));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn when_the_upstream_does_not_read() {
    let mut watched = Watched::start(|mut exchange, _| async move {
        let code = std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
        Seen::Reset(code.ok())
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send_until_blocked(&mut send).await;
    watched.sees(Seen::Began).await;
    send.send_reset(Reason::CANCEL);
    drop((response, send));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn when_the_upstream_has_begun_to_answer_and_does_not_read() {
    let mut watched = Watched::start(|mut exchange, _| async move {
        let mut send = exchange.respond.send_response(head(), false).unwrap();
        Seen::Reset(reset(&mut send).await)
    })
    .await;
    let client = RawClient::connect(watched.hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    let body = soon(response).await.unwrap().into_body();
    send_until_blocked(&mut send).await;
    watched.sees(Seen::Began).await;
    drop((body, send));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn when_the_client_does_not_read() {
    let mut watched = Watched::start(|mut exchange, tell| async move {
        let mut send = exchange.respond.send_response(head(), false).unwrap();
        send_until_blocked(&mut send).await;
        tell.send(Seen::Blocked).await.unwrap();
        Seen::Reset(reset(&mut send).await)
    })
    .await;
    let client = RawClient::connect_with(watched.hub.clients, &Builder::new()).await;
    let (response, send) = client.send(to("site-a", "/a.B/C"), true).await;
    let body = soon(response).await.unwrap().into_body();
    watched.sees(Seen::Began).await;
    watched.sees(Seen::Blocked).await;
    drop((body, send));
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn of_a_grpc_library() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let _agent = world.agent(&hub, "site-a", &sample.url());
    let mut client = sample::client(hub.clients);
    let route = sample::request(Some("site-a"), futures_util::stream::pending());
    let mut calls = sample.ledger.calls();
    tokio::select! {
        _ = client.record_route(route) => panic!("a route without an end was recorded"),
        begun = soon(calls.wait_for(|calls| calls.begun == 1)) => drop(begun.unwrap()),
    }
    soon(calls.wait_for(|calls| calls.cancelled == 1)).await.unwrap();
}
