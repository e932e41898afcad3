//! A call that its client gives up is given up at the upstream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_transport::{Body, Code, Dialer, Tuning};
use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use crate::world::frames::{Frame, Frames};
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::relay::{Lost, Relay};
use crate::world::sample::{self, Sample};
use crate::world::upstream::{Exchange, Server, head, reset, send_all};
use crate::world::{Agent, Hub, World, soon};

/// A hub and an agent before an upstream that tells what it sees.
struct Watched {
    hub: Hub,
    seen: mpsc::Receiver<Seen>,
    /// The network between hub and agent.
    relay: Relay,
    _server: Server,
    _agent: Agent,
    _world: World,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A call began.
    Began,
    /// Some of its request came.
    Read,
    /// What it sends is not taken any more.
    Blocked,
    /// It was reset with this code.
    Reset(Option<Reason>),
    /// The whole of its request came.
    Ended,
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
        let relay = Relay::to(hub.agents).await;
        let agent = world.agent_with(relay.address, "site-a", &[&server.url()], |agent| {
            // Or its upstream would see the agent ask for its services.
            agent.advertise("a.B")
        });
        Self {
            hub,
            seen,
            relay,
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

    /// The same while the hub hears nothing of the agent: no answer may be needed for it.
    async fn sees_cancelled_on_the_way_there(&mut self, cancel: impl FnOnce()) {
        self.relay.loses(Lost::TowardsHub);
        let begun = Instant::now();
        cancel();
        self.sees_cancelled().await;
        // Later the hub would give up the link, and with it all calls.
        assert!(begun.elapsed() < SUSPECT, "{:?}", begun.elapsed());
        self.relay.loses(Lost::Nothing);
    }
}

/// For how long a hub does without a sign of life of an agent that has calls, before it does anything about it.
const SUSPECT: Duration = Duration::from_secs(1);

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
    let mut watched = Watched::start(leave_unanswered).await;
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
    let mut watched = Watched::start(leave_unanswered).await;
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

/// A method whose response begins before the request ends.
const ANSWERED: &str = "/a.B/Answered";

/// Reads a request as it comes.
async fn read(mut exchange: Exchange, tell: Tell) -> Seen {
    let answered = exchange.request.uri().path() == ANSWERED;
    let _send = answered.then(|| exchange.respond.send_response(head(), false).unwrap());
    let body = exchange.request.body_mut();
    loop {
        match body.data().await {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                // An empty frame may say END_STREAM.
                if !data.is_empty() {
                    tell.send(Seen::Read).await.unwrap();
                }
            }
            Some(Err(error)) => return Seen::Reset(error.reason()),
            None => return Seen::Ended,
        }
    }
}

/// Waits for the end of a call that is not answered.
async fn leave_unanswered(mut exchange: Exchange, _: Tell) -> Seen {
    let code = std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
    Seen::Reset(code.ok())
}

/// Sends until nothing is taken any more.
async fn send_too_much(mut exchange: Exchange, tell: Tell) -> Seen {
    let mut send = exchange.respond.send_response(head(), false).unwrap();
    send_until_blocked(&mut send).await;
    tell.send(Seen::Blocked).await.unwrap();
    Seen::Reset(reset(&mut send).await)
}

#[tokio::test]
async fn amid_the_messages_of_the_client() {
    let mut watched = Watched::start(read).await;
    let client = RawClient::connect(watched.hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"one"), false).unwrap();
    watched.sees(Seen::Began).await;
    watched.sees(Seen::Read).await;
    drop((response, send));
    watched.sees_cancelled().await;
}

/// The codes of RFC 9113 §7, and one that is none.
const CODES: std::ops::RangeInclusive<u32> = 0..=14;

#[tokio::test]
async fn with_whatever_code_amid_its_messages() {
    let mut watched = Watched::start(read).await;
    let client = RawClient::connect(watched.hub.clients).await;
    for code in CODES {
        for path in ["/a.B/C", ANSWERED] {
            let (response, mut send) = client.send(to("site-a", path), false).await;
            send.send_data(message(b"one"), false).unwrap();
            watched.sees(Seen::Began).await;
            watched.sees(Seen::Read).await;
            let _response = if path == ANSWERED {
                (Some(soon(response).await.unwrap()), None)
            } else {
                (None, Some(response))
            };
            // None of them makes a request whole that is not, NO_ERROR included.
            send.send_reset(code.into());
            watched.sees_cancelled().await;
        }
    }
}

