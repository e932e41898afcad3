//! The story of a call at the hub: refuse, route, wait for the agent, forward, pass the response on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::failure::{ADIT_DELIVERED, ADIT_ERROR, Delivered, Failure, Reason};
use adit_transport::{Body, CallError};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::deadline::{self, Deadline};
use crate::domain::AgentDomain;
use crate::health::HubHealth;
use crate::member::Member;
use crate::pools::Pools;
use crate::principal::Principal;
use crate::registry::Registry;
use crate::replay::Replay;
use crate::response::{self, ResponseBody};
use crate::router::{self, Miss, Target};
use crate::status::{self, Ending};

/// The longest header section that a client may send (counted as RFC 9113 §6.5.2 does): a longer one fails its call.
pub const MAX_HEADER_SECTION: usize = 128 << 10;

/// Calls that wait for an agent to come back, over the whole hub: a further one fails at once.
pub const MAX_HELD_CALLS: usize = 4096;

/// How many links a call is tried on, as long as it is certain that nobody has seen it.
pub const MAX_ATTEMPTS: usize = 3;

/// After the hub's start agents are on their way back: a service that nobody serves yet may be served soon.
const STARTING: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Calls {
    registry: Arc<Registry>,
    health: HubHealth,
    routing: Routing,
    held: Semaphore,
    started: Instant,
    stopped: CancellationToken,
}

/// What the configuration says of routes.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub(crate) agent_domain: Option<AgentDomain>,
    pub(crate) pools: Pools,
    pub(crate) reconnect_grace: Duration,
}

/// The way of one call to its link.
#[derive(Debug)]
struct Search<'a> {
    target: &'a Target,
    service: &'a str,
    deadline: Option<Instant>,
    /// Links that did not see the call.
    tried: Vec<u64>,
    /// Until when the call waits for a link. It begins to run with the first miss, and never again.
    until: Option<Instant>,
}

/// Whether a call that nobody has seen may wait for a link to be tried on next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Its agent is on its way back, or another one of it is.
    Wait,
    /// Its agent is there: it answers for itself what ails it.
    None,
}

impl Calls {
    pub(crate) fn new(registry: Arc<Registry>, health: HubHealth, routing: Routing) -> Self {
        Self {
            registry,
            health,
            routing,
            held: Semaphore::new(MAX_HELD_CALLS),
            started: Instant::now(),
            stopped: CancellationToken::new(),
        }
    }

    /// How long a call waits for an agent that is not connected.
    pub(crate) fn reconnect_grace(&self) -> Duration {
        self.routing.reconnect_grace
    }

    /// Calls that wait for an agent to connect.
    pub(crate) fn waiting(&self) -> usize {
        MAX_HELD_CALLS - self.held.available_permits()
    }

    /// No call waits for an agent any more: the hub's time is over.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Ready once [`stop`](Self::stop) has been called.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Carries one call of `client`. An error resets the client's stream with its reason, as the upstream did.
    pub(crate) async fn handle<B>(
        &self,
        request: Request<B>,
        client: &Principal,
    ) -> Result<Response<ResponseBody>, h2::Error>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Unpin + Send + 'static,
    {
        let connect = request.method() == Method::CONNECT;
        let wanted = response::grpc_type(request.headers());
        match self.forward(request, wanted.is_some()).await {
            Ok(mut response) => {
                response::answer_in_kind(&mut response, wanted);
                Ok(response)
            }
            Err(Ending::Failed(failure)) => {
                debug!(%failure, %client, "a call failed");
                let mut response = response::failed(failure);
                response::answer_in_kind(&mut response, wanted);
                if connect {
                    // The 200 of gRPC's failures would say that there is a tunnel now (RFC 9110 §9.3.6).
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                Ok(response)
            }
            Err(Ending::Reset(reason)) => Err(reason.into()),
        }
    }

    async fn forward<B>(
        &self,
        request: Request<B>,
        wants_grpc: bool,
    ) -> Result<Response<ResponseBody>, Ending>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Unpin + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        refuse(&head.method, head.uri.path(), &head.headers)?;
        let domain = self.routing.agent_domain.as_ref();
        let target = Target::of(head.uri.path(), head.uri.authority(), &head.headers, domain)
            .map_err(|error| status::bad_target(&error))?;
        if target == Target::Service && head.uri.path().starts_with("/grpc.health.") {
            let request = Request::from_parts(head, body);
            return Ok(response::own(self.health.answer(request).await));
        }
        head.headers = router::without_routing(head.headers);
        self.carry(head, body, &target, wants_grpc).await
    }

