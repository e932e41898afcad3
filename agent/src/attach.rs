//! The control service that an agent serves to its hub: `adit.tunnel.v1.Agent/Attach`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use adit_proto::tunnel::v1::agent_server::Agent;
use adit_proto::tunnel::v1::{
    AgentEvent, HealthChanged, Hello, HubEvent, ServicesChanged, agent_event, hub_event,
};
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

use crate::offer::Offer;

/// What an agent tells the hub on one link.
#[derive(Debug)]
pub(crate) struct Control {
    hello: Hello,
    offer: watch::Receiver<Offer>,
    /// The hub attaches once to a link; whoever does so later is not the hub.
    attached: AtomicBool,
}

impl Control {
    /// `hello` without its services and their health, which are those that `offer` holds when the hub asks.
    pub(crate) fn new(hello: Hello, offer: watch::Receiver<Offer>) -> Self {
        Self {
            hello,
            offer,
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
        let mut offer = self.offer.clone();
        let told = offer.borrow_and_update().clone();
        let hello = Hello {
            services: Some((&told.services).into()),
            health: Some((&told.health).into()),
            ..self.hello.clone()
        };
        let talk = Talk {
            hub: request.into_inner(),
            offer,
            told,
            due: VecDeque::from([agent_event::Event::Hello(hello)]),
        };
        Ok(Response::new(Box::pin(stream::unfold(talk, Talk::next))))
    }
}

/// Both directions of the control call.
struct Talk {
    hub: Streaming<HubEvent>,
    offer: watch::Receiver<Offer>,
    /// What the hub knows, or will when all that is due was said.
    told: Offer,
    /// Said next.
    due: VecDeque<agent_event::Event>,
}

impl Talk {
    /// The next event for the hub: `None` when the hub has ended the call.
    async fn next(mut self) -> Option<(Result<AgentEvent, Status>, Self)> {
        loop {
            if let Some(due) = self.due.pop_front() {
                return Some((Ok(AgentEvent { event: Some(due) }), self));
            }
            tokio::select! {
                said = self.hub.message() => match said.ok().flatten()?.event {
                    Some(hub_event::Event::Heartbeat(mut heartbeat)) if !heartbeat.reply => {
                        heartbeat.reply = true;
                        self.due.push_back(agent_event::Event::Heartbeat(heartbeat));
                    }
                    Some(hub_event::Event::Welcome(welcome)) => {
                        info!(version = welcome.version, "the hub takes calls for this agent");
                    }
                    // An event that this agent does not know is one of a later version.
                    _ => debug!("the hub said something that means nothing here"),
                },
                Ok(()) = self.offer.changed() => {
                    let offer = self.offer.borrow_and_update().clone();
                    if offer.services != self.told.services {
                        let services = Some((&offer.services).into());
                        self.due.push_back(agent_event::Event::ServicesChanged(ServicesChanged { services }));
                    }
                    if offer.health != self.told.health {
                        let health = Some((&offer.health).into());
                        self.due.push_back(agent_event::Event::HealthChanged(HealthChanged { health }));
                    }
                    self.told = offer;
                }
            }
        }
    }
}
