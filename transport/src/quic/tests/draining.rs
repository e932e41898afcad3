//! Links that take no new calls: the agent's own GOAWAY, and ports that refuse links.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::StreamBody;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::support::*;
use crate::rh3::Role;
use crate::rh3::frame::{Frame, FrameDecoder, stream_type};
use crate::{
    AgentLink, Body, CallError, Carrier, Code, Delivered, DialError, Dialer, HubLink, LinkError, Standing,
    Tuning,
};

by_each_carrier!(
    calls_that_run_go_on_and_new_ones_are_refused,
    a_standing_call_is_not_waited_for,
    a_long_response_has_arrived_when_the_drain_is_over,
    of_calls_that_race_a_drain_each_runs_or_is_refused_and_none_does_both,
);

/// An agent that serves, and that the test can drain meanwhile.
struct Agent {
    link: Arc<AgentLink>,
    _serving: Serving,
}

impl Agent {
    fn serving<H, F>(link: AgentLink, handler: H) -> Self
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let link = Arc::new(link);
        let serving = Arc::clone(&link);
        let serving = tokio::spawn(async move { serving.serve(handler).await });
        Self {
            link,
            _serving: tokio_util::task::AbortOnDropHandle::new(serving),
        }
    }

    fn drain(&self) -> JoinHandle<()> {
        let link = Arc::clone(&self.link);
        tokio::spawn(async move { link.drain().await })
    }
}

/// Answers once it is let go.
fn held(go: &Arc<Notify>) -> impl Fn(Request<Body>) -> BoxFuture<'static, Answer> + Clone + use<> {
    let go = Arc::clone(go);
    move |_| {
        let go = Arc::clone(&go);
        Box::pin(async move {
            go.notified().await;
            Ok(Response::new(full("done")))
        })
    }
}

fn begun(link: &HubLink, path: &'static str) -> JoinHandle<Result<Response<Body>, CallError>> {
    let link = link.clone();
    tokio::spawn(async move { call(&link, request(path, full("x"))).await })
}

async fn calls_that_run_go_on_and_new_ones_are_refused(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, agent) = hub.link(Tuning::default()).await;
    let go = Arc::new(Notify::new());
    let agent = Agent::serving(agent, held(&go));
    let running = begun(&link, "/s/1");
    until("the call runs", || agent.link.calls() == 1).await;
    let before = link.clone();
    let told = tokio::spawn(async move { before.draining().await });
    assert!(!link.is_draining());

    let mut drained = agent.drain();
    within(told).await.unwrap();
    assert!(link.is_draining());
    within(link.draining()).await;
    let error = within(call(&link, request("/s/2", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
    assert_eq!(error.delivered(), Delivered::No);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut drained).await;
    assert!(early.is_err(), "the call still runs");
    assert_eq!(agent.link.calls(), 1);

    go.notify_one();
    let response = within(running).await.unwrap().unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "done");
    within(drained).await.unwrap();
    assert_eq!(agent.link.calls(), 0);
    // To drain it again says nothing new to the hub.
    within(agent.link.drain()).await;
}

async fn a_standing_call_is_not_waited_for(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, agent) = hub.link(Tuning::default()).await;
    let agent = Agent::serving(agent, |_| async {
        let endless = StreamBody::new(futures_util::stream::pending());
        let mut response = Response::new(Body::new(endless));
        response.extensions_mut().insert(Standing);
        Ok(response)
    });
    let mut standing = within(begun(&link, "/s/Attach")).await.unwrap().unwrap();
    until("the call isn't counted", || agent.link.calls() == 0).await;
    within(agent.link.drain()).await;
    let more = tokio::time::timeout(Duration::from_millis(50), next_data(standing.body_mut()));
    assert!(more.await.is_err(), "it goes on");
}

/// What each call came to, by its number.
#[derive(Default)]
struct Outcomes {
    answered: HashSet<usize>,
    refused: HashSet<usize>,
}

