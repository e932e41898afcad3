//! Readers that stand still: they cost no live call its credit, and at a ceiling the stillest is given up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::support::*;
use crate::quic::readers::BufferMemory;
use crate::{Body, BodyError, Code, HubLink, Tuning};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

const STREAM_WINDOW: u32 = 64 * KIB;

/// What each call is owed: much more than its window.
const OWED: usize = 512 << 10;

/// What the live call is owed: more than every window together.
const LIVE: usize = 8 << 20;

/// What one piece of a body holds.
const PIECE: usize = 16 << 10;

/// With room for four calls that are read and four that are not before a window has to be raised.
fn tuning(link_memory: u32, buffer_memory: &Arc<BufferMemory>) -> Tuning {
    Tuning {
        stream_window: STREAM_WINDOW,
        link_window: 8 * STREAM_WINDOW,
        link_memory,
        buffer_memory: Arc::clone(buffer_memory),
        max_calls: 1000,
        ..Tuning::default()
    }
}

/// A body of `len` bytes that counts in `sent` what was taken of it.
fn counted(len: usize, sent: Arc<AtomicUsize>) -> Body {
    let pieces = (0..len / PIECE).map(move |_| {
        sent.fetch_add(PIECE, Ordering::Relaxed);
        Ok(Frame::data(pattern(PIECE)))
    });
    Body::new(StreamBody::new(futures_util::stream::iter(pieces)))
}

/// An agent that answers each call with many bytes, and the hub's end of its link.
async fn owing(hub: &Hub, sent: &Arc<AtomicUsize>) -> (HubLink, Serving) {
    let sent = Arc::clone(sent);
    let handler = move |request: Request<Body>| {
        let body = match request.uri().path() {
            "/s/Live" => counted(LIVE, Arc::default()),
            "/s/Little" => counted(PIECE, Arc::clone(&sent)),
            _ => counted(OWED, Arc::clone(&sent)),
        };
        async move { Ok(Response::new(body)) }
    };
    hub.serve(Tuning::default(), handler).await
}

/// Calls that nobody reads, each with more owed than its window.
async fn unread(link: &HubLink, calls: usize, sent: &AtomicUsize) -> Vec<Body> {
    let before = sent.load(Ordering::Relaxed);
    let mut bodies = Vec::new();
    for _ in 0..calls {
        let response = within(call(link, request("/s/Owed", Body::empty())))
            .await
            .unwrap();
        bodies.push(response.into_body());
    }
    // What has been taken of a body beyond one gathering of the sender's follows a write that filled the window.
    let filled = calls * STREAM_WINDOW as usize;
    until("the windows are full", || {
        sent.load(Ordering::Relaxed) - before >= filled
    })
    .await;
    bodies
}

/// Reads a live call from its beginning to its end.
async fn live(link: &HubLink) {
    let response = within(call(link, request("/s/Live", Body::empty())))
        .await
        .unwrap();
    let mut body = response.into_body();
    let mut got = 0;
    while let Some(data) = next_data(&mut body).await {
        got += data.len();
    }
    assert_eq!(got, LIVE);
}

/// How a call that was left alone ends when it is read after all.
async fn outcome(body: Body) -> Result<usize, BodyError> {
    within(body.collect()).await.map(|body| body.to_bytes().len())
}

