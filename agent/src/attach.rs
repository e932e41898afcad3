//! The control service that an agent serves to its hub: `adit.tunnel.v1.Agent/Attach`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use adit_proto::tunnel::v1::agent_server::Agent;
use adit_proto::tunnel::v1::{
    AgentEvent, Hello, HubEvent, Services as Advertised, ServicesChanged, agent_event, hub_event,
};
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

use crate::discover::Services;

/// What an agent tells the hub on one link.
#[derive(Debug)]
pub(crate) struct Control {
    hello: Hello,
    services: watch::Receiver<Services>,
    /// The hub attaches once to a link; whoever does so later is not the hub.
    attached: AtomicBool,
}

impl Control {
    /// `hello` without its services, which are those that `services` holds when the hub asks.
    pub(crate) fn new(hello: Hello, services: watch::Receiver<Services>) -> Self {
        Self {
            hello,
            services,
            attached: AtomicBool::new(false),
        }
    }
}

#[tonic::async_trait]
impl Agent for Control {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AgentEvent, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<HubEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if self.attached.swap(true, Ordering::Relaxed) {
            return Err(Status::already_exists(
                "this link is attached already: it takes one Attach",
            ));
        }
        let mut services = self.services.clone();
        let hello = Hello {
            services: Some(advertised(&services.borrow_and_update())),
            ..self.hello.clone()
        };
        let talk = Talk {
            hub: request.into_inner(),
            services,
            hello: Some(hello),
        };
        Ok(Response::new(Box::pin(stream::unfold(talk, Talk::next))))
    }
}

/// Both directions of the control call.
struct Talk {
    hub: Streaming<HubEvent>,
    services: watch::Receiver<Services>,
    /// Said first.
    hello: Option<Hello>,
}

impl Talk {
    /// The next event for the hub: `None` when the hub has ended the call.
    async fn next(mut self) -> Option<(Result<AgentEvent, Status>, Self)> {
        if let Some(hello) = self.hello.take() {
            return Some((Ok(event(agent_event::Event::Hello(hello))), self));
        }
        loop {
            tokio::select! {
                said = self.hub.message() => match said.ok().flatten()?.event {
                    Some(hub_event::Event::Heartbeat(mut heartbeat)) if !heartbeat.reply => {
                        heartbeat.reply = true;
                        return Some((Ok(event(agent_event::Event::Heartbeat(heartbeat))), self));
                    }
                    Some(hub_event::Event::Welcome(welcome)) => {
                        info!(version = welcome.version, "the hub takes calls for this agent");
                    }
                    // An event that this agent does not know is one of a later version.
                    _ => debug!("the hub said something that means nothing here"),
                },
                Ok(()) = self.services.changed() => {
                    let services = advertised(&self.services.borrow_and_update());
                    let changed = ServicesChanged { services: Some(services) };
                    return Some((Ok(event(agent_event::Event::ServicesChanged(changed))), self));
                }
            }
        }
    }
}

fn event(event: agent_event::Event) -> AgentEvent {
    AgentEvent { event: Some(event) }
}

fn advertised(services: &Services) -> Advertised {
    match services {
        Services::Known(names) => Advertised {
            known: true,
            names: names.clone(),
        },
        Services::Unknown(_) => Advertised::default(),
    }
}
