//! A call's deadline is the client's and the upstream's affair, and after a grace the hub's.

use std::time::Duration;

use adit_proto::failure::Reason;
use futures_util::future::join_all;
use http::{HeaderValue, Request};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Code;

use crate::world::raw::{RawClient, Reply, message, to};
use crate::world::upstream::{Exchange, Server, head, reset, status};
use crate::world::{Agent, Hub, World, soon};

const TIMEOUT: Duration = Duration::from_secs(2);

/// How long after the deadline an upstream that is a little late answers: within the hub's grace.
const LATE: Duration = Duration::from_millis(300);

/// The latest that anything happens: the grace, and what the way takes.
const OVER: Duration = Duration::from_millis(1000);

/// What an upstream saw: the request's `grpc-timeout`, when and how the call ended.
#[derive(Debug)]
struct Seen {
    timeout: Option<HeaderValue>,
    ended: Instant,
    code: Option<h2::Reason>,
}

/// A hub, an agent `site-a`, and a client. The clock stands still but for what waits for it: all are in this process.
struct Path {
    client: RawClient,
    seen: mpsc::Receiver<Seen>,
    _server: Server,
    _agent: Agent,
    _hub: Hub,
    _world: World,
}

impl Path {
    async fn start() -> Self {
        let (tell, seen) = mpsc::channel(8);
        let server = Server::start(move |exchange| {
            let tell = tell.clone();
            async move { answer(exchange, tell).await }
        })
        .await;
        let world = World::new();
        let hub = world.hub().await;
        let agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B")
        });
        let client = RawClient::connect(hub.clients).await;
        client.get_at("site-a", "/a.B/Now").await.succeeded();
        tokio::time::pause();
        Self {
            client,
            seen,
            _server: server,
            _agent: agent,
            _hub: hub,
            _world: world,
        }
    }

    async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await.unwrap()
    }
}

/// Does what the method says.
async fn answer(mut exchange: Exchange, tell: mpsc::Sender<Seen>) {
    let timeout = exchange.request.headers().get("grpc-timeout").cloned();
    let code = match exchange.request.uri().path() {
        "/a.B/Now" => {
            let mut send = exchange.respond.send_response(head(), false).unwrap();
            return send.send_trailers(status("0")).unwrap();
        }
        "/a.B/Late" => {
            tokio::time::sleep(TIMEOUT + LATE).await;
            let mut response = head();
            response.headers_mut().extend(status("4"));
            let words = HeaderValue::from_static("in my own words");
            response.headers_mut().insert("grpc-message", words);
            exchange.respond.send_response(response, true).unwrap();
            None
        }
        "/a.B/Never" => std::future::poll_fn(|cx| exchange.respond.poll_reset(cx))
            .await
            .ok(),
        "/a.B/Begins" => {
            let mut send = exchange.respond.send_response(head(), false).unwrap();
            send.send_data(message(b"one"), false).unwrap();
            reset(&mut send).await
        }
        other => panic!("{other}"),
    };
    let ended = Instant::now();
    tell.send(Seen { timeout, ended, code }).await.unwrap();
}

fn timed(path: &str, timeout: &'static str) -> Request<()> {
    let mut request = to("site-a", path);
    let timeout = HeaderValue::from_static(timeout);
    request.headers_mut().insert("grpc-timeout", timeout);
    request
}

#[tokio::test]
async fn the_hub_ends_a_call_soon_after_it_and_the_upstream_is_told() {
    let mut path = Path::start().await;
    // The same time in several words, which are the client's: none is put in others.
    let timeouts = ["2S", "2000m", "00002S", "2000000u"];
    let begun = Instant::now();
    let client = &path.client;
    let replies = join_all(timeouts.iter().flat_map(|&timeout| {
        [("/a.B/Never", true), ("/a.B/Begins", false)].map(|(method, at_once)| async move {
            let reply = client.get(timed(method, timeout)).await;
            reply.failed(Reason::Deadline, Code::DeadlineExceeded, "maybe");
            assert_eq!(reply.headers_only, at_once);
            begun.elapsed()
        })
    }));
    // Later than the deadline, so that whoever has own words for it has the time to say them.
    for told in replies.await {
        assert!(told > TIMEOUT && told < TIMEOUT + OVER, "{told:?}");
    }
    let mut seen = Vec::new();
    for _ in 0..2 * timeouts.len() {
        let Seen { timeout, ended, code } = path.seen().await;
        assert_eq!(code, Some(h2::Reason::CANCEL));
        assert!(ended - begun > TIMEOUT && ended - begun < TIMEOUT + OVER);
        seen.push(timeout.unwrap());
    }
    seen.sort();
    let mut sent = timeouts.repeat(2);
    sent.sort_unstable();
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn the_upstreams_own_word_is_heard_though_it_is_a_little_late() {
    let mut path = Path::start().await;
    let reply = path.client.get(timed("/a.B/Late", "2S")).await;
    assert!(reply.headers_only, "{reply:?}");
    assert_eq!(reply.told()["grpc-status"], "4");
    assert_eq!(reply.told()["grpc-message"], "in my own words");
    assert_eq!(reply.told().get("adit-error"), None, "{reply:?}");
    assert_eq!(path.seen().await.timeout.unwrap(), "2S");
}

#[tokio::test]
async fn a_client_that_keeps_its_deadline_itself_ends_the_call_at_once() {
    let mut path = Path::start().await;
    let begun = Instant::now();
    let (response, mut send) = path.client.send(timed("/a.B/Begins", "2S"), true).await;
    let reply = Reply::read(soon(response).await.unwrap().into_parts());
    assert!(tokio::time::timeout_at(begun + TIMEOUT, reply).await.is_err());
    send.send_reset(h2::Reason::CANCEL);
    let seen = path.seen().await;
    assert_eq!(seen.code, Some(h2::Reason::CANCEL));
    let ended = seen.ended - begun;
    // The hub's own timer would have ended it later.
    assert!(ended < TIMEOUT + LATE, "{ended:?}");
}