#[tokio::test]
async fn readers_that_stand_still_hold_up_no_live_call() {
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(16 * MIB, &memory));
    let sent = Arc::default();
    let (link, _serving) = owing(&hub, &sent).await;
    let bodies = unread(&link, 30, &sent).await;
    live(&link).await;
    assert!(memory.used() >= 26 * u64::from(STREAM_WINDOW));
    // Nobody was given up for it.
    for body in bodies {
        assert_eq!(outcome(body).await.unwrap(), OWED);
    }
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn many_readers_that_stand_still_hold_up_no_live_call() {
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(64 * MIB, &memory));
    let sent = Arc::default();
    let (link, _serving) = owing(&hub, &sent).await;
    let bodies = unread(&link, 300, &sent).await;
    live(&link).await;
    drop(bodies);
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn at_the_link_s_ceiling_the_stillest_is_given_up_and_the_others_go_on() {
    const CALLS: usize = 40;
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(2 * MIB, &memory));
    let sent = Arc::default();
    let (link, _serving) = owing(&hub, &sent).await;
    let mut bodies = unread(&link, 1, &sent).await;
    bodies.extend(unread(&link, CALLS - 1, &sent).await);
    live(&link).await;
    assert!(memory.used() <= u64::from(2 * MIB - 8 * STREAM_WINDOW));

    let mut outcomes = Vec::new();
    for body in bodies {
        outcomes.push(outcome(body).await);
    }
    // From the oldest on, and no more of them than it takes.
    let first = outcomes[0].as_ref().unwrap_err();
    assert!(matches!(first, BodyError::SlowReader), "{first}");
    let given_up = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let fit = (2 * MIB / STREAM_WINDOW) as usize;
    assert!(
        (CALLS - fit..=CALLS / 2).contains(&given_up),
        "{given_up} were given up"
    );
    assert!(outcomes.iter().flatten().all(|&len| len == OWED));
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn readers_that_hold_little_are_not_given_up_however_many_they_are() {
    // Their windows are four times the ceiling, and what they hold is less than it.
    const CALLS: usize = 120;
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(2 * MIB, &memory));
    let sent = Arc::default();
    let (link, _serving) = owing(&hub, &sent).await;
    let mut bodies = Vec::new();
    for at in 0..CALLS {
        let response = within(call(&link, request("/s/Little", Body::empty()))).await;
        bodies.push(response.unwrap().into_body());
        if at == CALLS / 2 {
            // All that are there stand still for as long as it takes to be given up, and then more come.
            let patience = tokio::time::Instant::now() + Duration::from_millis(250);
            until("patience is over", || tokio::time::Instant::now() > patience).await;
        }
    }
    live(&link).await;
    for body in bodies {
        assert_eq!(outcome(body).await.unwrap(), PIECE);
    }
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn a_live_call_at_the_ceiling_needs_no_other_call_s_help() {
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(MIB, &memory));
    let (feed, body) = channel();
    let body = Mutex::new(Some(body));
    let handler = Arc::new(move |path: &str| match path {
        "/s/Live" => body.lock().unwrap().take().unwrap(),
        _ => counted(OWED, Arc::default()),
    });
    let (link, _serving) = hub
        .serve(Tuning::default(), move |request: Request<Body>| {
            let body = handler(request.uri().path());
            async move { Ok(Response::new(body)) }
        })
        .await;
    let response = within(call(&link, request("/s/Live", Body::empty())))
        .await
        .unwrap();
    // It is always read, so it never stands still.
    let reading = tokio::spawn(outcome(response.into_body()));

    // These take all credit at once, and then nothing moves on this link but the live call.
    let calls = (0..64).map(|_| call(&link, request("/s/Owed", Body::empty())));
    let bodies = within(futures_util::future::join_all(calls)).await;
    for _ in 0..LIVE / PIECE {
        within(feed.send(Ok(Frame::data(pattern(PIECE))))).await.unwrap();
    }
    drop(feed);
    assert_eq!(within(reading).await.unwrap().unwrap(), LIVE);
    drop(bodies);
}

