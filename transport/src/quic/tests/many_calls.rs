//! More calls than the peer's credit is enough for: which of them goes on when there is some.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use quinn::{TransportConfig, VarInt};
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{Body, HubLink, Standing, Tuning};

/// What the peer takes at a time, of all calls together: about one piece.
const CREDIT: u32 = 64 << 10;

const PIECE: usize = 64 << 10;

/// What the peer reads, so that it gives a little of its credit again.
const READ: usize = 32 << 10;

/// Calls that wait before the link's own does, and again as many that come after it.
const CALLS: usize = 8;

const MESSAGE: &[u8] = b"a heartbeat";

fn little_credit() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.receive_window(VarInt::from_u32(CREDIT));
    transport
}

/// A body without an end, which counts the calls that have begun to send it.
fn endless(begun: &Arc<AtomicUsize>) -> Body {
    let (piece, begun, mut first) = (pattern(PIECE), Arc::clone(begun), true);
    Body::new(StreamBody::new(futures_util::stream::repeat_with(move || {
        if std::mem::take(&mut first) {
            begun.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Frame::data(piece.clone()))
    })))
}

/// Calls that send as much as the link takes, once each of them has begun to.
async fn flood(link: &HubLink, begun: &Arc<AtomicUsize>) -> Vec<AbortOnDropHandle<()>> {
    let before = begun.load(Ordering::Relaxed);
    let calls = (0..CALLS).map(|_| {
        let (link, request) = (link.clone(), request("/s/Bulk", endless(begun)));
        AbortOnDropHandle::new(tokio::spawn(async move { drop(call(&link, request).await) }))
    });
    let calls = calls.collect();
    until("all send", || begun.load(Ordering::Relaxed) == before + CALLS).await;
    calls
}

/// Says something, and waits until it is taken off: it is written at once, if there is credit.
async fn speak(say: &Feed) {
    within(say.send(Ok(Frame::data(MESSAGE.into())))).await.unwrap();
    until("it is to be written", || say.capacity() == say.max_capacity()).await;
}

async fn is_out_of_credit(peer: &BarePeer) {
    until("the credit is used up", || {
        peer.connection.stats().frame_rx.data_blocked > 0
    })
    .await;
}

/// Reads a little of `bulk`, and then the message must come on `standing`, though nothing else is read.
async fn the_message_is_first(mut bulk: quinn::RecvStream, mut standing: quinn::RecvStream) {
    within(bulk.read_exact(&mut [0; READ])).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(MESSAGE) {
        got.extend_from_slice(
            &within(standing.read_chunk(READ, true))
                .await
                .unwrap()
                .unwrap()
                .bytes,
        );
    }
}

#[tokio::test]
async fn the_link_s_own_request_goes_on_before_all_calls() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent_with(little_credit()).await;
    let begun = Arc::default();
    let (say, said) = channel();
    let mut own = request("/s/Standing", said);
    own.extensions_mut().insert(Standing);
    let _own = AbortOnDropHandle::new(tokio::spawn({
        let link = link.clone();
        async move { drop(call(&link, own).await) }
    }));
    let (_own_send, own) = agent.accept().await;
    let _before = flood(&link, &begun).await;
    is_out_of_credit(&agent).await;
    speak(&say).await;
    let _after = flood(&link, &begun).await;

    let (_bulk_send, bulk) = agent.accept().await;
    the_message_is_first(bulk, own).await;
}

#[tokio::test]
async fn the_link_s_own_response_goes_on_before_all_calls() {
    let (hub, agent) = bare_hub_with(Tuning::default(), little_credit()).await;
    let begun = Arc::default();
    let (say, said) = channel();
    let said = Arc::new(std::sync::Mutex::new(Some(said)));
    let _serving = serve(agent, {
        let begun = Arc::clone(&begun);
        move |request: Request<Body>| {
            let response = match request.uri().path() {
                "/s/Standing" => {
                    let mut response = Response::new(said.lock().unwrap().take().unwrap());
                    response.extensions_mut().insert(Standing);
                    response
                }
                _ => Response::new(endless(&begun)),
            };
            async move { Ok(response) }
        }
    });
    let ask = async |path| {
        let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
        within(send.write_all(&request_head(path))).await.unwrap();
        (send, recv)
    };
    let (_own_send, own) = ask("/s/Standing").await;
    let mut bulk = Vec::new();
    for calls in [CALLS, 2 * CALLS] {
        while bulk.len() < calls {
            bulk.push(ask("/s/Bulk").await);
        }
        until("all send", || begun.load(Ordering::Relaxed) == calls).await;
        if calls == CALLS {
            is_out_of_credit(&hub).await;
            speak(&say).await;
        }
    }
    let (_bulk_send, first) = bulk.remove(0);
    the_message_is_first(first, own).await;
}

#[tokio::test]
async fn the_heads_of_calls_go_on_before_what_follows_others() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent_with(little_credit()).await;
    let begun = Arc::default();
    let _before = flood(&link, &begun).await;
    is_out_of_credit(&agent).await;
    let _after = flood(&link, &begun).await;
    let (_bulk_send, mut bulk) = agent.accept().await;
    within(bulk.read_exact(&mut [0; READ])).await.unwrap();
    let head = request_head("/s/Bulk");
    for _ in 1..2 * CALLS {
        let (_send, mut recv) = agent.accept().await;
        let mut got = vec![0; head.len()];
        within(recv.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, head);
    }
}

/// Has the peer stop a call that waits for the link's credit, and for the link's own call, if that `speaks`.
async fn is_stopped_in_its_wait(speaks: bool) {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent_with(little_credit()).await;
    let begin = |request| {
        let link = link.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { drop(call(&link, request).await) }))
    };
    let (say, said) = channel();
    let mut own = request("/s/Standing", said);
    own.extensions_mut().insert(Standing);
    let _own = begin(own);
    let _own_streams = agent.accept().await;
    let (feed, body) = channel();
    let _call = begin(request("/s/Stopped", body));
    let (_call_send, mut stopped) = agent.accept().await;
    let _bulk = flood(&link, &Arc::default()).await;
    is_out_of_credit(&agent).await;
    if speaks {
        speak(&say).await;
    }
    speak(&feed).await;
    stopped.stop(VarInt::from_u32(0)).unwrap();
    within(feed.closed()).await;
}

#[tokio::test]
async fn a_call_without_credit_sees_that_it_is_stopped() {
    is_stopped_in_its_wait(false).await;
}

#[tokio::test]
async fn a_call_that_lets_the_link_s_own_go_first_sees_that_it_is_stopped() {
    is_stopped_in_its_wait(true).await;
}
