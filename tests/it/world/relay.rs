//! A network between agents and a hub: a UDP port that passes datagrams on, and can hold or lose them, each direction for
//! itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{ANY_PORT, soon};

/// The largest datagram.
const DATAGRAM: usize = 64 << 10;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Towards {
    Hub,
    Agent,
}

/// What a relay loses from now on, for links that are there and for those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Nothing,
    Everything,
    /// The agent hears nothing, and is heard.
    TowardsAgent,
    /// The hub hears nothing, and is heard.
    TowardsHub,
}

/// A relay. Nobody learns of what it loses: there is no answer at all. Dropping it loses everything.
pub(crate) struct Relay {
    /// Where agents dial. The hub sees each of their sockets at an address of its own.
    pub(crate) address: SocketAddr,
    towards_hub: Gate,
    towards_agent: Gate,
    forgets: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// Passes datagrams on, or doesn't.
type Gate = Arc<watch::Sender<State>>;

#[derive(Default)]
enum State {
    #[default]
    Passes,
    Loses,
    Holds(Vec<Datagram>),
}

struct Datagram {
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Box<[u8]>,
}

impl Relay {
    /// Opens a way to the agents' port of a hub.
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        Self::on(ANY_PORT, hub).await
    }

    /// The same at this address.
    pub(crate) async fn on(address: SocketAddr, hub: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind(address).await.unwrap());
        let address = near.local_addr().unwrap();
        let (towards_hub, towards_agent) = (Gate::default(), Gate::default());
        let forgets = Arc::new(Notify::new());
        let gates = (Arc::clone(&towards_hub), Arc::clone(&towards_agent));
        let task = carry(near, hub, gates.0, gates.1, Arc::clone(&forgets));
        Self {
            address,
            towards_hub,
            towards_agent,
            forgets,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    fn gate(&self, towards: Towards) -> &Gate {
        match towards {
            Towards::Hub => &self.towards_hub,
            Towards::Agent => &self.towards_agent,
        }
    }

    /// Says what is lost from now on.
    pub(crate) fn loses(&self, lost: Lost) {
        let agent = matches!(lost, Lost::Everything | Lost::TowardsAgent);
        let hub = matches!(lost, Lost::Everything | Lost::TowardsHub);
        for (gate, loses) in [(&self.towards_agent, agent), (&self.towards_hub, hub)] {
            gate.send_replace(if loses { State::Loses } else { State::Passes });
        }
    }

    /// Forgets the agents, as a NAT does: what the hub sends is lost until an agent's next datagram, which the hub then sees
    /// coming from another address.
    pub(crate) fn forgets(&self) {
        self.forgets.notify_one();
    }

    /// Nothing arrives from now on, until it is released.
    pub(crate) fn hold(&self, towards: Towards) {
        self.gate(towards).send_modify(|state| {
            if !matches!(state, State::Holds(_)) {
                *state = State::Holds(Vec::new());
            }
        });
    }

    /// How many datagrams are held.
    pub(crate) fn held(&self, towards: Towards) -> usize {
        self.gate(towards).borrow().held().len()
    }

    /// Waits until so many datagrams are held, of so many bytes together.
    pub(crate) async fn holds(&self, towards: Towards, datagrams: usize, bytes: usize) {
        let mut states = self.gate(towards).subscribe();
        let enough = states.wait_for(|state| {
            let size: usize = state.held().iter().map(|datagram| datagram.bytes.len()).sum();
            state.held().len() >= datagrams && size >= bytes
        });
        soon(enough).await.unwrap();
    }

    /// What was held arrives now, in its order, and what comes after it.
    pub(crate) async fn release(&self, towards: Towards) {
        deliver(self.open(towards)).await;
    }

    /// The same, but for the order, which is turned round: a network may do so.
    pub(crate) async fn release_last_first(&self, towards: Towards) {
        deliver(self.open(towards).into_iter().rev()).await;
    }

    fn open(&self, towards: Towards) -> Vec<Datagram> {
        match self.gate(towards).send_replace(State::Passes) {
            State::Holds(datagrams) => datagrams,
            State::Passes | State::Loses => Vec::new(),
        }
    }
}

impl State {
    fn held(&self) -> &[Datagram] {
        match self {
            Self::Holds(datagrams) => datagrams,
            Self::Passes | Self::Loses => &[],
        }
    }
}

async fn carry(
    near: Arc<UdpSocket>,
    hub: SocketAddr,
    towards_hub: Gate,
    towards_agent: Gate,
    forgets: Arc<Notify>,
) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut packet = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = near.recv_from(&mut packet) => received,
            () = forgets.notified() => {
                back.shutdown().await;
                flows.clear();
                continue;
            }
        };
        let (length, agent) = received.unwrap();
        let far = match flows.get(&agent) {
            Some(far) => Arc::clone(far),
            None => {
                let far = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
                let (from, to) = (Arc::clone(&far), Arc::clone(&near));
                back.spawn(carry_back(from, to, agent, Arc::clone(&towards_agent)));
                flows.insert(agent, Arc::clone(&far));
                far
            }
        };
        let bytes = packet[..length].into();
        let (from, to) = (far, hub);
        put(&towards_hub, Datagram { from, to, bytes }).await;
    }
}

/// Passes on what comes back to one agent.
async fn carry_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, agent: SocketAddr, gate: Gate) {
    let mut packet = vec![0; DATAGRAM];
    loop {
        // Its errors are of datagrams that the hub's port did not take while there was no hub.
        let Ok((length, _)) = far.recv_from(&mut packet).await else {
            continue;
        };
        let datagram = Datagram {
            from: Arc::clone(&near),
            to: agent,
            bytes: packet[..length].into(),
        };
        put(&gate, datagram).await;
    }
}

async fn put(gate: &Gate, datagram: Datagram) {
    let mut passes = Some(datagram);
    gate.send_if_modified(|state| match state {
        State::Passes => false,
        State::Loses => {
            passes = None;
            false
        }
        State::Holds(datagrams) => {
            datagrams.extend(passes.take());
            true
        }
    });
    deliver(passes).await;
}

/// A datagram that cannot be delivered is lost.
async fn deliver(datagrams: impl IntoIterator<Item = Datagram>) {
    for Datagram { from, to, bytes } in datagrams {
        let _ = from.send_to(&bytes, to).await;
    }
}
