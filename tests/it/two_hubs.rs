//! Two hubs that are restarted one after the other while calls go on: none is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, Reply, message, to};
use crate::world::upstream::{self, Server};
use crate::world::{World, soon};

const ID: &str = "site-a";

/// Clients that call at the same time.
const CALLERS: usize = 6;

/// Calls that each of them makes by every hub before the next one is restarted.
const CALLS: usize = 20;

/// A client that knows both hubs, and does what gRPC libraries do: it calls them in turn, makes no new call on a connection
/// that is told GOAWAY, and makes those again that the GOAWAY says nobody has looked at (RFC 9113 §6.8).
struct Balanced {
    hubs: [SocketAddr; 2],
    connections: [Option<SendRequest<Bytes>>; 2],
    /// Ends with the client.
    drivers: JoinSet<()>,
}

impl Balanced {
    fn of(hubs: [SocketAddr; 2]) -> Self {
        Self {
            hubs,
            connections: [None, None],
            drivers: JoinSet::new(),
        }
    }

    /// Makes a call, at a hub to begin with: which one has answered it, and what.
    async fn call(&mut self, first: usize, data: &Bytes) -> (usize, Result<Reply, h2::Error>) {
        for which in [first, 1 - first].into_iter().cycle() {
            let Some(sender) = self.sender(which).await else {
                // Not to spin while neither of them can be reached.
                tokio::task::yield_now().await;
                continue;
            };
            let reply = async {
                let mut sender = sender.ready().await.map_err(Unsent)?;
                let sent = sender.send_request(to(ID, "/a.B/C"), false);
                let (response, mut send) = sent.map_err(Unsent)?;
                // The response says it too.
                let _ = send.send_data(message(data), true);
                Ok(async {
                    let response = response.await?;
                    Reply::read(response.into_parts()).await
                }
                .await)
            };
            match soon(reply).await {
                Err(Unsent(_)) => {}
                Ok(Err(error)) if error.is_go_away() && error.is_remote() => {}
                Ok(reply) => return (which, reply),
            }
            self.connections[which] = None;
        }
        unreachable!("it is tried for ever")
    }

    async fn sender(&mut self, which: usize) -> Option<SendRequest<Bytes>> {
        if self.connections[which].is_none() {
            let stream = TcpStream::connect(self.hubs[which]).await.ok()?;
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.ok()?;
            self.drivers.spawn(async move {
                // Its calls say how it ended.
                let _ = connection.await;
            });
            self.connections[which] = Some(sender);
        }
        self.connections[which].clone()
    }
}

/// A call that was not sent.
struct Unsent(#[expect(dead_code, reason = "whatever it is, there is another hub")] h2::Error);

/// How many calls each caller has made by each hub.
type Made = [[AtomicUsize; 2]; CALLERS];

/// Waits until each caller has made some more calls by a hub.
async fn carries_calls(made: &Made, hub: usize) {
    let before: Vec<_> = made
        .iter()
        .map(|made| made[hub].load(Ordering::Relaxed))
        .collect();
    let more = || {
        let mut callers = made.iter().zip(&before);
        callers.all(|(made, before)| made[hub].load(Ordering::Relaxed) >= before + CALLS)
    };
    soon(async {
        while !more() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn hubs_that_are_restarted_in_turn_lose_no_call() {
    let world = World::new();
    let mut hubs = [
        HubProcess::start(&world, &[]).await,
        HubProcess::start(&world, &[]).await,
    ];
    let seen = Arc::new(AtomicUsize::new(0));
    let server = {
        let seen = Arc::clone(&seen);
        Server::start(move |exchange| {
            seen.fetch_add(1, Ordering::Relaxed);
            upstream::echo(exchange)
        })
        .await
    };
    let _agents = [(); 2].map(|()| {
        world.agent_with(hubs[0].agents, ID, &[&server.url()], |agent| {
            let second = hubs[1].agents.to_string();
            agent.hub(second.parse().unwrap()).advertise("a.B")
        })
    });
    for hub in &hubs {
        let client = RawClient::connect(hub.clients).await;
        client.get_at(ID, "/a.B/C").await.succeeded();
    }
    let before = seen.load(Ordering::Relaxed);

    let made = Arc::new(Made::default());
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = Balanced::of([hubs[0].clients, hubs[1].clients]);
        let (made, over) = (Arc::clone(&made), Arc::clone(&over));
        callers.spawn(async move {
            let mut calls = 0;
            while !over.load(Ordering::Relaxed) {
                let data = format!("call {calls} of caller {caller}").into();
                let (hub, reply) = client.call(calls % 2, &data).await;
                let reply = reply.unwrap_or_else(|error| panic!("{data:?} by hub {hub}: {error}"));
                assert_eq!(reply.succeeded(), data);
                made[caller][hub].fetch_add(1, Ordering::Relaxed);
                calls += 1;
            }
            calls
        });
    }
    for which in [0, 1] {
        carries_calls(&made, 0).await;
        carries_calls(&made, 1).await;
        let ended = hubs[which].process.terminate().await;
        assert_eq!(ended.code(), Some(0), "hub {which}");
        carries_calls(&made, 1 - which).await;
        hubs[which] = hubs[which].again(&world, &[]).await;
    }
    carries_calls(&made, 1).await;
    over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    while let Some(caller) = soon(callers.join_next()).await {
        calls += caller.unwrap();
    }
    assert_eq!(
        seen.load(Ordering::Relaxed) - before,
        calls,
        "calls that the upstream saw"
    );
}