async fn of_calls_that_race_a_drain_each_runs_or_is_refused_and_none_does_both(by: Carrier) {
    const CALLERS: usize = 16;
    let hub = Hub::by(by, Tuning::default());
    let mut after_goaway = 0;
    for round in 0..20 {
        let (link, agent) = hub.link(Tuning::default()).await;
        let ran = Arc::new(Mutex::new(Vec::new()));
        let agent = Agent::serving(agent, {
            let ran = Arc::clone(&ran);
            move |request: Request<Body>| {
                let number: usize = request.uri().path()[3..].parse().unwrap();
                ran.lock().unwrap().push(number);
                async move {
                    tokio::time::sleep(Duration::from_micros(number as u64 % 7 * 100)).await;
                    Ok(Response::new(full(number.to_string())))
                }
            }
        });
        let next = Arc::new(AtomicUsize::new(0));
        let callers = (0..CALLERS).map(|_| {
            let (link, next) = (link.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut outcomes = Outcomes::default();
                // Each goes on for some calls beyond its first refusal: the link says at once that it drains.
                while outcomes.refused.len() < 3 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match call(&link, request(&format!("/s/{number}"), full("x"))).await {
                        Ok(response) => {
                            assert_eq!(read(response.into_body()).await.unwrap().0, number.to_string());
                            outcomes.answered.insert(number);
                        }
                        Err(error) => {
                            // The link may end before a call has a stream, too.
                            assert_eq!(error.delivered(), Delivered::No, "{number}: {error}");
                            outcomes.refused.insert(number);
                        }
                    }
                }
                outcomes
            })
        });
        let callers: Vec<_> = callers.collect();
        let enough = 10 + round * 7;
        until("calls run", || ran.lock().unwrap().len() > enough).await;
        within(agent.drain()).await.unwrap();
        // What is closed at once loses nobody who ran, and tells no other lie.
        agent.link.close(Code::NO_ERROR, "drained");

        let mut all = Outcomes::default();
        for outcomes in within(join_all(callers)).await {
            let outcomes = outcomes.unwrap();
            all.answered.extend(outcomes.answered);
            all.refused.extend(outcomes.refused);
        }
        let ran = ran.lock().unwrap();
        let set: HashSet<_> = ran.iter().copied().collect();
        assert_eq!(set.len(), ran.len(), "none runs twice");
        assert_eq!(set, all.answered, "who ran was answered, and nobody else");
        assert!(set.is_disjoint(&all.refused));
        // Refusals before a stream is opened are no test of the agent.
        after_goaway += usize::from(all.refused.len() > CALLERS);
    }
    assert!(after_goaway > 0);
}

/// The frames of an agent's control stream: its settings, then what follows. To drop the stream is an error.
async fn control_frames(hub: &BarePeer, count: usize) -> (Vec<Frame>, quinn::RecvStream) {
    let mut control = within(hub.connection.accept_uni()).await.unwrap();
    let mut kind = [0];
    within(control.read_exact(&mut kind)).await.unwrap();
    assert_eq!(u64::from(kind[0]), stream_type::CONTROL);
    let mut decoder = FrameDecoder::control(Role::Client);
    let mut frames = Vec::new();
    while frames.len() < count {
        let chunk = within(control.read_chunk(1000, true)).await.unwrap().unwrap();
        decoder.push(chunk.bytes);
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    (frames, control)
}

async fn opened(hub: &BarePeer) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")).await.unwrap();
    (send, recv)
}

#[tokio::test]
async fn the_goaway_names_the_first_stream_that_is_not_served() {
    for calls in [0, 1, 3] {
        let (hub, agent) = bare_hub(Tuning::default()).await;
        let _control = hub.control().await;
        let ran = Arc::new(AtomicUsize::new(0));
        let agent = Agent::serving(agent, {
            let ran = Arc::clone(&ran);
            move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
                std::future::pending()
            }
        });
        let mut running = Vec::new();
        for _ in 0..calls {
            running.push(opened(&hub).await);
        }
        until("the calls run", || ran.load(Ordering::Relaxed) == calls).await;
        let drained = agent.drain();
        let (frames, _control_of_agent) = control_frames(&hub, 2).await;
        let first = 1 + 4 * calls as u64;
        assert!(
            matches!(frames[1], Frame::GoAway(id) if id == first),
            "{frames:?}"
        );

        // A hub that has not heard of it, or does not mind.
        let (mut send, mut recv) = opened(&hub).await;
        assert_eq!(quinn::VarInt::from(send.id()).into_inner(), first);
        let rejected = quinn::VarInt::from_u64(Code::REQUEST_REJECTED.0).unwrap();
        let error = within(recv.read_to_end(100)).await.unwrap_err();
        assert!(
            matches!(error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) if code == rejected),
            "{error}"
        );
        assert_eq!(within(send.stopped()).await.unwrap(), Some(rejected));
        send.write_all(b"more").await.unwrap_err();
        assert_eq!(
            ran.load(Ordering::Relaxed),
            calls,
            "nothing of it reached the handler"
        );

        assert!(calls == 0 || !drained.is_finished());
        for (_send, recv) in &mut running {
            // Cancelled by the hub.
            recv.stop(quinn::VarInt::from_u32(0x10c)).unwrap();
        }
        within(drained).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_is_over_when_the_link_is_though_nobody_serves_it() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let agent = Arc::new(agent);
    let serving = {
        let agent = Arc::clone(&agent);
        tokio::spawn(async move { agent.serve(|_| std::future::pending()).await })
    };
    let _running = opened(&hub).await;
    until("the call runs", || agent.calls() == 1).await;
    let draining = {
        let agent = Arc::clone(&agent);
        tokio::spawn(async move { agent.drain().await })
    };
    hub.connection.close(0x100_u32.into(), b"gone");
    within(draining).await.unwrap();
    let error = within(serving).await.unwrap();
    assert!(matches!(error, LinkError::Closed(_)), "{error}");
    until("its calls are dropped", || agent.calls() == 0).await;
}

