#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::task::Poll;

use adit_proto::failure::{Delivered, Reason};
use futures_util::poll;

use super::*;

const GRACE: Duration = Duration::from_secs(3);

fn calls() -> Calls {
    let routing = Routing {
        reconnect_grace: GRACE,
        ..Routing::default()
    };
    let registry = Arc::new(Registry::new());
    let health = HubHealth::new(Arc::clone(&registry), CancellationToken::new());
    Calls::new(registry, health, routing)
}

fn agent() -> Target {
    Target::Agent("site-7".parse().unwrap())
}

/// Looks for a link, with so many seconds until the deadline, and finds none.
async fn miss(calls: &Calls, target: &Target, deadline: Option<u64>) -> Failure {
    let mut search = Search {
        target,
        service: "a.B",
        deadline: deadline.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        tried: Vec::new(),
        until: None,
    };
    calls.find(&mut search, Patience::Wait).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_has_may_come_until_the_hub_has_run_for_a_while() {
    let calls = calls();
    let early = miss(&calls, &Target::Service, None).await;
    assert_eq!(early.reason(), Reason::AgentOffline);
    assert_eq!(early.code(), tonic::Code::Unavailable);
    assert_eq!(calls.started.elapsed(), GRACE);

    // What counts is when the call is given up, not when it came.
    tokio::time::advance(STARTING - GRACE - Duration::from_secs(1)).await;
    let late = miss(&calls, &Target::Service, None).await;
    assert_eq!(late.reason(), Reason::NoRoute);
    assert_eq!(late.code(), tonic::Code::Unimplemented);
    assert_eq!(late.delivered(), Delivered::No);
    // An agent that is named is never unknown: it may be built tomorrow.
    let named = miss(&calls, &agent(), None).await;
    assert_eq!(named.reason(), Reason::AgentOffline);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_grace_and_deadline_ends_the_wait() {
    let calls = calls();
    let begun = Instant::now();
    let failure = miss(&calls, &agent(), Some(1)).await;
    assert_eq!(failure.reason(), Reason::Deadline);
    assert_eq!(failure.delivered(), Delivered::No);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));

    let begun = Instant::now();
    let failure = miss(&calls, &agent(), Some(10)).await;
    assert_eq!(failure.reason(), Reason::AgentOffline);
    assert_eq!(begun.elapsed(), GRACE);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_wait_than_the_hub_holds() {
    let calls = calls();
    let target = agent();
    let mut waiting = Vec::new();
    for _ in 0..MAX_HELD_CALLS {
        let mut call = Box::pin(miss(&calls, &target, None));
        assert!(matches!(poll!(&mut call), Poll::Pending));
        waiting.push(call);
    }
    let failure = miss(&calls, &target, None).await;
    assert_eq!(failure.reason(), Reason::AgentBusy);
    assert_eq!(Instant::now(), calls.started, "it did not wait");

    // A call that is given up makes room.
    drop(waiting.pop());
    let mut call = Box::pin(miss(&calls, &target, None));
    assert!(matches!(poll!(&mut call), Poll::Pending));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_once_however_often_it_is_tried() {
    let calls = calls();
    let target = agent();
    let mut search = Search {
        target: &target,
        service: "a.B",
        deadline: None,
        tried: Vec::new(),
        until: None,
    };
    let begun = Instant::now();
    for _ in 0..3 {
        calls.find(&mut search, Patience::Wait).await.unwrap_err();
        assert_eq!(begun.elapsed(), GRACE);
    }
    let begun = Instant::now();
    let mut impatient = Search {
        until: None,
        ..search
    };
    let failure = calls.find(&mut impatient, Patience::None).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::AgentOffline);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_ends_with_the_hub() {
    let calls = calls();
    let target = agent();
    let mut waiting = Box::pin(miss(&calls, &target, None));
    assert!(matches!(poll!(&mut waiting), Poll::Pending));
    assert_eq!(calls.waiting(), 1);
    calls.stop();
    let failure = waiting.await;
    assert_eq!(
        (failure.reason(), failure.delivered()),
        (Reason::Draining, Delivered::No)
    );
    assert_eq!(calls.waiting(), 0);
}
