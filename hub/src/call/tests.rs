#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::task::Poll;

use adit_proto::failure::{Delivered, Reason};
use futures_util::poll;

use super::*;

const GRACE: Duration = Duration::from_secs(3);

fn calls() -> Calls {
    Calls::new(Arc::new(Registry::new()), GRACE)
}

fn service() -> Target {
    Target::Service("a.B".to_owned())
}

fn agent() -> Target {
    Target::Agent("site-7".parse().unwrap())
}

fn deadline(value: &'static str) -> Option<Deadline> {
    let metadata = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-timeout"),
        http::HeaderValue::from_static(value),
    )]);
    Deadline::of(&metadata)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_has_may_come_until_the_hub_has_run_for_a_while() {
    let calls = calls();
    let early = calls.member(&service(), None).await.unwrap_err();
    assert_eq!(early.reason(), Reason::AgentOffline);
    assert_eq!(early.code(), tonic::Code::Unavailable);
    assert_eq!(calls.started.elapsed(), GRACE);

    // What counts is when the call is given up, not when it came.
    tokio::time::advance(STARTING - GRACE - Duration::from_secs(1)).await;
    let late = calls.member(&service(), None).await.unwrap_err();
    assert_eq!(late.reason(), Reason::NoRoute);
    assert_eq!(late.code(), tonic::Code::Unimplemented);
    assert_eq!(late.delivered(), Delivered::No);
    // An agent that is named is never unknown: it may be built tomorrow.
    let named = calls.member(&agent(), None).await.unwrap_err();
    assert_eq!(named.reason(), Reason::AgentOffline);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_grace_and_deadline_ends_the_wait() {
    let calls = calls();
    let begun = Instant::now();
    let failure = calls.member(&agent(), deadline("1S")).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::Deadline);
    assert_eq!(failure.delivered(), Delivered::No);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));

    let begun = Instant::now();
    let failure = calls.member(&agent(), deadline("10S")).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::AgentOffline);
    assert_eq!(begun.elapsed(), GRACE);
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_wait_than_the_hub_holds() {
    let calls = calls();
    let target = agent();
    let mut waiting = Vec::new();
    for _ in 0..MAX_HELD_CALLS {
        let mut call = Box::pin(calls.member(&target, None));
        assert!(matches!(poll!(&mut call), Poll::Pending));
        waiting.push(call);
    }
    let failure = calls.member(&target, None).await.unwrap_err();
    assert_eq!(failure.reason(), Reason::AgentBusy);
    assert_eq!(Instant::now(), calls.started, "it did not wait");

    // A call that is given up makes room.
    drop(waiting.pop());
    let mut call = Box::pin(calls.member(&target, None));
    assert!(matches!(poll!(&mut call), Poll::Pending));
}