/// The body of a response that has begun and does not go on.
fn no_end() -> Body {
    Body::new(StreamBody::new(futures_util::stream::pending()))
}

// One worker, which looks first at what was woken last: at the request, and then at the call that it belongs to.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_an_error_amid_its_messages() {
    let world = World::new();
    let hub = world.hub().await;
    // An agent made by hand, which looks at what the hub says of the request. An upstream would see it seldom: what is
    // said of the response comes at the same time.
    let tls = world.agent_credentials("bare").client_config().unwrap();
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    let link = dialer.dial(hub.agents, "127.0.0.1").await.unwrap();
    let (took, mut requests) = mpsc::channel(1);
    let serve = link.serve(move |request| {
        let took = took.clone();
        async move {
            if request.uri().path().starts_with("/adit.") {
                return Ok(Response::builder().status(404).body(Body::empty()).unwrap());
            }
            took.send(request.into_body()).await.unwrap();
            Ok(head().map(|()| no_end()))
        }
    });
    let client = RawClient::connect(hub.clients).await;
    let calls = async {
        for _ in 0..20 {
            let (response, mut send) = client.send(to("bare", "/a.B/C"), false).await;
            send.send_data(message(b"one"), false).unwrap();
            let _response = soon(response).await.unwrap();
            let mut request = soon(requests.recv()).await.unwrap();
            let data = soon(request.frame()).await.unwrap().unwrap().into_data();
            assert_eq!(data.unwrap(), message(b"one"));
            send.send_reset(Reason::NO_ERROR);
            let end = soon(request.frame()).await;
            let end = end.expect("the rest, for all that the hub says").unwrap_err();
            assert_eq!(end.code(), Code::REQUEST_CANCELLED);
        }
    };
    tokio::select! {
        () = calls => {}
        _ = serve => panic!("the link ended"),
    }
}

#[tokio::test]
async fn when_a_connection_that_said_goodbye_ends() {
    let mut watched = Watched::start(read).await;
    let mut client = Frames::connect(watched.hub.clients).await;
    let part = Frame::data(1, &message(b"one"));
    client
        .send([Frame::call(1, "site-a", false), part])
        .await
        .unwrap();
    watched.sees(Seen::Began).await;
    watched.sees(Seen::Read).await;
    // It takes no calls from the hub any more, which never makes any. Its own one is no more complete for it.
    client.send([Frame::going_away(0)]).await.unwrap();
    drop(client);
    watched.sees_cancelled().await;
}

#[tokio::test]
async fn with_whatever_code_before_the_response() {
    let mut watched = Watched::start(leave_unanswered).await;
    let client = RawClient::connect(watched.hub.clients).await;
    for code in CODES {
        let (_response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
        send.send_data(message(b"request"), true).unwrap();
        watched.sees(Seen::Began).await;
        send.send_reset(code.into());
        watched.sees_cancelled().await;
    }
}

#[tokio::test]
async fn within_one_way_to_the_upstream() {
    let mut watched = Watched::start(leave_unanswered).await;
    let client = RawClient::connect(watched.hub.clients).await;
    for blocked in [false, true] {
        let (_response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
        watched.sees(Seen::Began).await;
        if blocked {
            send_until_blocked(&mut send).await;
        }
        let cancel = || send.send_reset(Reason::CANCEL);
        watched.sees_cancelled_on_the_way_there(cancel).await;
    }
}

#[tokio::test]
async fn within_one_way_to_an_upstream_that_is_blocked() {
    let mut watched = Watched::start(send_too_much).await;
    let client = RawClient::connect_with(watched.hub.clients, &Builder::new()).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    let _body = soon(response).await.unwrap().into_body();
    watched.sees(Seen::Began).await;
    watched.sees(Seen::Blocked).await;
    let cancel = || send.send_reset(Reason::CANCEL);
    watched.sees_cancelled_on_the_way_there(cancel).await;
}

#[tokio::test]
async fn when_the_upstream_does_not_read() {
    let mut watched = Watched::start(leave_unanswered).await;
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
    let mut watched = Watched::start(send_too_much).await;
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
