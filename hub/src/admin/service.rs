//! `adit.hub.v1.Hub`: what an operator may ask, and what is done about it.

use std::net::SocketAddr;
use std::sync::Arc;

use adit_certs::AgentId;
use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::hub::v1::{
    DrainRequest, DrainResponse, GetStatusRequest, KickRequest, KickResponse, ListLinksRequest,
    ListLinksResponse, ResumeRequest, ResumeResponse, Status as HubStatus, WatchLinksRequest,
    WatchLinksResponse, hub_server,
};
use futures_util::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::member::Closing;

use super::Hub;
use super::links::{Pages, count, look};
use super::watch::{self, Wanted, watch};

/// Callers of `WatchLinks` at once: each has the links looked at up to ten times a second.
pub const MAX_WATCHES: usize = 64;

/// The longest reason that an operator may give for a kick, in bytes: it has to fit a packet.
pub const MAX_REASON: usize = 256;

/// What an agent is told whose operator gives no reason.
const NO_REASON: &str = "no reason given";

/// Who asks, by the address of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator(pub(super) SocketAddr);

pub(super) struct Service {
    hub: Arc<Hub>,
    watches: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
        }
    }
}

#[tonic::async_trait]
impl hub_server::Hub for Service {
    type ListLinksStream = BoxStream<'static, Result<ListLinksResponse, Status>>;
    type WatchLinksStream = BoxStream<'static, Result<WatchLinksResponse, Status>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<HubStatus>, Status> {
        Ok(Response::new(self.hub.status()))
    }

    async fn list_links(
        &self,
        request: Request<ListLinksRequest>,
    ) -> Result<Response<Self::ListLinksStream>, Status> {
        let ListLinksRequest { agent, names } = request.into_inner();
        let links = look(&self.hub.registry, one_or_all(&agent)?.as_ref());
        let pages = Pages::new(links, names);
        Ok(Response::new(Box::pin(stream::iter(
            pages.map(|links| Ok(ListLinksResponse { links })),
        ))))
    }

    async fn watch_links(
        &self,
        request: Request<WatchLinksRequest>,
    ) -> Result<Response<Self::WatchLinksStream>, Status> {
        let WatchLinksRequest {
            agent,
            interval,
            names,
        } = request.into_inner();
        let interval = match interval {
            None => watch::INTERVAL,
            Some(interval) => interval.try_into().map_err(|_| {
                Status::invalid_argument(format!("interval {interval} is negative: how often to look"))
            })?,
        };
        let wanted = Wanted {
            agent: one_or_all(&agent)?,
            names,
            interval,
        };
        let Ok(room) = Arc::clone(&self.watches).try_acquire_owned() else {
            return Err(Status::resource_exhausted(format!(
                "{MAX_WATCHES} callers watch already, and more are not allowed: end one of them, or list instead"
            )));
        };
        let (registry, stopped) = (Arc::clone(&self.hub.registry), self.hub.stopped.clone());
        Ok(Response::new(Box::pin(watch(registry, wanted, stopped, room))))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let operator = operator(&request);
        let DrainRequest { agent, instance } = request.into_inner();
        let (id, instance) = (id(&agent)?, one_instance(&instance));
        let drained = self.hub.registry.pause(&id, instance);
        let links = drained.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        if links == 0 {
            return Err(absent(&id, instance));
        }
        info!(agent = %id, instance, links, operator, "an operator drains an agent");
        Ok(Response::new(DrainResponse { links: count(links) }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let operator = operator(&request);
        let ResumeRequest { agent, instance } = request.into_inner();
        let (id, instance) = (id(&agent)?, one_instance(&instance));
        let Some(links) = self.hub.registry.resume(&id, instance) else {
            // Not drained, and so as it is wanted to be, if it is there at all.
            return match self.hub.connected(&id, instance) {
                true => Ok(Response::new(ResumeResponse { links: 0 })),
                false => Err(absent(&id, instance)),
            };
        };
        info!(agent = %id, instance, links, operator, "an operator resumes an agent");
        Ok(Response::new(ResumeResponse { links: count(links) }))
    }

    async fn kick(&self, request: Request<KickRequest>) -> Result<Response<KickResponse>, Status> {
        let operator = operator(&request);
        let KickRequest { whom, reason } = request.into_inner();
        if reason.len() > MAX_REASON {
            return Err(Status::invalid_argument(format!(
                "reason has {} bytes, and {MAX_REASON} are the limit",
                reason.len()
            )));
        }
        if reason.contains(char::is_control) {
            return Err(Status::invalid_argument(format!(
                "reason {reason:?} has a control character: it is for logs, and has to be one line of text"
            )));
        }
        let reason = if reason.is_empty() { NO_REASON } else { &reason };
        let (links, nobody) = match whom {
            None => {
                return Err(Status::invalid_argument(
                    "nobody to kick: name an agent, or a link by its id",
                ));
            }
            Some(Whom::Agent(agent)) => {
                let id = id(&agent)?;
                (self.hub.registry.links(Some(&id)), absent(&id, None))
            }
            Some(Whom::Link(key)) => {
                let mut links = self.hub.registry.links(None);
                links.retain(|member| member.key == key);
                (
                    links,
                    Status::not_found(format!("there is no link {key}; it may have ended")),
                )
            }
        };
        if links.is_empty() {
            return Err(nobody);
        }
        for member in &links {
            info!(agent = %member.peer.id, link = member.key, reason, operator, "an operator kicks an agent");
            member.close(Closing::Kicked(reason.to_owned()));
        }
        Ok(Response::new(KickResponse {
            links: count(links.len()),
        }))
    }
}

fn id(agent: &str) -> Result<AgentId, Status> {
    let id = agent.parse();
    id.map_err(|error| Status::invalid_argument(format!("agent: {error}")))
}

fn one_or_all(agent: &str) -> Result<Option<AgentId>, Status> {
    match agent {
        "" => Ok(None),
        agent => id(agent).map(Some),
    }
}

fn one_instance(instance: &str) -> Option<&str> {
    Some(instance).filter(|instance| !instance.is_empty())
}

fn absent(id: &AgentId, instance: Option<&str>) -> Status {
    Status::not_found(match instance {
        None => format!("agent {id} is not connected"),
        Some(instance) => format!("agent {id} has no instance {instance:?} that is connected"),
    })
}

fn operator<T>(request: &Request<T>) -> Option<String> {
    let operator = request.extensions().get::<Operator>();
    operator.map(|Operator(address)| address.to_string())
}
