//! A hub that does only what the test has it do, and an agent in front of a service that the test answers for.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_certs::{
    AgentId, Authority, CredentialFiles, Credentials, Directory, Existing, Host, Role, Subject, Validity,
};
use adit_proto::tunnel::v1::agent_client::AgentClient;
use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::{AgentEvent, Drain, Heartbeat, Hello, HubEvent, Welcome, hub_event};
use adit_transport::{
    BindError, Body, BodyError, CallError, Code, HubLink, LinkError, Listener, Reset, Tuning,
};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tower_service::Service;

use crate::agent::Agent;
use crate::builder::Builder;

/// Far more than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// A CA with certificates for a hub and for the agent `site-a`.
pub(super) struct World(TempDir);

/// The hub's port.
pub(super) struct Hub(Listener);

/// The hub's end of a link whose agent has said hello.
pub(super) struct Attached {
    pub(super) link: HubLink,
    pub(super) hello: Hello,
    say: mpsc::Sender<HubEvent>,
    events: Streaming<AgentEvent>,
}

/// An agent that runs until it is told otherwise, or dropped.
pub(super) struct Running {
    pub(super) drain: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) task: AbortOnDropHandle<()>,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let validity = Validity::days(NonZeroU16::MIN);
        let authority = Authority::create(&"adit".parse().unwrap(), validity).unwrap();
        let directory = Directory::new(folder.path());
        directory.write_authority(&authority, Existing::Replace).unwrap();
        let sans = vec![Host::Ip(ANY_PORT.ip())];
        for subject in [Subject::Hub { sans }, Subject::Agent("site-a".parse().unwrap())] {
            let issued = authority.issue(&subject, validity).unwrap();
            directory.write(&subject, &issued, Existing::Replace).unwrap();
        }
        Self(folder)
    }

    pub(super) fn hub(&self) -> Hub {
        self.hub_at(ANY_PORT).unwrap()
    }

    /// A hub at the address of one that has just stopped, whose socket may go a moment later.
    pub(super) async fn hub_again(&self, address: SocketAddr) -> Hub {
        let again = async {
            loop {
                match self.hub_at(address) {
                    Ok(hub) => return hub,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        soon(again).await
    }

    fn hub_at(&self, address: SocketAddr) -> Result<Hub, BindError> {
        let credentials = Credentials::load(&CredentialFiles::hub(self.0.path()), Role::Hub).unwrap();
        let tls = credentials.server_config().unwrap();
        let secret = credentials.private_key_der();
        Listener::bind(address, tls, secret, Tuning::default()).map(Hub)
    }

    /// What the agent `site-a` shows.
    pub(super) fn credentials(&self) -> (AgentId, Credentials) {
        let id = "site-a".parse().unwrap();
        let files = CredentialFiles::agent(self.0.path(), &id);
        (id, Credentials::load(&files, Role::Agent).unwrap())
    }

    /// An agent of the hubs at these addresses.
    pub(super) fn agent<S>(&self, hubs: &[SocketAddr], service: S) -> Builder
    where
        S: Fn(String) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + 'static,
    {
        let (id, credentials) = self.credentials();
        let mut agent = Agent::builder(id, credentials)
            .serve(Answers(service))
            .advertise("a.B");
        for hub in hubs {
            agent = agent.hub(hub.to_string().parse().unwrap());
        }
        agent
    }
}

impl Running {
    pub(super) fn start(agent: Builder) -> Self {
        let agent = agent.build().unwrap();
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let run = agent.run(drain.clone().cancelled_owned(), stop.clone().cancelled_owned());
        Self {
            drain,
            stop,
            task: AbortOnDropHandle::new(tokio::spawn(run)),
        }
    }
}

impl Hub {
    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next link, to which nothing has been said.
    pub(super) async fn accept(&self) -> HubLink {
        let handshake = soon(self.0.accept()).await.unwrap();
        soon(handshake.establish()).await.unwrap()
    }

    /// The next link, attached.
    pub(super) async fn attach(&self) -> Attached {
        Attached::to(self.accept().await).await
    }

    /// Takes no new links.
    pub(super) fn refuse_new(&self) {
        self.0.refuse_new();
    }

    /// Ends, and its port is free then.
    pub(super) async fn stop(self) {
        self.0.close("the hub stopped");
        soon(self.0.closed()).await;
    }
}

impl Attached {
    pub(super) async fn to(link: HubLink) -> Self {
        let (say, said) = mpsc::channel(16);
        let origin = Uri::from_static("https://hub.adit");
        let mut client = AgentClient::with_origin(Channel(link.clone()), origin);
        let said = stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
        let welcome = hub_event::Event::Welcome(Welcome::default());
        let welcome = HubEvent { event: Some(welcome) };
        let attach = client.attach(stream::iter([welcome]).chain(said));
        let mut events = soon(attach).await.unwrap().into_inner();
        let first = soon(events.message()).await.unwrap().unwrap();
        let Some(Event::Hello(hello)) = first.event else {
            panic!("{first:?}");
        };
        Self {
            link,
            hello,
            say,
            events,
        }
    }

    pub(super) async fn say(&self, event: hub_event::Event) {
        self.say.send(HubEvent { event: Some(event) }).await.unwrap();
    }

    pub(super) async fn drain(&self) {
        self.say(hub_event::Event::Drain(Drain {})).await;
    }

    /// What the agent says next.
    pub(super) async fn hear(&mut self) -> Event {
        let event = soon(self.events.message()).await.unwrap().unwrap();
        event.event.unwrap()
    }

    /// Answers the agent's heartbeats until it says something else: `None` when the link has ended.
    pub(super) async fn listen(&mut self) -> Option<Event> {
        loop {
            match self.events.message().await.ok()?.and_then(|event| event.event)? {
                Event::Heartbeat(heartbeat) if !heartbeat.reply => {
                    let reply = Heartbeat {
                        reply: true,
                        ..heartbeat
                    };
                    self.say(hub_event::Event::Heartbeat(reply)).await;
                }
                event => return Some(event),
            }
        }
    }

    /// Answers the agent's heartbeats until the link ends.
    pub(super) async fn ended(&mut self) -> LinkError {
        let link = self.link.clone();
        let listening = async {
            while self.listen().await.is_some() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reason = soon(link.closed()) => reason,
            () = listening => unreachable!("it is pending"),
        }
    }

    /// Answers the agent's heartbeats while `work` is done.
    pub(super) async fn during<F: Future>(&mut self, work: F) -> F::Output {
        let listening = async {
            while self.listen().await.is_some() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = work => done,
            () = listening => unreachable!("it is pending"),
        }
    }
}

/// Makes a call of a method of the agent's service, and reads all of the answer.
pub(super) async fn call(link: &HubLink, method: &str) -> Result<(), Failed> {
    let request = Request::post(format!("https://hub.adit/a.B/{method}"))
        .body(())
        .unwrap();
    let (head, ()) = request.into_parts();
    let mut body = link
        .call(&head, Body::empty())
        .await
        .map_err(Failed::Call)?
        .into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(Failed::Body)?;
    }
    Ok(())
}

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failed {
    Call(CallError),
    #[expect(dead_code, reason = "shown when a test fails")]
    Body(BodyError),
}

/// Answers every call at once.
pub(super) fn at_once(_: String) -> BoxFuture<'static, Response<Body>> {
    Box::pin(std::future::ready(Response::new(Body::empty())))
}

/// Has the function answer for each path.
#[derive(Clone)]
struct Answers<S>(S);

impl<S> Service<Request<Body>> for Answers<S>
where
    S: Fn(String) -> BoxFuture<'static, Response<Body>>,
{
    type Response = Response<Body>;
    type Error = Reset;
    type Future = BoxFuture<'static, Result<Response<Body>, Reset>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = (self.0)(request.uri().path().to_owned());
        Box::pin(async move { Ok(answer.await) })
    }
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
        let (head, body) = request.into_parts();
        let body = Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR)));
        Box::pin(async move { link.call(&head, body).await })
    }
}
