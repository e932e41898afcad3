//! What was sent last and lost, on a path that is long enough for it to matter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body::Frame;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{HubLink, Tuning};

const ONE_WAY: Duration = Duration::from_millis(100);

/// A datagram that is longer holds a request, and no bare acknowledgement.
const SMALL: usize = 300;

/// How often a timeout may come first.
const TRIES: usize = 5;

/// A path that delays, and loses as many of the hub's longer datagrams as it is told.
struct FarAway {
    address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
    _passing: AbortOnDropHandle<()>,
}

impl FarAway {
    async fn from(hub: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let address = front.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let losing = Arc::clone(&to_lose);
        let passing = async move {
            let back = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
            let mut agent = None;
            let (mut out, mut home) = ([0; 65_536], [0; 65_536]);
            let mut under_way = JoinSet::new();
            loop {
                let (datagram, socket, to) = tokio::select! {
                    received = front.recv_from(&mut out) => {
                        let (length, from) = received.unwrap();
                        agent = Some(from);
                        (out[..length].to_vec(), &back, hub)
                    }
                    received = back.recv_from(&mut home) => {
                        let (length, _) = received.unwrap();
                        let lose = |left: usize| left.checked_sub(1);
                        if length > SMALL && losing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_ok() {
                            continue;
                        }
                        (home[..length].to_vec(), &front, agent.unwrap())
                    }
                    Some(_) = under_way.join_next() => continue,
                };
                let socket = Arc::clone(socket);
                under_way.spawn(async move {
                    tokio::time::sleep(ONE_WAY).await;
                    let _ = socket.send_to(&datagram, to).await;
                });
            }
        };
        Self {
            address,
            to_lose,
            _passing: AbortOnDropHandle::new(tokio::spawn(passing)),
        }
    }
}

/// A hub of ours, and an agent of bare quinn that is far away. No packet probes for a larger size.
async fn far_agent() -> (HubLink, BarePeer, FarAway, Hub) {
    let tuning = Tuning {
        max_udp_payload: 1200,
        ..Tuning::default()
    };
    let hub = Hub::new(tuning);
    let path = FarAway::from(hub.address).await;
    let tls = hub.pki.client_tls(Some(hub.pki.agent()));
    let (link, peer) = tokio::join!(hub.accept(), within(bare_dial(tls, path.address)));
    (link, peer.unwrap(), path, hub)
}

/// A request that nothing follows.
fn last(link: &HubLink) -> AbortOnDropHandle<()> {
    let link = link.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = call(&link, request("/s/Last", full(pattern(500)))).await;
    }))
}

async fn arrives(peer: &BarePeer) {
    let (_answer, mut request) = peer.accept().await;
    within(request.read_to_end(10_000)).await.unwrap();
}

/// How often the peer was asked for an acknowledgement, as it is after a timeout.
fn timeouts(peer: &BarePeer) -> u64 {
    let received = peer.connection.stats().frame_rx;
    received.ping + received.immediate_ack
}

#[tokio::test]
async fn a_last_packet_that_is_lost_is_sent_again_before_a_timeout() {
    let (link, peer, path, _hub) = far_agent().await;
    let _control = peer.control().await;
    let calling = last(&link);
    arrives(&peer).await;
    drop(calling);
    // A machine that stands still for some time may let a timeout pass. Without a tail there is one each time.
    for _ in 0..TRIES {
        peer.is_heard().await;
        let before = timeouts(&peer);
        path.to_lose.store(1, Ordering::Relaxed);
        let _calling = last(&link);
        arrives(&peer).await;
        assert_eq!(path.to_lose.load(Ordering::Relaxed), 0, "nothing was lost");
        if timeouts(&peer) == before {
            return;
        }
    }
    panic!("timeouts alone found what was lost");
}

#[tokio::test]
async fn what_is_followed_by_more_needs_nothing_behind_it() {
    let (link, peer, _path, _hub) = far_agent().await;
    let _control = peer.control().await;
    let mut control = within(peer.connection.accept_uni()).await.unwrap();
    let (feed, body) = channel();
    let calling = {
        let link = link.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = call(&link, request("/s/Much", body)).await;
        }))
    };
    let (_answer, mut request) = peer.accept().await;
    let mut last = vec![0; 1000];
    let settings = within(control.read(&mut last)).await.unwrap().unwrap();
    for _ in 0..200 {
        feed.send(Ok(Frame::data(pattern(100)))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(feed);
    within(request.read_to_end(100_000)).await.unwrap();
    let mut frames = Vec::new();
    while frames.is_empty() {
        let read = within(control.read(&mut last)).await.unwrap().unwrap();
        frames.extend_from_slice(&last[..read]);
    }
    assert!(settings > 2);
    assert_eq!(frames[..2], [0x21, 0x00]);
    // One, where nothing has made this machine stand still; behind each it would be two hundred.
    assert!(frames.len() / 2 < 20, "{}", frames.len() / 2);
    drop(calling);
}