async fn a_long_response_has_arrived_when_the_drain_is_over(by: Carrier) {
    const LENGTH: usize = 8 << 20;
    let hub = Hub::by(by, Tuning::default());
    // The whole of it waits in the agent's buffers, having been written.
    let (link, agent) = hub.link(Tuning::default()).await;
    let agent = Agent::serving(agent, |_| async { Ok(Response::new(full(pattern(LENGTH)))) });
    let calls: Vec<_> = (0..4).map(|_| begun(&link, "/s/Long")).collect();
    until("calls run", || agent.link.calls() == 4).await;
    let closing = {
        let agent = Arc::clone(&agent.link);
        tokio::spawn(async move {
            agent.drain().await;
            agent.close(Code::NO_ERROR, "drained");
        })
    };
    let reading = calls.into_iter().map(|call| async move {
        let response = call.await.unwrap().unwrap();
        read(response.into_body()).await.unwrap().0
    });
    for body in within(join_all(reading)).await {
        assert_eq!(body, pattern(LENGTH));
    }
    within(closing).await.unwrap();
}

#[tokio::test]
async fn a_listener_refuses_new_links_and_keeps_those_it_has() {
    let hub = Arc::new(Hub::new(Tuning::default()));
    let (link, agent) = hub.link(Tuning::default()).await;
    let _serving = serve(agent, |request: Request<Body>| async move {
        Ok(Response::new(request.into_body()))
    });
    hub.listener.refuse_new();
    let accepting = {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move { hub.listener.accept().await })
    };
    let dialer = Dialer::new(hub.pki.client_tls(Some(hub.pki.agent())), Tuning::default()).unwrap();
    let error = within(dialer.dial(hub.address, HUB)).await.unwrap_err();
    assert!(
        matches!(&error, DialError::Handshake { reason, .. } if reason.to_string().contains("refused")),
        "{error}"
    );
    assert!(!accepting.is_finished(), "accept stays pending");

    let response = within(call(&link, request("/s/1", full("still here"))))
        .await
        .unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "still here");
    hub.listener.close("enough");
    assert!(within(accepting).await.unwrap().is_none());
}

#[tokio::test]
async fn a_drain_is_over_only_when_the_hub_has_heard_of_it() {
    let hub = Hub::new(Tuning::default());
    let port = Port::to(hub.address).await;
    let dialer = Dialer::new(hub.pki.client_tls(Some(hub.pki.agent())), Tuning::default()).unwrap();
    let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial(port.address, HUB)));
    let agent = agent.unwrap();
    // Nothing runs that it could wait for, but nothing arrives either.
    let nowhere = UdpSocket::bind(loopback()).await.unwrap();
    *port.hub.lock().unwrap() = nowhere.local_addr().unwrap();
    let mut draining = pin!(agent.drain());
    let early = tokio::time::timeout(Duration::from_millis(50), &mut draining).await;
    assert!(early.is_err());

    *port.hub.lock().unwrap() = hub.address;
    within(draining).await;
    agent.close(Code::NO_ERROR, "drained");
    within(link.closed()).await;
    until("the hub has read it", || link.is_draining()).await;
}
