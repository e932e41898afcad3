//! The hub's end of the control call: `adit.tunnel.v1.Agent/Attach`, an ordinary call on the link.

use std::task::{Context, Poll};

use adit_proto::tunnel::v1::agent_client::AgentClient;
use adit_proto::tunnel::v1::hub_event::Event;
use adit_proto::tunnel::v1::{AgentEvent, Drain, Heartbeat, HubEvent, Welcome};
use adit_transport::{Body, BodyError, CallError, Code, HubLink, Standing};
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tower_service::Service;

/// The longest event of an agent.
pub const MAX_EVENT: usize = 1 << 20;

/// Events that wait to be sent to an agent. One that reads none is found out by the heartbeats that it doesn't answer.
const QUEUE: usize = 16;

/// What the hub says on one link.
#[derive(Clone, Debug)]
pub(crate) struct Say(mpsc::Sender<HubEvent>);

/// Makes the control call, which lasts as long as the link: the hub's half ends with the last [`Say`].
pub(crate) async fn attach(link: &HubLink) -> Result<(Say, Streaming<AgentEvent>), Status> {
    let (say, mut said) = mpsc::channel(QUEUE);
    let say = Say(say);
    say.put(Event::Welcome(Welcome {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        codings: link.known_codings().map(str::to_owned).collect(),
    }));
    let events = stream::poll_fn(move |cx| said.poll_recv(cx));
    let mut client =
        AgentClient::with_origin(Channel(link.clone()), origin()).max_decoding_message_size(MAX_EVENT);
    let response = client.attach(events).await?;
    Ok((say, response.into_inner()))
}

impl Say {
    /// A heartbeat of the hub, which the agent is to answer.
    pub(crate) fn heartbeat(&self, sequence: u64) {
        let reply = false;
        self.put(Event::Heartbeat(Heartbeat { sequence, reply }));
    }

    /// The answer to a heartbeat of the agent.
    pub(crate) fn answer(&self, heartbeat: Heartbeat) {
        let reply = true;
        self.put(Event::Heartbeat(Heartbeat { reply, ..heartbeat }));
    }

    /// The hub is about to stop.
    pub(crate) fn drain(&self) {
        self.put(Event::Drain(Drain {}));
    }

    fn put(&self, event: Event) {
        // A full queue is that of an agent which has read nothing for a while; it can wait for nothing more urgent.
        let _ = self.0.try_send(HubEvent { event: Some(event) });
    }
}

/// The control call's authority: gRPC wants one, and no agent of ours looks at it.
pub(crate) fn origin() -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(Authority::from_static("hub.adit"));
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// A link as tonic's client wants it.
#[derive(Clone)]
struct Channel(HubLink);

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Response<Body>, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let link = self.0.clone();
        let (mut head, body) = request.into_parts();
        // Many calls that wait for the link's credit would keep heartbeats waiting as well.
        head.extensions.insert(Standing);
        let body = Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR)));
        Box::pin(async move { link.call(&head, body).await })
    }
}
