//! A network on the way between agents and a hub, which can be cut: a UDP port that passes datagrams on both ways.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::ANY_PORT;

/// The largest datagram.
const DATAGRAM: usize = 64 << 10;

/// A relay. Nobody learns of what it loses: there is no answer at all. Dropping it loses everything.
pub(crate) struct Relay {
    /// Where agents dial.
    pub(crate) address: SocketAddr,
    loses: Arc<Loses>,
    _task: AbortOnDropHandle<()>,
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

#[derive(Debug, Default)]
struct Loses {
    towards_agent: AtomicBool,
    towards_hub: AtomicBool,
}

/// What one agent's socket sends and gets. The hub sees each of them at an address of its own.
struct Flow {
    far: Arc<UdpSocket>,
    _back: AbortOnDropHandle<()>,
}

impl Relay {
    /// Opens a way to the agents' port of a hub.
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
        let address = near.local_addr().unwrap();
        let loses = Arc::new(Loses::default());
        let task = tokio::spawn(carry(near, hub, Arc::clone(&loses)));
        Self {
            address,
            loses,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Says what is lost from now on.
    pub(crate) fn loses(&self, lost: Lost) {
        let agent = matches!(lost, Lost::Everything | Lost::TowardsAgent);
        let hub = matches!(lost, Lost::Everything | Lost::TowardsHub);
        self.loses.towards_agent.store(agent, Ordering::Relaxed);
        self.loses.towards_hub.store(hub, Ordering::Relaxed);
    }
}

impl Flow {
    async fn open(agent: SocketAddr, hub: SocketAddr, near: Arc<UdpSocket>, loses: Arc<Loses>) -> Self {
        let far = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
        far.connect(hub).await.unwrap();
        let back = {
            let far = Arc::clone(&far);
            async move {
                let mut datagram = vec![0; DATAGRAM];
                loop {
                    // An error is the word that nobody had the last one. It is not the agent's.
                    let Ok(length) = far.recv(&mut datagram).await else {
                        continue;
                    };
                    if !loses.towards_agent.load(Ordering::Relaxed) {
                        let _ = near.send_to(&datagram[..length], agent).await;
                    }
                }
            }
        };
        Self {
            far,
            _back: AbortOnDropHandle::new(tokio::spawn(back)),
        }
    }
}

async fn carry(near: Arc<UdpSocket>, hub: SocketAddr, loses: Arc<Loses>) {
    let mut flows = HashMap::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let (length, agent) = near.recv_from(&mut datagram).await.unwrap();
        let flow: &Flow = match flows.entry(agent) {
            Entry::Occupied(flow) => flow.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Flow::open(agent, hub, Arc::clone(&near), Arc::clone(&loses)).await)
            }
        };
        if !loses.towards_hub.load(Ordering::Relaxed) {
            let _ = flow.far.send(&datagram[..length]).await;
        }
    }
}