#[tokio::test]
async fn at_the_process_s_ceiling_the_stillest_of_all_links_is_given_up() {
    const CALLS: usize = 16;
    let step = u64::from(STREAM_WINDOW) * 5 / 4;
    let memory = BufferMemory::new(16 * step);
    let hub = Hub::new(tuning(64 * MIB, &memory));
    let (sent, other_sent) = (Arc::default(), Arc::default());
    let (link, _serving) = owing(&hub, &sent).await;
    let (other, _other_serving) = owing(&hub, &other_sent).await;

    let mut old = unread(&link, 1, &sent).await;
    old.extend(unread(&link, CALLS - 1, &sent).await);
    let first_used = memory.used();
    assert!(first_used > 0);
    // Before the others begin, these stand still for as long as it takes to be given up.
    let patience = tokio::time::Instant::now() + Duration::from_millis(250);
    until("patience is over", || tokio::time::Instant::now() > patience).await;
    let new = unread(&other, CALLS, &other_sent).await;
    live(&other).await;
    live(&link).await;
    assert!(memory.used() <= 16 * step);

    let mut given_up = 0;
    for (at, body) in old.into_iter().enumerate() {
        match outcome(body).await {
            Ok(len) => assert_eq!(len, OWED),
            Err(BodyError::SlowReader) => given_up += 1,
            Err(other) => panic!("{at}: {other}"),
        }
        assert!(at > 0 || given_up == 1, "the oldest was not given up first");
    }
    // Each that was given up gave its memory to one of the other link's.
    assert!((1..CALLS).contains(&given_up), "{given_up} were given up");
    for body in new {
        assert_eq!(outcome(body).await.unwrap(), OWED);
    }
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn what_a_link_held_is_given_back_at_its_end() {
    let memory = BufferMemory::new(64 << 20);
    let hub = Hub::new(tuning(16 * MIB, &memory));
    let sent = Arc::default();
    let (link, _serving) = owing(&hub, &sent).await;
    let bodies = unread(&link, 30, &sent).await;
    assert!(memory.used() > 0);
    drop(link);
    for body in bodies {
        let error = outcome(body).await.unwrap_err();
        assert!(matches!(error, BodyError::LinkLost(_)), "{error}");
    }
    until("the memory is given back", || memory.used() == 0).await;
}

#[tokio::test]
async fn an_agent_gives_up_a_request_that_its_upstream_does_not_read() {
    let memory = BufferMemory::new(64 << 20);
    let (hub, agent) = bare_hub(tuning(MIB, &memory)).await;
    // The requests are kept and not read, but for the live ones.
    let kept = Arc::new(Mutex::new(Vec::new()));
    let _serving = serve(agent, {
        let kept = Arc::clone(&kept);
        move |request: Request<Body>| {
            let kept = Arc::clone(&kept);
            async move {
                if request.uri().path() == "/s/Live" {
                    return Ok(Response::new(request.into_body()));
                }
                kept.lock().unwrap().push(request.into_body());
                std::future::pending().await
            }
        }
    });
    let mut streams = Vec::new();
    for call in 0..40 {
        let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
        within(send.write_all(&request_head("/s/Kept"))).await.unwrap();
        let body = data(&pattern(OWED));
        let writing = async move { (send.write_all(&body).await, send) };
        streams.push((tokio::spawn(writing), recv));
        until("the request is there", || kept.lock().unwrap().len() > call).await;
    }
    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    within(send.write_all(&request_head("/s/Live"))).await.unwrap();
    let body = data(&pattern(LIVE));
    let sending = async {
        send.write_all(&body).await.unwrap();
        send.finish().unwrap();
    };
    let ((), echoed) = within(async { tokio::join!(sending, recv.read_to_end(2 * LIVE)) }).await;
    assert!(echoed.unwrap().len() > LIVE);

    let first = kept.lock().unwrap().remove(0);
    let error = outcome(first).await.unwrap_err();
    assert!(matches!(error, BodyError::SlowReader), "{error}");
    let (written, _send) = within(streams.remove(0).0).await.unwrap();
    let Err(quinn::WriteError::Stopped(code)) = written else {
        panic!("the request was not stopped: {written:?}");
    };
    assert_eq!(Code(code.into_inner()), Code::EXCESSIVE_LOAD);
    for (writing, _) in &streams {
        writing.abort();
    }
}
