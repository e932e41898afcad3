//! What a client is told of a call whose link dies, held against what the upstreams saw of it.
//!
//! `adit-delivered: no` may be said of no call that an upstream saw, and no call is made twice that one may have seen.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_proto::hub::v1::hub_client::HubClient;
use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::hub::v1::{DrainRequest, KickRequest, Link, ResumeRequest};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Request, response};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::world::raw::{RawClient, Reply, message, to};
use crate::world::upstream::{Exchange, Server, head, reset, send_all, status};
use crate::world::{Agent, Hub, World, operator, soon};

mod crossing;
mod many;
mod random;
mod steps;
mod unwritten;

/// The agent of all these tests.
const ID: &str = "site-a";

/// The metadata with a call's name, which no other call has.
const CALL: &str = "x-call";

/// More than one packet holds, and than the sum of all that has no request or response in it.
const LARGE: usize = 4 << 10;

/// What an upstream does with a call, as the path says it.
mod path {
    /// Answers with what it is sent, once it has all of it.
    pub(super) const ECHO: &str = "/a.B/Echo";
    /// Answers with a status that is not 0, and nothing else.
    pub(super) const REFUSE: &str = "/a.B/Refuse";
    /// Never answers.
    pub(super) const SILENT: &str = "/a.B/Silent";
    /// Sends a status and nothing else, and no end.
    pub(super) const STATUS: &str = "/a.B/Status";
    /// Begins to answer, and sends no message.
    pub(super) const BEGIN: &str = "/a.B/Begin";
    /// Sends [`MESSAGES`](super::MESSAGES) messages, and no end.
    pub(super) const STREAM: &str = "/a.B/Stream";
    /// The same with an end, once it is told to, whose metadata is [`LARGE`](super::LARGE).
    pub(super) const FINISH: &str = "/a.B/Finish";
}

/// Messages of a response that goes on.
const MESSAGES: usize = 3;

/// What upstreams have seen of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How often its head has come.
    begun: usize,
    /// How often it was answered to the end.
    finished: usize,
}

/// All calls that upstreams have seen.
#[derive(Clone, Debug, Default)]
struct Record(Arc<watch::Sender<HashMap<String, Seen>>>);

/// An upstream that keeps a record.
struct Upstream {
    record: Record,
    server: Server,
    finish: watch::Sender<bool>,
}

impl Record {
    fn of(&self, call: &str) -> Seen {
        self.0.borrow().get(call).copied().unwrap_or_default()
    }

    /// Waits until it has such a thing about a call.
    async fn has(&self, call: &str, such: impl Fn(Seen) -> bool) {
        let mut record = self.0.subscribe();
        let seen = record.wait_for(|record| record.get(call).is_some_and(|seen| such(*seen)));
        soon(seen).await.unwrap();
    }

    async fn has_begun(&self, call: &str) {
        self.has(call, |seen| seen.begun > 0).await;
    }

    fn note(&self, call: &str, what: impl FnOnce(&mut Seen)) {
        self.0
            .send_modify(|record| what(record.entry(call.to_owned()).or_default()));
    }
}

impl Upstream {
    async fn start() -> Self {
        let record = Record::default();
        let (finish, may_finish) = watch::channel(false);
        let server = {
            let record = record.clone();
            Server::start(move |exchange| answer(exchange, record.clone(), may_finish.clone())).await
        };
        Self {
            record,
            server,
            finish,
        }
    }

    /// An agent before it.
    fn agent(&self, world: &World, hub: SocketAddr) -> Agent {
        self.agent_with(world, hub, |agent| agent)
    }

    /// The same, but for what `change` does.
    fn agent_with(
        &self,
        world: &World,
        hub: SocketAddr,
        change: impl FnOnce(adit_agent::Builder) -> adit_agent::Builder,
    ) -> Agent {
        world.agent_with(hub, ID, &[&self.server.url()], |agent| {
            change(agent.advertise("a.B"))
        })
    }

    /// Lets calls of [`path::FINISH`] end.
    fn finish(&self) {
        self.finish.send_replace(true);
    }
}

/// Does with one call what its path says, and keeps the record. Its agent may be gone at any moment.
async fn answer(mut exchange: Exchange, record: Record, mut may_finish: watch::Receiver<bool>) {
    let (path, call) = {
        let head = &exchange.request;
        let call = head.headers()[CALL].to_str().unwrap();
        (head.uri().path().to_owned(), call.to_owned())
    };
    record.note(&call, |seen| seen.begun += 1);
    let respond = &mut exchange.respond;
    match path.as_str() {
        path::ECHO => {
            let Some(data) = whole(&mut exchange).await else {
                return;
            };
            let Ok(mut send) = exchange.respond.send_response(head(), false) else {
                return;
            };
            if send_all(&mut send, data).await && send.send_trailers(status("0")).is_ok() {
                record.note(&call, |seen| seen.finished += 1);
            }
        }
        path::REFUSE => {
            let mut refused = head();
            refused.headers_mut().extend(status("5"));
            if respond.send_response(refused, true).is_ok() {
                record.note(&call, |seen| seen.finished += 1);
            }
        }
        path::STATUS => {
            let mut refused = head();
            refused.headers_mut().extend(status("5"));
            if let Ok(mut send) = respond.send_response(refused, false) {
                reset(&mut send).await;
            }
        }
        path::SILENT => drop(std::future::poll_fn(|cx| respond.poll_reset(cx)).await),
        begins => {
            let Ok(mut send) = respond.send_response(head(), false) else {
                return;
            };
            if begins != path::BEGIN {
                for _ in 0..MESSAGES {
                    let _ = send.send_data(message(b"one more"), false);
                }
            }
            if begins == path::FINISH {
                let _ = may_finish.wait_for(|may| *may).await;
                let mut trailers = status("0");
                trailers.insert("x-large", large());
                if send.send_trailers(trailers).is_ok() {
                    record.note(&call, |seen| seen.finished += 1);
                }
            } else {
                reset(&mut send).await;
            }
        }
    }
}

