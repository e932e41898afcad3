//! Upstreams that end their connections while calls run on them, and idle ones that are left in peace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use adit_proto::failure::Reason;
use bytes::Bytes;
use futures_util::future::join_all;
use h2::{RecvStream, SendStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::Code;

use crate::world::frames::{Frame, Frames, HEADERS, PING};
use crate::world::operator::{Operator, ready};
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::upstream::{self, Exchange, Handler, Server};
use crate::world::{ANY_PORT, Agent, Hub, World, soon};

/// How old a connection gets at an upstream that has its clients connect anew now and then.
const AGE: Duration = Duration::from_millis(100);

/// How many of its connections get too old in the test.
const GENERATIONS: usize = 6;

/// Clients that make one call after the other.
const CLIENTS: usize = 4;

fn agent_of(world: &World, hub: &Hub, upstream: &Server) -> Agent {
    world.agent_with(hub.agents, "site-a", &[&upstream.url()], |agent| {
        agent.advertise("a.B")
    })
}

/// A conversation with an upstream that says everything back.
struct Conversation {
    send: SendStream<Bytes>,
    body: RecvStream,
}

impl Conversation {
    async fn begin(client: &RawClient) -> Self {
        let (response, send) = loop {
            let (response, send) = client.send(to("site-a", "/a.B/C"), false).await;
            match soon(response).await {
                Ok(response) => break (response, send),
                Err(error) => assert!(unseen(&error), "{error:?}"),
            }
        };
        let body = response.into_body();
        let mut conversation = Self { send, body };
        conversation.goes_on().await;
        conversation
    }

    async fn goes_on(&mut self) {
        self.send.send_data(message(b"still there?"), false).unwrap();
        assert_eq!(next_message(&mut self.body).await, message(b"still there?"));
    }

    async fn ends_well(mut self) {
        self.goes_on().await;
        self.send.send_data(Bytes::new(), true).unwrap();
        assert!(soon(self.body.data()).await.is_none());
        let trailers = soon(self.body.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }
}

/// A call that crossed the upstream's GOAWAY, and that gRPC libraries make again: nobody has seen it.
fn unseen(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

#[tokio::test]
async fn no_call_is_lost_when_connections_get_too_old() {
    let (calls, generations) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
    let mut generation = generations.subscribe();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let server = Server::accept(listener, {
        let calls = Arc::clone(&calls);
        move |stream| {
            let (calls, generations) = (Arc::clone(&calls), generations.clone());
            let used = Arc::new(AtomicBool::new(false));
            let handler: Handler = Arc::new({
                let used = Arc::clone(&used);
                move |exchange| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    used.store(true, Ordering::Relaxed);
                    Box::pin(upstream::echo(exchange))
                }
            });
            async move {
                let old = async {
                    tokio::time::sleep(AGE).await;
                    // The agent has one that watches, too.
                    if used.load(Ordering::Relaxed) {
                        generations.send_modify(|generations| *generations += 1);
                    }
                };
                upstream::serve_until(stream, handler, old).await;
            }
        }
    });
    let world = World::new();
    let hub = world.hub().await;
    let _agent = agent_of(&world, &hub, &server);
    let client = RawClient::connect(hub.clients).await;

    let made = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let steady = join_all((0..CLIENTS).map(|_| async {
        while !ended.load(Ordering::Relaxed) {
            let call = client.call(to("site-a", "/a.B/C"), message(b"one of many"));
            match call.await {
                Ok(reply) => assert_eq!(reply.succeeded(), b"one of many"),
                Err(error) if unseen(&error) => continue,
                Err(error) => panic!("{error:?}"),
            }
            made.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let long = async {
        let mut conversations: Vec<Conversation> = Vec::new();
        while *generation.borrow_and_update() < GENERATIONS {
            // They run on connections that are in their prime, and on all that are too old by now.
            conversations.push(Conversation::begin(&client).await);
            soon(generation.changed()).await.unwrap();
            for conversation in &mut conversations {
                conversation.goes_on().await;
            }
        }
        ended.store(true, Ordering::Relaxed);
        let count = conversations.len();
        join_all(conversations.into_iter().map(Conversation::ends_well)).await;
        count
    };
    let (_, long) = tokio::join!(steady, long);
    assert!(long >= GENERATIONS / 2, "{long} conversations");
    // None was made twice either.
    assert_eq!(calls.load(Ordering::Relaxed), made.into_inner() + long);
}

/// How many calls are under way on a connection when its upstream says that it takes the first two of them only.
const UNDER_WAY: usize = 4;

/// An upstream that makes no sense of what it is sent but counts calls: on the first connection that has enough of them
/// it takes two, and says GOAWAY, once it is let; and it takes all calls afterwards.
struct Choosy {
    server: Server,
    under_way: watch::Receiver<usize>,
    go: Arc<Semaphore>,
}

impl Choosy {
    async fn start() -> Self {
        let (calls, under_way) = watch::channel(0);
        let (go, chosen) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let let_go = Arc::clone(&go);
        let server = Server::accept(listener, move |stream| {
            choose(stream, calls.clone(), Arc::clone(&let_go), Arc::clone(&chosen))
        });
        Self {
            server,
            under_way,
            go,
        }
    }

    async fn has_calls_under_way(&mut self) {
        let enough = self.under_way.wait_for(|&calls| calls == UNDER_WAY);
        soon(enough).await.unwrap();
    }
}

async fn choose(stream: TcpStream, calls: watch::Sender<usize>, go: Arc<Semaphore>, chosen: Arc<AtomicBool>) {
    let mut frames = Frames::accept(stream).await;
    let mut here = Vec::new();
    while let Some(frame) = frames.arrives().await {
        if frame.kind != HEADERS {
            continue;
        }
        let answers = if chosen.load(Ordering::Relaxed) {
            vec![Frame::answer(frame.stream)]
        } else {
            here.push(frame.stream);
            calls.send_modify(|most| *most = here.len().max(*most));
            if here.len() < UNDER_WAY {
                continue;
            }
            go.acquire().await.unwrap().forget();
            chosen.store(true, Ordering::Relaxed);
            let goaway = Frame::going_away(here[1]);
            vec![goaway, Frame::answer(here[0]), Frame::answer(here[1])]
        };
        if frames.send(answers).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn calls_above_the_last_that_an_upstream_takes_are_refused_unseen() {
    let mut upstream = Choosy::start().await;
    let world = World::new();
    let hub = world.hub().await;
    let _agent = agent_of(&world, &hub, &upstream.server);
    let client = RawClient::connect(hub.clients).await;
    let calls = join_all((0..UNDER_WAY).map(|_| client.call(to("site-a", "/a.B/C"), message(b""))));
    let choosing = async {
        upstream.has_calls_under_way().await;
        upstream.go.add_permits(1);
    };
    let (replies, ()) = tokio::join!(calls, choosing);
    let mut taken = 0;
    for reply in replies {
        match reply {
            Ok(reply) if reply.told()["grpc-status"] == "0" => taken += 1,
            Ok(reply) => drop(reply.failed_at_once(Reason::Draining, Code::Unavailable, "no")),
            // gRPC libraries make a call again that ends so, once or until it has been heard.
            Err(error) => assert!(unseen(&error), "{error:?}"),
        }
    }
    assert_eq!(taken, 2);
    // The next ones go on a new connection.
    for _ in 0..UNDER_WAY {
        client.get_at("site-a", "/a.B/C").await.succeeded();
    }
}

#[tokio::test]
async fn calls_above_the_last_that_an_upstream_takes_go_to_a_replica() {
    let mut upstream = Choosy::start().await;
    let world = World::new();
    let hub = world.hub().await;
    let mut operator = Operator::of(&hub).await;
    let _agent = agent_of(&world, &hub, &upstream.server);
    let client = RawClient::connect(hub.clients).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let other = Server::start({
        let seen = Arc::clone(&seen);
        move |exchange: Exchange| {
            seen.fetch_add(1, Ordering::Relaxed);
            upstream::echo(exchange)
        }
    })
    .await;
    let calls = join_all((0..UNDER_WAY).map(|_| client.get_at("site-a", "/a.B/C")));
    let choosing = async {
        upstream.has_calls_under_way().await;
        let replica = agent_of(&world, &hub, &other);
        operator.sees(ready(2)).await;
        upstream.go.add_permits(1);
        replica
    };
    let (replies, _replica) = tokio::join!(calls, choosing);
    for reply in replies {
        reply.succeeded();
    }
    assert_eq!(seen.load(Ordering::Relaxed), UNDER_WAY - 2);
}

/// How long nobody calls the upstream: longer than the interval at which any library pings where it does.
const IDLE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_idle_upstream_is_not_pinged() {
    let (saw, mut seen) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let server = Server::accept(listener, move |stream| {
        let saw = saw.clone();
        async move {
            let mut frames = Frames::accept(stream).await;
            while let Some(frame) = frames.arrives().await {
                if frame.kind == HEADERS {
                    frames.send([Frame::answer(frame.stream)]).await.unwrap();
                }
                saw.send(Some(frame)).unwrap();
            }
            saw.send(None).unwrap();
        }
    });
    let world = World::new();
    let hub = world.hub().await;
    let _agent = agent_of(&world, &hub, &server);
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/C").await.succeeded();
    // Servers take one ping in five minutes for a nuisance, and end the connection at the third.
    // Everything is in this process, so that time passes as fast as nothing happens.
    tokio::time::pause();
    tokio::time::sleep(IDLE).await;
    tokio::time::resume();
    client.get_at("site-a", "/a.B/C").await.succeeded();
    let mut calls = 0;
    while let Ok(frame) = seen.try_recv() {
        let frame = frame.expect("no connection ends");
        assert_ne!(frame.kind, PING, "{frame:?}");
        calls += usize::from(frame.kind == HEADERS);
    }
    assert!(calls >= 2, "{calls} calls");
}
