//! A hub that was killed and started again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{AgentLink, Body, Dialer, LinkError, Listener, Tuning};

/// Passes packets between an agent and the hub that is there now. To the agent it is one address, as the port of a hub
/// that was started again is; the hub before never learns that it is gone, as one that was killed does not either.
struct Port {
    address: SocketAddr,
    hub: Arc<Mutex<SocketAddr>>,
    _passing: AbortOnDropHandle<()>,
}

impl Port {
    async fn to(hub: SocketAddr) -> Self {
        let agents = UdpSocket::bind(loopback()).await.unwrap();
        let address = agents.local_addr().unwrap();
        let hub = Arc::new(Mutex::new(hub));
        let passing = tokio::spawn(pass(agents, Arc::clone(&hub)));
        Self {
            address,
            hub,
            _passing: AbortOnDropHandle::new(passing),
        }
    }
}

async fn pass(agents: UdpSocket, hub: Arc<Mutex<SocketAddr>>) {
    let hubs = UdpSocket::bind(loopback()).await.unwrap();
    let mut agent = None;
    let (mut out, mut back) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            received = agents.recv_from(&mut out) => {
                let (len, from) = received.unwrap();
                agent = Some(from);
                let hub = *hub.lock().unwrap();
                hubs.send_to(&out[..len], hub).await.unwrap();
            }
            received = hubs.recv_from(&mut back) => {
                let (len, from) = received.unwrap();
                let is_current = from == *hub.lock().unwrap();
                if let (Some(agent), true) = (agent, is_current) {
                    agents.send_to(&back[..len], agent).await.unwrap();
                }
            }
        }
    }
}

fn agent_tuning(idle_timeout: Duration) -> Tuning {
    Tuning {
        keep_alive: Duration::from_millis(100),
        idle_timeout,
        // The proxy hands on single packets.
        segmentation_offload: false,
        ..Tuning::default()
    }
}

/// A hub, an agent linked to it by way of a port, and another hub with the same certificate and `secret`.
async fn restarted(
    idle_timeout: Duration,
    secret: &[u8],
) -> (Hub, crate::HubLink, AgentLink, Port, Listener) {
    let hub = Hub::new(Tuning::default());
    let port = Port::to(hub.address).await;
    let tls = hub.pki.client_tls(Some(hub.pki.agent()));
    let dialer = Dialer::new(tls, agent_tuning(idle_timeout)).unwrap();
    let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial(port.address, HUB)));
    let next = Listener::bind(loopback(), hub.pki.server_tls(), secret, Tuning::default()).unwrap();
    (hub, link, agent.unwrap(), port, next)
}

async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

#[tokio::test]
async fn an_idle_agent_learns_of_it_at_its_next_keep_alive() {
    let (_hub, link, agent, port, next) = restarted(Duration::from_secs(30), SECRET).await;
    let serving = serve(agent, echo);
    let response = within(call(&link, request("/s/1", full("before"))))
        .await
        .unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "before");

    let killed = Instant::now();
    *port.hub.lock().unwrap() = next.local_addr().unwrap();
    let lost = within(serving).await.unwrap();
    assert!(matches!(lost, LinkError::Reset), "{lost}");
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "not before {:?}",
        killed.elapsed()
    );
}

#[tokio::test]
async fn an_agent_in_the_middle_of_a_call_learns_of_it_at_once() {
    let (_hub, link, agent, port, next) = restarted(Duration::from_secs(30), SECRET).await;
    let (feed, body) = channel();
    let body = Mutex::new(Some(body));
    let serving = serve(agent, {
        let body = Arc::new(body);
        move |_| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok(Response::new(body)) }
        }
    });
    let _response = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    *port.hub.lock().unwrap() = next.local_addr().unwrap();
    let _ = feed.send(Ok(http_body::Frame::data("a packet".into()))).await;
    let lost = within(serving).await.unwrap();
    assert!(matches!(lost, LinkError::Reset), "{lost}");
    within(feed.closed()).await;
}

#[tokio::test]
async fn a_hub_with_another_secret_cannot_end_the_link() {
    let (_hub, _link, agent, port, next) = restarted(Duration::from_secs(1), b"another secret").await;
    let serving = serve(agent, echo);
    *port.hub.lock().unwrap() = next.local_addr().unwrap();
    let lost = within(serving).await.unwrap();
    assert!(matches!(lost, LinkError::TimedOut), "{lost}");
}
