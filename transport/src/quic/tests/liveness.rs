//! What the activity of real links says of their lives.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::poll;
use http::{Request, Response};
use tokio::net::UdpSocket;

use super::support::*;
use crate::liveness::{Activity, DEAD_AFTER, Liveness, Sample, WATCH};
use crate::{Body, Carrier, Dead, Dialer, HubLink, Tuning};

/// Looks at a link that carries a call, as a hub does, for `time` or until it is dead. Heartbeats are calls here.
async fn look_after(link: &HubLink, liveness: &mut Liveness, time: Duration) -> Seen {
    let end = Instant::now() + time;
    let mut seen = Seen::default();
    while Instant::now() < end && seen.dead.is_none() {
        let sample = Sample {
            activity: link.activity(),
            round_trip: link.round_trip(),
            calls: 1,
            receiving: 0,
        };
        let verdict = liveness.check(Instant::now(), &sample);
        seen.suspect |= verdict.suspect;
        seen.dead = verdict.dead;
        if let Some(sequence) = verdict.heartbeat {
            seen.heartbeats += 1;
            let answer = call(link, request("/s/Beat", Body::empty()));
            if tokio::time::timeout(WATCH, answer)
                .await
                .is_ok_and(|answer| answer.is_ok())
            {
                liveness.answered(Instant::now(), sequence);
            }
        }
        tokio::time::sleep_until(verdict.check_at.min(end).into()).await;
    }
    seen
}

/// A link that can be cut, on which only the call `/s/Watch` goes on; with what has to live as long.
async fn through_a_port() -> (HubLink, Port, impl Sized) {
    let hub = Hub::new(Tuning::default());
    let port = Port::to(hub.address).await;
    let dialer = Dialer::new(hub.pki.client_tls(Some(hub.pki.agent())), Tuning::default()).unwrap();
    let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial(port.address, HUB)));
    let serving = serve(agent.unwrap(), |request: Request<Body>| async move {
        match request.uri().path() {
            "/s/Watch" => std::future::pending().await,
            _ => Ok(Response::new(Body::empty())),
        }
    });
    (link, port, (hub, serving))
}

/// Cuts the path in both directions, and tells neither end.
async fn cut(port: &Port) {
    let nowhere = UdpSocket::bind(loopback()).await.unwrap();
    *port.hub.lock().unwrap() = nowhere.local_addr().unwrap();
}

#[derive(Debug, Default)]
struct Seen {
    heartbeats: usize,
    suspect: bool,
    dead: Option<Dead>,
}

#[tokio::test]
async fn a_quiet_call_is_left_alone_and_a_silent_link_is_found_dead_in_time() {
    let (link, port, _ends) = through_a_port().await;
    let watching = {
        let link = link.clone();
        tokio::spawn(async move { call(&link, request("/s/Watch", full("x"))).await })
    };
    let mut liveness = Liveness::new(Duration::from_secs(15), 1, Instant::now());
    let seen = look_after(&link, &mut liveness, Duration::from_millis(3500)).await;
    assert!(!seen.suspect && seen.dead.is_none(), "{seen:?}");
    assert!(seen.heartbeats <= 1, "{seen:?}");
    assert!(!watching.is_finished());

    cut(&port).await;
    let cut = Instant::now();
    let seen = look_after(&link, &mut liveness, Duration::from_secs(8)).await;
    assert!(matches!(seen.dead, Some(Dead::Silent { .. })), "{seen:?}");
    assert!(seen.suspect, "{seen:?}");
    let found = cut.elapsed();
    // A machine under load looks late.
    assert!(found <= DEAD_AFTER + Duration::from_secs(2), "{found:?}");
}

#[tokio::test]
async fn a_look_after_the_last_call_was_sent_still_finds_what_goes_unacknowledged() {
    let (link, port, _ends) = through_a_port().await;
    within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    cut(&port).await;
    let mut calling = pin!(call(&link, request("/s/1", full("x"))));
    let look = link.activity();
    assert!(poll!(&mut calling).is_pending());
    let sent = async |than: Activity| {
        while link.activity().sent == than.sent {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        link.activity()
    };
    let mut look = within(sent(look)).await;
    // Nothing is sent any more but what asks for an acknowledgement of it.
    for _ in 0..3 {
        look = within(sent(look)).await;
    }
    assert!(poll!(&mut calling).is_pending());
}

#[tokio::test]
async fn what_a_peer_acknowledges_is_received_and_an_acknowledgement_is_not_sent() {
    let (link, _serving, _hub) = linked(Carrier::Quic, |_| async { Ok(Response::new(full("hello"))) }).await;
    let before = link.activity();
    for _ in 0..3 {
        let response = within(call(&link, request("/s/1", full("x")))).await.unwrap();
        read(response.into_body()).await.unwrap();
    }
    let after = link.activity();
    assert!(after.received >= before.received + 3, "{before:?} {after:?}");
    assert!(after.sent >= before.sent + 3, "{before:?} {after:?}");
    assert!(after.carried >= before.carried + 3, "{before:?} {after:?}");
}

#[tokio::test]
async fn the_agent_s_keep_alive_is_a_sign_of_life_that_asks_nothing_of_it() {
    let hub = Hub::new(Tuning::default());
    let tuning = Tuning {
        keep_alive: Duration::from_millis(50),
        ..Tuning::default()
    };
    let (link, agent) = hub.link(tuning).await;
    let response = serve(agent, |_| async { Ok(Response::new(Body::empty())) });
    within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    // Until nothing but keep-alives goes on.
    let begun = Instant::now();
    let mut last = link.activity();
    let mut quiet = 0;
    while quiet < 3 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        let now = link.activity();
        assert!(now.received > last.received, "{last:?} {now:?}");
        // Its system sends it, whatever its process does: nothing is carried.
        let nothing_else = now.sent == last.sent && now.carried == last.carried;
        quiet = if nothing_else { quiet + 1 } else { 0 };
        assert!(begun.elapsed() < LIMIT, "{last:?} {now:?}");
        last = now;
    }
    drop(response);
}