/// A request's body, if it comes to its end.
async fn whole(exchange: &mut Exchange) -> Option<Bytes> {
    let body = exchange.request.body_mut();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        body.flow_control().release_capacity(chunk.len()).ok()?;
        data.extend_from_slice(&chunk);
    }
    Some(data.into())
}

/// The head of a call.
fn named(call: &str, path: &str) -> Request<()> {
    let mut request = to(ID, path);
    request
        .headers_mut()
        .insert(CALL, HeaderValue::from_str(call).unwrap());
    request
}

/// A value of [`LARGE`] bytes.
fn large() -> HeaderValue {
    HeaderValue::from_str(&"x".repeat(LARGE)).unwrap()
}

/// A call under way.
struct Call {
    name: String,
    answer: Answer,
    send: SendStream<Bytes>,
}

enum Answer {
    Awaited(ResponseFuture),
    Begun(response::Parts, RecvStream),
}

impl Call {
    /// Sends a head; `end` says that nothing follows.
    async fn make(client: &RawClient, request: Request<()>, end: bool) -> Self {
        let name = request.headers()[CALL].to_str().unwrap().to_owned();
        let (response, send) = client.send(request, end).await;
        Self {
            name,
            answer: Answer::Awaited(response),
            send,
        }
    }

    /// Waits for the head of the response.
    async fn begins(mut self) -> Self {
        if let Answer::Awaited(response) = self.answer {
            let (head, body) = soon(response).await.unwrap().into_parts();
            self.answer = Answer::Begun(head, body);
        }
        self
    }

    /// Waits for the messages of a response that goes on.
    async fn has_messages(self) -> Self {
        let mut call = self.begins().await;
        if let Answer::Begun(_, body) = &mut call.answer {
            let mut expected = MESSAGES * message(b"one more").len();
            while expected > 0 {
                let chunk = soon(body.data()).await.expect("messages").unwrap();
                body.flow_control().release_capacity(chunk.len()).unwrap();
                expected -= chunk.len();
            }
        }
        call
    }

    /// What comes, or follows.
    async fn ends(self) -> Reply {
        self.try_end().await.unwrap()
    }

    /// The same, where the hub may reset the call.
    async fn try_end(self) -> Result<Reply, h2::Error> {
        let whole = match self.answer {
            Answer::Awaited(response) => soon(response).await?.into_parts(),
            Answer::Begun(head, body) => (head, body),
        };
        Reply::read(whole).await
    }
}

/// Makes calls until one arrives at an upstream, which is connected then.
async fn connected(client: &RawClient, record: &Record) {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    let arrives = async {
        loop {
            let attempt = format!("attempt {}", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
            client
                .call(named(&attempt, path::ECHO), message(b""))
                .await
                .unwrap();
            if record.of(&attempt).begun > 0 {
                break;
            }
        }
    };
    soon(arrives).await;
}

/// What an operator does at a hub.
struct Operator {
    admin: SocketAddr,
    hub: HubClient<Channel>,
}

impl Operator {
    fn of(hub: &Hub) -> Self {
        Self {
            admin: hub.admin,
            hub: operator::client(hub.admin),
        }
    }

    /// The links of this moment, the oldest first.
    async fn links(&self) -> Vec<Link> {
        let mut links = operator::list(self.admin, ID, false).await;
        links.sort_by_key(|link| link.id);
        links
    }

    /// Waits until there are so many links.
    async fn sees(&self, count: usize) -> Vec<Link> {
        soon(async {
            loop {
                let links = self.links().await;
                if links.len() == count {
                    return links;
                }
            }
        })
        .await
    }

    /// Gives the agent of a link no new calls.
    async fn drain(&mut self, link: &Link) {
        let request = DrainRequest {
            agent: ID.to_owned(),
            instance: link.instance.clone(),
        };
        assert_eq!(soon(self.hub.drain(request)).await.unwrap().into_inner().links, 1);
    }

    /// Gives all agents new calls.
    async fn resume(&mut self) {
        let request = ResumeRequest {
            agent: ID.to_owned(),
            ..ResumeRequest::default()
        };
        soon(self.hub.resume(request)).await.unwrap();
    }

    /// Closes a link, if it has not ended.
    async fn kick(&mut self, link: &Link) {
        let request = KickRequest {
            whom: Some(Whom::Link(link.id)),
            reason: "spring cleaning".to_owned(),
        };
        if let Err(status) = soon(self.hub.kick(request)).await {
            assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
        }
    }
}