    /// Makes a call of the hub's own to one agent, for a client.
    pub(crate) async fn to_agent(
        &self,
        agent: AgentId,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<ResponseBody>, Ending> {
        let (head, body) = request.into_parts();
        self.carry(head, body, &Target::Agent(agent), true).await
    }

    /// Makes a call on a link that it is for, and on another one where nobody has seen it.
    async fn carry<B>(
        &self,
        head: request::Parts,
        body: B,
        target: &Target,
        wants_grpc: bool,
    ) -> Result<Response<ResponseBody>, Ending>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    {
        let deadline = Deadline::of(&head.headers);
        let mut search = Search {
            target,
            service: router::service(head.uri.path()).unwrap_or_default(),
            deadline: deadline.map(Deadline::instant),
            tried: Vec::new(),
            until: None,
        };
        let mut member = self.find(&mut search, Patience::Wait).await?;
        let body = Replay::new(body);
        let mut timer = deadline.map(Deadline::timer);
        loop {
            let in_flight = Arc::clone(&member).begin();
            let answer = {
                let calling = pin!(member.link.call(&head, body.attempt()));
                deadline::in_time(&mut timer, calling).await
            };
            let Some(answer) = answer else {
                return Err(status::deadline_passed().into());
            };
            if let Some(patience) = unseen(&answer)
                && body.is_whole()
                && search.tried.len() + 1 < MAX_ATTEMPTS
            {
                search.tried.push(member.key);
                if let Ok(next) = self.find(&mut search, patience).await {
                    debug!(from = %member.peer.id, to = %next.peer.id, "trying a call on another link");
                    member = next;
                    continue;
                }
            }
            body.answered();
            return match answer {
                Ok(response) => Ok(response::passed_on(response, in_flight, timer, wants_grpc).await),
                Err(error) => Err(status::call_failed(in_flight.member(), &error)),
            };
        }
    }

    /// The link that the call goes to, waited for where its agent is not connected.
    async fn find(&self, search: &mut Search<'_>, patience: Patience) -> Result<Arc<Member>, Failure> {
        match self.look_up(search) {
            Ok(member) => return Ok(member),
            Err(miss) if patience == Patience::None => return Err(status::missed(&miss)),
            Err(_) => {}
        }
        let Ok(_held) = self.held.try_acquire() else {
            return Err(status::hub_is_full(MAX_HELD_CALLS));
        };
        let grace = Instant::now() + self.routing.reconnect_grace;
        let until = *search.until.get_or_insert(grace);
        let mut changes = self.registry.changes();
        loop {
            // Looked up after the subscription: no change is missed.
            let miss = match self.look_up(search) {
                Ok(member) => return Ok(member),
                Err(miss) => miss,
            };
            // Waiting brings more agents, and so no answer to which one is meant.
            if matches!(miss, Miss::Ambiguous { .. }) {
                return Err(status::missed(&miss));
            }
            let wake = search.deadline.map_or(until, |deadline| deadline.min(until));
            tokio::select! {
                changed = timeout_at(wake, changes.changed()) => if changed.is_ok() {
                    continue;
                },
                () = self.stopped.cancelled() => return Err(status::hub_stopped()),
            }
            return Err(match miss {
                _ if search.deadline.is_some_and(|deadline| deadline < until) => {
                    status::deadline_before_agent(&miss)
                }
                Miss::NoRoute(_) if self.started.elapsed() < STARTING => status::not_yet(&miss),
                _ => status::missed(&miss),
            });
        }
    }

    fn look_up(&self, search: &Search<'_>) -> Result<Arc<Member>, Miss> {
        let state = self.registry.read();
        search.target.route(
            search.service,
            state.directory(),
            &self.routing.pools,
            &search.tried,
        )
    }
}

/// Whether it is certain that no upstream has seen a call, so that it may be made again; and whether that may wait.
fn unseen(answer: &Result<Response<Body>, CallError>) -> Option<Patience> {
    match answer {
        Ok(response) => {
            // The agent's own word, for want of an upstream to hand the call to.
            let says = |name, value: &str| response.headers().get(name).is_some_and(|said| said == value);
            let refused = [Reason::UpstreamRefused, Reason::AgentBusy, Reason::Draining]
                .iter()
                .any(|reason| says(ADIT_ERROR, reason.as_str()));
            (refused && says(ADIT_DELIVERED, Delivered::No.as_str())).then_some(Patience::None)
        }
        Err(CallError::Busy | CallError::Refused) => Some(Patience::None),
        Err(CallError::Draining) => Some(Patience::Wait),
        Err(error @ CallError::LinkLost { .. }) => {
            (error.delivered() == adit_transport::Delivered::No).then_some(Patience::Wait)
        }
        Err(
            CallError::RequestTooLarge { .. }
            | CallError::ResponseTooLarge { .. }
            | CallError::Unsendable(_)
            | CallError::Reset(_)
            | CallError::Malformed(_),
        ) => None,
    }
}

/// What no client may ask for: the control of agents, a tunnel, or the hub's memory.
fn refuse(method: &Method, path: &str, metadata: &HeaderMap) -> Result<(), Failure> {
    if path.starts_with("/adit.") {
        return Err(status::reserved("a path that begins with /adit."));
    }
    if method == Method::CONNECT {
        return Err(status::reserved("the method CONNECT"));
    }
    let size = metadata
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    if size > MAX_HEADER_SECTION {
        return Err(status::metadata_too_large(size, MAX_HEADER_SECTION));
    }
    Ok(())
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[cfg(test)]
mod tests;
