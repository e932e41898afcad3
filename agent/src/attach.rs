//! The control service that an agent serves to its hub: `adit.tunnel.v1.Agent`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::agent_server::Agent;
use adit_proto::tunnel::v1::{
    AgentEvent, Bytes, Drain, HealthChanged, Heartbeat, Hello, HubEvent, ServicesChanged,
};
use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use crate::offer::Offer;
use crate::raw::{Pieces, Raw};

/// Events that may wait for the hub to read them. Past it they are not said: they are heartbeats, and no news to a hub that
/// does not read.
const UNREAD: usize = 16;

/// Heartbeats with sequence numbers beyond this ask whether the hub has heard what was said. Those up to it are the link's signs
/// of life, of which it would take centuries to send as many.
const HEARD: u64 = 1 << 32;

/// The control service of one link.
#[derive(Debug)]
pub(crate) struct Control {
    /// The hub attaches once to a link; whoever does so later is not the hub.
    attaching: Mutex<Option<Attaching>>,
    raw: Raw,
}

#[derive(Debug)]
struct Attaching {
    hello: Hello,
    offer: watch::Receiver<Offer>,
    said: mpsc::Receiver<Event>,
    hub: oneshot::Sender<Streaming<HubEvent>>,
}

/// What the hub says, once it has attached.
pub(crate) type HubEvents = oneshot::Receiver<Streaming<HubEvent>>;

/// Says to the hub what belongs to this one link.
#[derive(Debug)]
pub(crate) struct Voice {
    events: mpsc::Sender<Event>,
    /// The last heartbeat that asked whether the hub has heard what was said,
    asked: AtomicU64,
    /// and the last of these that came back.
    answered: watch::Sender<u64>,
}

/// The control service of a link, what it is told by the hub, and what tells the hub. `hello` is without services and
/// health, which are those that `offer` holds when the hub attaches.
pub(crate) fn control(hello: Hello, offer: watch::Receiver<Offer>, raw: Raw) -> (Control, HubEvents, Voice) {
    let (events, said) = mpsc::channel(UNREAD);
    let (hub, hub_events) = oneshot::channel();
    let attaching = Attaching {
        hello,
        offer,
        said,
        hub,
    };
    let control = Control {
        attaching: Mutex::new(Some(attaching)),
        raw,
    };
    let voice = Voice {
        events,
        asked: AtomicU64::new(HEARD),
        answered: watch::channel(HEARD).0,
    };
    (control, hub_events, voice)
}

#[tonic::async_trait]
impl Agent for Control {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AgentEvent, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<HubEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let attaching = self
            .attaching
            .lock()
            .ok()
            .and_then(|mut attaching| attaching.take());
        let Some(Attaching {
            hello,
            mut offer,
            said,
            hub,
        }) = attaching
        else {
            return Err(Status::already_exists(
                "this link is attached already: it takes one Attach",
            ));
        };
        let told = offer.borrow_and_update().clone();
        let hello = Hello {
            services: Some((&told.services).into()),
            health: Some((&told.health).into()),
            ..hello
        };
        // Nobody is left to listen when the link has just ended.
        let _ = hub.send(request.into_inner());
        let speech = Speech {
            said,
            offer,
            told,
            due: VecDeque::from([Event::Hello(hello)]),
        };
        Ok(Response::new(Box::pin(stream::unfold(speech, Speech::next))))
    }

    type DialStream = Pieces;

    async fn dial(&self, request: Request<Streaming<Bytes>>) -> Result<Response<Pieces>, Status> {
        self.raw.dial(request.into_inner()).await.map(Response::new)
    }
}

/// The agent's half of the control call.
struct Speech {
    said: mpsc::Receiver<Event>,
    offer: watch::Receiver<Offer>,
    /// What the hub knows, or will when all that is due was said.
    told: Offer,
    /// Said next.
    due: VecDeque<Event>,
}

impl Speech {
    /// The next event for the hub: `None` when the link has ended.
    async fn next(mut self) -> Option<(Result<AgentEvent, Status>, Self)> {
        loop {
            if let Some(due) = self.due.pop_front() {
                return Some((Ok(AgentEvent { event: Some(due) }), self));
            }
            tokio::select! {
                said = self.said.recv() => self.due.push_back(said?),
                Ok(()) = self.offer.changed() => {
                    let offer = self.offer.borrow_and_update().clone();
                    if offer.services != self.told.services {
                        let services = Some((&offer.services).into());
                        self.due.push_back(Event::ServicesChanged(ServicesChanged { services }));
                    }
                    if offer.health != self.told.health {
                        let health = Some((&offer.health).into());
                        self.due.push_back(Event::HealthChanged(HealthChanged { health }));
                    }
                    self.told = offer;
                }
            }
        }
    }
}

impl Voice {
    /// Asks the hub for a sign of life.
    pub(crate) fn probe(&self, sequence: u64) {
        let reply = false;
        self.say(Event::Heartbeat(Heartbeat { sequence, reply }));
    }

    /// Gives the hub back its own heartbeat.
    pub(crate) fn echo(&self, heartbeat: Heartbeat) {
        self.say(Event::Heartbeat(Heartbeat {
            reply: true,
            ..heartbeat
        }));
    }

    /// The hub gave the heartbeat `sequence` back.
    pub(crate) fn answered(&self, sequence: u64) {
        self.answered.send_if_modified(|last| {
            // What was never asked is no answer.
            let news = (*last + 1..=self.asked.load(Ordering::Relaxed)).contains(&sequence);
            if news {
                *last = sequence;
            }
            news
        });
    }

    /// Tells the hub to send no new calls on this link.
    pub(crate) fn drain(&self) {
        self.say(Event::Drain(Drain {}));
    }

    /// Waits until the hub has acted on all that was said, which it never does when it has not attached.
    pub(crate) async fn heard(&self) {
        let sequence = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        self.probe(sequence);
        // The sender lives as long as this.
        let _ = self.answered.subscribe().wait_for(|&last| last >= sequence).await;
    }

    fn say(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            debug!("the hub does not read what the agent says");
        }
    }
}
