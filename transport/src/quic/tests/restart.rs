//! A hub that was killed and started again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};

use super::support::*;
use crate::{AgentLink, Body, Dialer, LinkError, Listener, Tuning};

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
