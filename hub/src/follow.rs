//! The life of a registered link: it is heard, probed, drained, and in the end lost.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::{Duration, Instant};

use adit_proto::tunnel::v1::AgentEvent;
use adit_proto::tunnel::v1::agent_event::Event;
use adit_transport::Code;
use adit_transport::liveness::{Liveness, Sample};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info};

use crate::attach::Talk;
use crate::member::{Closing, Member};
use crate::offer::BadOffer;
use crate::registry::Registered;

/// How often an agent is asked whether it lives, while it has no calls.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often it is looked whether a bare agent that takes no new calls has any left.
const DRAINED_LOOK: Duration = Duration::from_millis(50);

/// Events that an agent may send in each [`EVENTS_PER`]: more would have the hub index its services and nothing else.
pub const MAX_EVENTS: usize = 200;

/// See [`MAX_EVENTS`].
pub const EVENTS_PER: Duration = Duration::from_secs(10);

/// The heartbeat that is sent because somebody wants to know at once. It is no part of the regular ones.
const ASKED: u64 = 0;

/// What an agent does that ends its link.
#[derive(Debug, thiserror::Error)]
enum Breach {
    #[error("the agent said hello twice")]
    SecondHello,
    #[error(transparent)]
    Offer(#[from] BadOffer),
    #[error("the agent sent more than {MAX_EVENTS} events within {} s", EVENTS_PER.as_secs())]
    TooManyEvents,
    #[error("the agent ended its control call: {0}")]
    Control(Status),
}

/// Follows a registered link to its end.
pub(crate) async fn follow(registered: Registered, talk: Option<Talk>, draining: &CancellationToken) {
    let member = registered.member().as_ref();
    let (agent, peer) = (&member.peer.id, member.link.remote_address());
    info!(
        %agent, %peer, carrier = %member.link.carrier(), why = some(&member.peer.carrier_reason), link = member.key, version = member.peer.version, labels = %member.peer.labels,
        services = member.offer().services.as_ref().map(BTreeSet::len), rtt = ?member.link.round_trip(),
        "an agent is connected"
    );
    let link = &member.link;
    member.observe(link.round_trip(), link.shortest_round_trip(), false);
    let breach = tokio::select! {
        // The control call ends with its link, and knows less of the reason.
        biased;
        reason = member.link.closed() => {
            // What this end says of its own closing is nearer to the cause.
            Err(member.closing().map_or_else(|| reason.to_string(), Closing::to_string))
        }
        breach = live(&registered, talk, draining) => Ok(breach),
    };
    let reason = match breach {
        Ok(breach) => {
            member.link.close(Code::REQUEST_REJECTED, &breach.to_string());
            breach.to_string()
        }
        Err(reason) => reason,
    };
    let in_flight = member.in_flight();
    info!(%agent, %peer, link = member.key, reason, in_flight, "an agent's link ended");
}

async fn live(registered: &Registered, talk: Option<Talk>, draining: &CancellationToken) -> Breach {
    let member = registered.member().as_ref();
    let drained = async {
        member.link.draining().await;
        if !member.is_retired() {
            info!(agent = %member.peer.id, link = member.key, "an agent takes no new calls on its link");
        }
        registered.retire();
        pending().await
    };
    let talked = async {
        match talk {
            Some(talk) => converse(registered, talk, draining).await,
            // What a bare agent can't be asked, the idle timeout answers.
            None => let_go_once_drained(member).await,
        }
    };
    tokio::select! {
        breach = talked => breach,
        breach = drained => breach,
    }
}

/// Closes the link of a bare agent that takes no new calls, after its last one.
///
/// HTTP/3 libraries end a server like that: it says GOAWAY (RFC 9114 §5.2) and leaves it to the client to close the
/// connection, because that one knows when it has received everything. An agent that talks to the hub closes by itself.
async fn let_go_once_drained(member: &Member) -> Breach {
    member.link.draining().await;
    while member.in_flight() > 0 {
        tokio::time::sleep(DRAINED_LOOK).await;
    }
    member.close(Closing::Drained);
    pending().await
}

/// Hears what the agent has to say, asks it whether it lives, and tells it when the hub is about to stop.
async fn converse(registered: &Registered, talk: Talk, draining: &CancellationToken) -> Breach {
    let Talk { say, mut events } = talk;
    let member = registered.member().as_ref();
    let mut liveness = Liveness::new(HEARTBEAT, rand::random(), Instant::now());
    let mut pace = Pace::new();
    let mut told = false;
    let mut address = member.link.remote_address();
    loop {
        let verdict = liveness.check(Instant::now(), &look_at(member));
        let link = &member.link;
        let before = std::mem::replace(&mut address, link.remote_address());
        if address != before {
            let (agent, link) = (&member.peer.id, member.key);
            info!(%agent, link, %before, %address, "an agent's address has changed, and its link goes on");
        }
        member.observe(link.round_trip(), link.shortest_round_trip(), verdict.suspect);
        if let Some(dead) = verdict.dead {
            // The link's end is seen by whoever follows it.
            member.close(Closing::Dead(dead.to_string()));
            return pending().await;
        }
        if let Some(sequence) = verdict.heartbeat {
            say.heartbeat(sequence);
        }
        tokio::select! {
            event = events.message() => match event {
                Ok(Some(_)) if !pace.allows() => return Breach::TooManyEvents,
                Ok(Some(AgentEvent { event: Some(Event::Heartbeat(heartbeat)) })) => {
                    if heartbeat.reply {
                        liveness.answered(Instant::now(), heartbeat.sequence);
                        member.answered();
                    } else {
                        liveness.heard(Instant::now());
                        say.answer(heartbeat);
                    }
                }
                Ok(Some(event)) => if let Err(breach) = hear(registered, event) {
                    return breach;
                },
                Ok(None) => return Breach::Control(Status::ok("ended")),
                Err(status) => return Breach::Control(status),
            },
            () = tokio::time::sleep_until(verdict.check_at.into()) => {}
            () = member.woken() => {}
            () = member.asked() => say.heartbeat(ASKED),
            () = draining.cancelled(), if !told => {
                told = true;
                say.drain();
            }
        }
    }
}

fn look_at(member: &Member) -> Sample {
    let calls = member.in_flight();
    member.set_watched(calls > 0);
    Sample {
        activity: member.link.activity(),
        round_trip: member.link.round_trip(),
        calls,
        receiving: 0,
    }
}

/// Acts on one event.
fn hear(registered: &Registered, event: AgentEvent) -> Result<(), Breach> {
    let member = registered.member();
    let (agent, link) = (&member.peer.id, member.key);
    match event.event {
        Some(Event::Hello(_)) => return Err(Breach::SecondHello),
        Some(Event::ServicesChanged(changed)) => {
            let mut offer = member.offer().as_ref().clone();
            offer.set_services(changed.services)?;
            info!(%agent, link, services = offer.services.as_ref().map(BTreeSet::len), "services changed");
            registered.set_offer(offer);
        }
        Some(Event::HealthChanged(changed)) => {
            let mut offer = member.offer().as_ref().clone();
            offer.set_health(changed.health)?;
            info!(%agent, link, down = offer.down, not_serving = ?offer.not_serving, "health changed");
            registered.set_offer(offer);
        }
        Some(Event::Drain(_)) => {
            info!(%agent, link, "an agent takes no new calls on its link");
            registered.retire();
        }
        // An event that this hub does not know is one of a later version.
        Some(Event::Heartbeat(_)) | None => debug!(%agent, "an agent said something that means nothing here"),
    }
    Ok(())
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Counts events, and starts over every [`EVENTS_PER`].
struct Pace {
    since: Instant,
    count: usize,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    fn allows(&mut self) -> bool {
        if self.since.elapsed() >= EVENTS_PER {
            *self = Self::new();
        }
        self.count += 1;
        self.count <= MAX_EVENTS
    }
}
