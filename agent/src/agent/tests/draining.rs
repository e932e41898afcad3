//! Agents that are told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_proto::tunnel::v1::Drain;
use adit_proto::tunnel::v1::agent_event::Event;
use adit_transport::{Body, Delivered, LinkError};
use futures_util::future::BoxFuture;
use http::Response;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::hub::{ANY_PORT, Failed, Running, World, at_once, call, soon};

/// Calls that run at once.
const CALLERS: usize = 8;

/// Answers at once, but for `/a.B/Slow`, which waits to be let go, and `/a.B/Never`.
fn some_slow(go: &Arc<Notify>) -> impl Fn(String) -> BoxFuture<'static, Response<Body>> + Clone + use<> {
    let go = Arc::clone(go);
    move |path| {
        let go = Arc::clone(&go);
        Box::pin(async move {
            match path.as_str() {
                "/a.B/Slow" => go.notified().await,
                "/a.B/Never" => std::future::pending().await,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
            Response::new(Body::empty())
        })
    }
}

fn closed_by(reason: &LinkError, why: &str) {
    assert!(
        matches!(reason, LinkError::Closed(said) if said == why),
        "{reason}"
    );
}

#[tokio::test]
async fn an_agent_that_drains_loses_no_call_of_a_hub_that_goes_on_calling() {
    let world = World::new();
    let hub = world.hub();
    let go = Arc::new(Notify::new());
    let mut agent = Running::start(world.agent(&[hub.address()], some_slow(&go)));
    let mut attached = hub.attach().await;
    let link = attached.link.clone();
    let slow = {
        let link = link.clone();
        tokio::spawn(async move { call(&link, "Slow").await })
    };
    // Callers that mind neither the drain event nor the GOAWAY: each makes calls until one is refused.
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (link, answered) = (link.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                loop {
                    match call(&link, "C").await {
                        Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
                        Err(failed) => return failed,
                    };
                }
            })
        })
        .collect();
    let under_way = async {
        while answered.load(Ordering::Relaxed) < 10 * CALLERS {
            tokio::task::yield_now().await;
        }
    };
    attached.during(soon(under_way)).await;
    agent.drain.cancel();
    assert_eq!(soon(attached.listen()).await, Some(Event::Drain(Drain {})));
    let at_drain = answered.load(Ordering::Relaxed);
    for caller in callers {
        let failed = attached.during(soon(caller)).await.unwrap();
        let Failed::Call(error) = &failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.delivered(), Delivered::No, "{error}");
    }
    assert!(
        answered.load(Ordering::Relaxed) > at_drain,
        "the drain event alone refuses nothing"
    );
    assert!(link.is_draining());

    // The call that ran before goes on, and the link with it.
    attached
        .during(tokio::time::sleep(Duration::from_millis(300)))
        .await;
    assert!(!slow.is_finished());
    go.notify_one();
    let (slow, reason) = tokio::join!(slow, attached.ended());
    slow.unwrap().unwrap();
    closed_by(&reason, "the agent stopped");
    soon(&mut agent.task).await.unwrap();
    drop(hub);
}

#[tokio::test]
async fn calls_that_do_not_end_are_given_the_drain_timeout_and_no_more() {
    let world = World::new();
    let hub = world.hub();
    let go = Arc::new(Notify::new());
    let timeout = Duration::from_secs(1);
    let agent = world
        .agent(&[hub.address()], some_slow(&go))
        .drain_timeout(timeout);
    let agent = Running::start(agent);
    let mut attached = hub.attach().await;
    let link = attached.link.clone();
    let never = tokio::spawn(async move { call(&link, "Never").await });
    soon(call(&attached.link, "C")).await.unwrap();
    agent.drain.cancel();
    let begun = Instant::now();
    let reason = attached.ended().await;
    closed_by(&reason, "the agent stopped");
    assert!(
        begun.elapsed() >= timeout && begun.elapsed() < 4 * timeout,
        "{:?}",
        begun.elapsed()
    );
    never.await.unwrap().unwrap_err();
    soon(agent.task).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_while_it_drains_stops() {
    let world = World::new();
    let hub = world.hub();
    let go = Arc::new(Notify::new());
    let agent = Running::start(world.agent(&[hub.address()], some_slow(&go)));
    let mut attached = hub.attach().await;
    let link = attached.link.clone();
    let never = tokio::spawn(async move { call(&link, "Never").await });
    soon(call(&attached.link, "C")).await.unwrap();
    agent.drain.cancel();
    assert_eq!(soon(attached.listen()).await, Some(Event::Drain(Drain {})));
    agent.stop.cancel();
    let begun = Instant::now();
    closed_by(&attached.ended().await, "the agent stopped");
    soon(agent.task).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    never.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn an_agent_that_has_no_calls_or_no_link_has_drained_at_once() {
    let world = World::new();
    let hub = world.hub();
    let dead = UdpSocket::bind(ANY_PORT).await.unwrap();
    let hubs = [dead.local_addr().unwrap(), hub.address()];
    let agent = Running::start(world.agent(&hubs, at_once));
    // This hub answers no heartbeat.
    let attached = hub.attach().await;
    let begun = Instant::now();
    agent.drain.cancel();
    closed_by(&soon(attached.link.closed()).await, "the agent stopped");
    soon(agent.task).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
