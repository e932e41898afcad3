//! What runs ends with its owner.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body::Frame;
use tokio::net::UdpSocket;

use super::support::*;
use crate::{Body, BodyError, CallError, Carrier, Code, Congestion, Delivered, Dialer, LinkError, Tuning};

by_each_carrier!(
    a_link_s_tasks_end_with_it,
    an_agent_that_lets_its_link_go_ends_it,
    handlers_and_bodies_are_dropped_with_the_serving_of_their_link,
    a_closed_listener_closes_every_link_and_says_why,
    a_link_closed_with_an_error_s_code_says_so_to_the_other_end,
    an_agent_that_closes_waits_until_the_hub_was_told,
);

/// Tasks of this test's runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

async fn a_link_s_tasks_end_with_it(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let before = tasks();
    let (link, agent) = hub.link(Tuning::default()).await;
    let serving = serve(agent, echo);
    let (_feed, body) = channel();
    let response = within(call(&link, request("/s/Chat", body))).await.unwrap();
    let clone = link.clone();
    drop(link);
    // A clone is the link.
    let other = within(call(&clone, request("/s/Echo", full("still here"))))
        .await
        .unwrap();
    assert_eq!(read(other.into_body()).await.unwrap().0, "still here");

    drop(clone);
    let lost = within(serving).await.unwrap();
    assert!(
        matches!(&lost, LinkError::Closed(why) if why == "the hub let the link go"),
        "{lost}"
    );
    let error = read(response.into_body()).await.unwrap_err();
    assert!(matches!(error, BodyError::LinkLost(_)), "{error}");
    until("the link's tasks have ended", || tasks() <= before).await;
}

async fn an_agent_that_lets_its_link_go_ends_it(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let before = tasks();
    let (link, agent) = hub.link(Tuning::default()).await;
    drop(agent);
    let lost = within(link.closed()).await;
    assert!(
        matches!(&lost, LinkError::Closed(why) if why == "the agent let the link go"),
        "{lost}"
    );
    let error = within(call(&link, request("/s/1", Body::empty())))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CallError::LinkLost {
                delivered: Delivered::No,
                ..
            }
        ),
        "{error}"
    );
    drop(link);
    until("the link's tasks have ended", || tasks() <= before).await;
}

/// A sender that has much to send, and sends nothing for this long, may send no more.
const STILL: Duration = Duration::from_millis(50);

#[tokio::test]
async fn the_end_of_a_link_is_told_when_no_more_may_be_under_way() {
    for congestion in [Congestion::Bbr, Congestion::Cubic, Congestion::NewReno] {
        let hub = Hub::new(Tuning::default());
        let port = Port::to(hub.address).await;
        let tuning = Tuning {
            congestion,
            ..Tuning::default()
        };
        let dialer = Dialer::new(hub.pki.client_tls(Some(hub.pki.agent())), tuning).unwrap();
        let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial(port.address, HUB)));
        let (feed, body) = channel();
        let body = Arc::new(Mutex::new(Some(body)));
        let serving = serve(agent.unwrap(), move |_| {
            let body = body.lock().unwrap().take();
            async move { Ok(Response::new(body.expect("one call"))) }
        });
        let response = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();

        // Nothing of it arrives, and so nothing is acknowledged.
        let nowhere = UdpSocket::bind(loopback()).await.unwrap();
        *port.hub.lock().unwrap() = nowhere.local_addr().unwrap();
        feed.send(Ok(Frame::data(pattern(4 << 20)))).await.unwrap();
        let mut packet = [0; 2048];
        within(nowhere.recv_from(&mut packet)).await.unwrap();
        while tokio::time::timeout(STILL, nowhere.recv_from(&mut packet))
            .await
            .is_ok()
        {}
        *port.hub.lock().unwrap() = hub.address;
        drop(serving);
        let lost = within(link.closed()).await;
        assert!(
            matches!(&lost, LinkError::Closed(why) if why == "the agent let the link go"),
            "{congestion:?}: {lost}"
        );
        drop((feed, response));
    }
}

async fn handlers_and_bodies_are_dropped_with_the_serving_of_their_link(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, agent) = hub.link(Tuning::default()).await;
    let (handler_held, handler) = channel();
    let (body_feed, body) = channel();
    let (handler, body) = (Mutex::new(Some(handler)), Mutex::new(Some(body)));
    let running = Arc::new(tokio::sync::Notify::new());
    let calls = {
        let running = Arc::clone(&running);
        move |request: Request<Body>| {
            let streams = request.uri().path() == "/s/Stream";
            let of_this = if streams { &body } else { &handler }
                .lock()
                .unwrap()
                .take()
                .unwrap();
            let running = Arc::clone(&running);
            async move {
                if streams {
                    return Ok(Response::new(of_this));
                }
                running.notify_one();
                let _held = of_this;
                std::future::pending().await
            }
        }
    };
    let calls = Arc::new(calls);
    let serving = tokio::spawn(async move {
        let lost = agent.serve(move |request| calls(request)).await;
        (lost, agent)
    });
    let mut stream = within(call(&link, request("/s/Stream", Body::empty())))
        .await
        .unwrap()
        .into_body();
    body_feed.send(Ok(Frame::data("first".into()))).await.unwrap();
    assert_eq!(next_data(&mut stream).await.unwrap(), "first");
    let waiting = tokio::spawn({
        let link = link.clone();
        async move { call(&link, request("/s/Wait", Body::empty())).await }
    });
    within(running.notified()).await;

    serving.abort();
    within(handler_held.closed()).await;
    within(body_feed.closed()).await;
    // The agent's end went with its serving here: the calls say that the link or they themselves are gone.
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            CallError::LinkLost { .. } | CallError::Reset(Code::REQUEST_CANCELLED)
        ),
        "{error}"
    );
    let error = read(stream).await.unwrap_err();
    assert!(
        matches!(
            error,
            BodyError::LinkLost(_) | BodyError::Reset(Code::REQUEST_CANCELLED)
        ),
        "{error}"
    );
}

async fn a_closed_listener_closes_every_link_and_says_why(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (first, first_serving) = hub.serve(Tuning::default(), echo).await;
    let (second, second_serving) = hub.serve(Tuning::default(), echo).await;
    hub.listener.close("maintenance");
    for serving in [first_serving, second_serving] {
        let lost = within(serving).await.unwrap();
        assert!(
            matches!(&lost, LinkError::Closed(why) if why == "maintenance"),
            "{lost}"
        );
    }
    for link in [first, second] {
        assert!(matches!(within(link.closed()).await, LinkError::LocallyClosed));
    }
    assert!(within(hub.listener.accept()).await.is_none());
    within(hub.listener.closed()).await;
}

async fn a_link_closed_with_an_error_s_code_says_so_to_the_other_end(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, serving) = hub.serve(Tuning::default(), echo).await;
    link.close(Code::EXCESSIVE_LOAD, "too much");
    let lost = within(serving).await.unwrap().to_string();
    assert!(
        lost.contains(match by {
            Carrier::Quic => "H3_EXCESSIVE_LOAD",
            Carrier::Tls | Carrier::WebSocket => "ENHANCE_YOUR_CALM",
        }) && lost.contains("too much"),
        "{lost}"
    );
}

async fn an_agent_that_closes_waits_until_the_hub_was_told(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, agent) = hub.link(Tuning::default()).await;
    agent.close(Code::NO_ERROR, "done");
    within(agent.closed()).await;
    let lost = within(link.closed()).await;
    assert!(matches!(&lost, LinkError::Closed(why) if why == "done"), "{lost}");
}
