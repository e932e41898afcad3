//! The story of a call at the hub: refuse, route, wait for the agent, forward, pass the response on.

use std::sync::Arc;
use std::time::Duration;

use adit_proto::failure::Failure;
use adit_transport::{Body, BodyError, Code};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::deadline::{self, Deadline};
use crate::registry::{Member, Registry};
use crate::response::{self, ResponseBody};
use crate::router::{self, Miss, Target};
use crate::status::{self, Ending};

/// The longest header section that a client may send (counted as RFC 9113 §6.5.2 does): a longer one fails its call.
pub const MAX_HEADER_SECTION: usize = 128 << 10;

/// Calls that wait for an agent to come back, over the whole hub: a further one fails at once.
pub const MAX_HELD_CALLS: usize = 4096;

/// After the hub's start agents are on their way back: a service that nobody serves yet may be served soon.
const STARTING: Duration = Duration::from_secs(30);

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Calls {
    registry: Arc<Registry>,
    reconnect_grace: Duration,
    held: Semaphore,
    started: Instant,
}

impl Calls {
    pub(crate) fn new(registry: Arc<Registry>, reconnect_grace: Duration) -> Self {
        Self {
            registry,
            reconnect_grace,
            held: Semaphore::new(MAX_HELD_CALLS),
            started: Instant::now(),
        }
    }

    /// Carries one call. An error resets the client's stream with its reason, as the upstream did.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, h2::Error> {
        let connect = request.method() == Method::CONNECT;
        match self.forward(request).await {
            Ok(response) => Ok(response),
            Err(Ending::Failed(failure)) => {
                debug!(%failure, "a call failed");
                let mut response = response::failed(failure);
                if connect {
                    // The 200 of gRPC's failures would say that there is a tunnel now (RFC 9110 §9.3.6).
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                Ok(response)
            }
            Err(Ending::Reset(reason)) => Err(reason.into()),
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<ResponseBody>, Ending> {
        let (mut head, body) = request.into_parts();
        refuse(&head.method, head.uri.path(), &head.headers)?;
        let deadline = Deadline::of(&head.headers);
        let target = Target::of(head.uri.path(), &head.headers);
        let target = target.map_err(|error| status::bad_target(&error))?;
        let member = self.member(&target, deadline).await?;

        let wants_grpc = response::is_grpc(&head.headers);
        head.headers = router::without_routing(head.headers);
        // However the client gives a call up, and hyper doesn't say, the agent is told that it is cancelled.
        let body = Body::new(body.map_err(|_| BodyError::Reset(Code::REQUEST_CANCELLED)));

        let in_flight = Arc::clone(&member).begin();
        let mut timer = deadline.map(Deadline::timer);
        match deadline::in_time(&mut timer, member.link.call(&head, body)).await {
            Some(Ok(response)) => Ok(response::passed_on(response, in_flight, timer, wants_grpc).await),
            Some(Err(error)) => Err(status::call_failed(&member.id, &error)),
            None => Err(status::deadline_passed().into()),
        }
    }

    /// The link that the call goes to, waited for where its agent is not connected.
    async fn member(&self, target: &Target, deadline: Option<Deadline>) -> Result<Arc<Member>, Failure> {
        if let Ok(member) = self.look_up(target) {
            return Ok(member);
        }
        let Ok(_held) = self.held.try_acquire() else {
            return Err(status::hub_is_full(MAX_HELD_CALLS));
        };
        let until = Instant::now() + self.reconnect_grace;
        let deadline = deadline.map(Deadline::instant);
        let mut changes = self.registry.changes();
        loop {
            // Looked up after the subscription: no change is missed.
            let miss = match self.look_up(target) {
                Ok(member) => return Ok(member),
                Err(miss) => miss,
            };
            // Waiting brings more agents, and so no answer to which one is meant.
            let hopeless = matches!(miss, Miss::Ambiguous { .. });
            let wake = deadline.map_or(until, |deadline| deadline.min(until));
            if !hopeless && timeout_at(wake, changes.changed()).await.is_ok() {
                continue;
            }
            return Err(match miss {
                Miss::Offline(id) if deadline.is_some_and(|deadline| deadline < until) => {
                    status::deadline_before_agent(&id)
                }
                Miss::NoRoute(_) if self.started.elapsed() < STARTING => status::not_yet(&miss),
                _ => status::missed(&miss),
            });
        }
    }

    fn look_up(&self, target: &Target) -> Result<Arc<Member>, Miss> {
        let state = self.registry.read();
        let id = target.resolve(state.directory())?;
        state.pick(id).ok_or_else(|| Miss::Offline(id.clone()))
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
