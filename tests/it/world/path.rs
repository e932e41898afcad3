//! A UDP path between agents and a hub on which datagrams can be held up, each direction for itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;
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

/// A path; it ends when it is dropped. Each agent's socket has a flow of its own on it.
pub(crate) struct Path {
    pub(crate) address: SocketAddr,
    towards_hub: Gate,
    towards_agent: Gate,
    _task: AbortOnDropHandle<()>,
}

/// Lets datagrams through, or holds them.
type Gate = Arc<watch::Sender<Held>>;

#[derive(Default)]
struct Held {
    holds: bool,
    datagrams: Vec<Datagram>,
}

struct Datagram {
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Box<[u8]>,
}

impl Path {
    /// Where agents find the hub that listens at `hub`.
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
        let address = near.local_addr().unwrap();
        let (towards_hub, towards_agent) = (Gate::default(), Gate::default());
        let task = carry(near, hub, Arc::clone(&towards_hub), Arc::clone(&towards_agent));
        Self {
            address,
            towards_hub,
            towards_agent,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    fn gate(&self, towards: Towards) -> &Gate {
        match towards {
            Towards::Hub => &self.towards_hub,
            Towards::Agent => &self.towards_agent,
        }
    }

    /// Nothing arrives any more.
    pub(crate) fn hold(&self, towards: Towards) {
        self.gate(towards).send_modify(|held| held.holds = true);
    }

    /// How many datagrams are held.
    pub(crate) fn held(&self, towards: Towards) -> usize {
        self.gate(towards).borrow().datagrams.len()
    }

    /// Waits until so many datagrams are held, of so many bytes together.
    pub(crate) async fn holds(&self, towards: Towards, datagrams: usize, bytes: usize) {
        let mut held = self.gate(towards).subscribe();
        let enough = held.wait_for(|held| {
            let size: usize = held.datagrams.iter().map(|datagram| datagram.bytes.len()).sum();
            held.datagrams.len() >= datagrams && size >= bytes
        });
        soon(enough).await.unwrap();
    }

    /// What was held arrives now, in its order, and what comes after it.
    pub(crate) async fn release(&self, towards: Towards) {
        let datagrams = self.open(towards);
        deliver(datagrams).await;
    }

    /// The same, but for the order, which is turned round: a network may do so.
    pub(crate) async fn release_last_first(&self, towards: Towards) {
        let datagrams = self.open(towards);
        deliver(datagrams.into_iter().rev()).await;
    }

    fn open(&self, towards: Towards) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        self.gate(towards).send_modify(|held| {
            held.holds = false;
            datagrams = std::mem::take(&mut held.datagrams);
        });
        datagrams
    }
}

async fn carry(near: Arc<UdpSocket>, hub: SocketAddr, towards_hub: Gate, towards_agent: Gate) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut packet = vec![0; DATAGRAM];
    loop {
        let (length, agent) = near.recv_from(&mut packet).await.unwrap();
        let far = match flows.get(&agent) {
            Some(far) => Arc::clone(far),
            None => {
                let far = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
                back.spawn(pass(
                    Arc::clone(&far),
                    Arc::clone(&near),
                    agent,
                    Arc::clone(&towards_agent),
                ));
                flows.insert(agent, Arc::clone(&far));
                far
            }
        };
        let bytes = packet[..length].into();
        put(
            &towards_hub,
            Datagram {
                from: far,
                to: hub,
                bytes,
            },
        )
        .await;
    }
}

/// Passes on what comes back to one agent.
async fn pass(far: Arc<UdpSocket>, near: Arc<UdpSocket>, agent: SocketAddr, gate: Gate) {
    let mut packet = vec![0; DATAGRAM];
    loop {
        let (length, _) = far.recv_from(&mut packet).await.unwrap();
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
    gate.send_if_modified(|held| {
        if held.holds {
            held.datagrams.extend(passes.take());
        }
        held.holds
    });
    deliver(passes).await;
}

/// A datagram that cannot be delivered is lost.
async fn deliver(datagrams: impl IntoIterator<Item = Datagram>) {
    for Datagram { from, to, bytes } in datagrams {
        let _ = from.send_to(&bytes, to).await;
    }
}
