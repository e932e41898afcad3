//! Calls that one side gives up: what the other side sees of it, and the codes on the wire.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body::Frame;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{Body, BodyError, CallError, Carrier, Code, Delivered, HubLink, Reset, Tuning};

by_each_carrier!(
    a_handler_that_gives_up_tells_its_code,
    a_handler_that_panics_resets_its_call_and_no_other,
    a_response_s_body_that_breaks_off_or_panics_tells_its_code,
);

/// More than a stream of bare quinn takes unread.
const LARGE: usize = 8 << 20;

/// The code with which the other end reset a stream. Its end in order is a failure of the test.
async fn was_reset(mut recv: quinn::RecvStream) -> Code {
    match within(recv.received_reset()).await.unwrap() {
        Some(code) => Code(code.into_inner()),
        None => panic!("the stream came to its end"),
    }
}

/// The code with which the other end stopped a stream.
async fn was_stopped(send: &quinn::SendStream) -> Code {
    Code(within(send.stopped()).await.unwrap().unwrap().into_inner())
}

fn calling(link: &HubLink, body: Body) -> AbortOnDropHandle<Result<Response<Body>, CallError>> {
    let link = link.clone();
    AbortOnDropHandle::new(tokio::spawn(
        async move { call(&link, request("/s/1", body)).await },
    ))
}

/// The head of the hub's request, so that its stream stands at the body.
async fn read_head(recv: &mut quinn::RecvStream) {
    let mut head = vec![0; request_head("/s/1").len()];
    within(recv.read_exact(&mut head)).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_both_ways() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    drop(call);
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    within(feed.closed()).await;
}

#[tokio::test]
async fn a_dropped_response_is_cancelled_both_ways() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (mut send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    send.write_all(&response_head(&fields(&[]))).await.unwrap();
    drop(within(call).await.unwrap().unwrap());
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    within(feed.closed()).await;
}

#[tokio::test]
async fn a_request_that_is_dropped_half_sent_never_looks_complete() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let call = calling(&link, full(pattern(LARGE)));
    let (send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    drop(call);
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
}

#[tokio::test]
async fn a_complete_request_is_not_taken_back_and_its_response_is_stopped() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let call = calling(&link, full("all"));
    let (send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    assert_eq!(within(recv.read_to_end(100)).await.unwrap(), data(b"all"));
    drop(call);
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
}

#[tokio::test]
async fn a_request_s_body_that_breaks_off_resets_with_its_code() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let broken = || Err(BodyError::Reset(Code::CONNECT_ERROR));

    // Before anything could be sent.
    let (feed, body) = channel();
    feed.send(broken()).await.unwrap();
    let call = calling(&link, body);
    let (send, recv) = agent.accept().await;
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
    assert_eq!(was_reset(recv).await, Code::CONNECT_ERROR);
    let error = within(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Reset(Code::CONNECT_ERROR)), "{error}");

    // Later.
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    feed.send(broken()).await.unwrap();
    assert_eq!(was_reset(recv).await, Code::CONNECT_ERROR);
    drop(call);
    assert_eq!(was_stopped(&send).await, Code::REQUEST_CANCELLED);
}

#[tokio::test]
async fn a_response_that_is_reset_gives_the_request_up_as_well() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (mut send, mut recv) = agent.accept().await;
    read_head(&mut recv).await;
    send.write_all(&response_head(&fields(&[]))).await.unwrap();
    let response = within(call).await.unwrap().unwrap();
    send.reset(0x107_u32.into()).unwrap();
    let error = read(response.into_body()).await.unwrap_err();
    assert!(matches!(error, BodyError::Reset(Code::EXCESSIVE_LOAD)), "{error}");
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    within(feed.closed()).await;
}

#[tokio::test]
async fn to_stop_the_request_after_a_complete_response_is_no_error() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    for _ in 0..3 {
        let call = calling(&link, full(pattern(LARGE)));
        let (mut send, mut recv) = agent.accept().await;
        read_head(&mut recv).await;
        recv.stop(0x100_u32.into()).unwrap();
        let response = [
            &response_head(&fields(&[("grpc-status", "0")]))[..],
            &data(b"early"),
        ]
        .concat();
        send.write_all(&response).await.unwrap();
        send.finish().unwrap();
        let response = within(call).await.unwrap().unwrap();
        assert_eq!(read(response.into_body()).await.unwrap().0, "early");
    }
    assert_eq!(agent.connection.close_reason(), None);
}

async fn a_handler_that_gives_up_tells_its_code(by: Carrier) {
    let (link, _serving, _hub) = linked(by, |request: Request<Body>| async move {
        Err(Reset(match request.uri().path() {
            "/s/Reject" => Code::REQUEST_REJECTED,
            _ => Code::CONNECT_ERROR,
        }))
    })
    .await;
    for body in [full("small"), full(pattern(LARGE))] {
        let error = within(call(&link, request("/s/1", body))).await.unwrap_err();
        assert!(matches!(error, CallError::Reset(Code::CONNECT_ERROR)), "{error}");
        assert_eq!(error.delivered(), Delivered::Maybe);
    }
    let error = within(call(&link, request("/s/Reject", full("small"))))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Refused), "{error}");
    assert_eq!(error.delivered(), Delivered::No);
}

async fn a_handler_that_panics_resets_its_call_and_no_other(by: Carrier) {
    let (feed, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let (link, _serving, _hub) = linked(by, move |request: Request<Body>| {
        let body = body.lock().unwrap().take();
        async move {
            match request.uri().path() {
                "/s/Panic" => panic!("as a handler may"),
                _ => Ok(Response::new(body.unwrap_or_else(Body::empty))),
            }
        }
    })
    .await;
    let running = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    let error = within(call(&link, request("/s/Panic", full("x"))))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Reset(Code::INTERNAL_ERROR)), "{error}");
    feed.send(Ok(Frame::data("on".into()))).await.unwrap();
    drop(feed);
    assert_eq!(read(running.into_body()).await.unwrap().0, "on");
    within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
}

async fn a_response_s_body_that_breaks_off_or_panics_tells_its_code(by: Carrier) {
    let panics = || -> Result<Frame<bytes::Bytes>, BodyError> { panic!("as a body may") };
    let (link, _serving, _hub) = linked(by, move |request: Request<Body>| async move {
        let head = futures_util::stream::iter([Ok(Frame::data("first".into()))]);
        let path = request.uri().path().to_owned();
        let rest = futures_util::stream::once(async move {
            // The head and the first message are on their way, or even there.
            next_data(&mut request.into_body()).await.unwrap();
            match path.as_str() {
                "/s/Panic" => panics(),
                _ => Err(BodyError::Reset(Code(0x1234))),
            }
        });
        let stream = futures_util::StreamExt::chain(head, rest);
        Ok(Response::new(Body::new(http_body_util::StreamBody::new(stream))))
    })
    .await;
    let unknown = match by {
        Carrier::Quic => Code(0x1234),
        // HTTP/2 has a code for it that says as much.
        Carrier::Tls | Carrier::WebSocket => Code::GENERAL_PROTOCOL_ERROR,
    };
    for (path, expected) in [("/s/Break", unknown), ("/s/Panic", Code::INTERNAL_ERROR)] {
        let (feed, body) = channel();
        let mut response = within(call(&link, request(path, body)))
            .await
            .unwrap()
            .into_body();
        assert_eq!(next_data(&mut response).await.unwrap(), "first");
        feed.send(Ok(Frame::data("go".into()))).await.unwrap();
        let error = read(response).await.unwrap_err();
        assert!(
            matches!(error, BodyError::Reset(code) if code == expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_reset_tells_the_handler_the_code() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let (seen, mut events) = tokio::sync::mpsc::unbounded_channel();
    let _serving = serve(agent, move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            // The head and the first message are here.
            next_data(&mut body).await.unwrap();
            seen.send(None).unwrap();
            seen.send(Some(read(body).await.unwrap_err())).unwrap();
            Err(Reset(Code::CONNECT_ERROR))
        }
    });
    let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
    let begun = [&request_head("/s/1")[..], &data(b"first")].concat();
    send.write_all(&begun).await.unwrap();
    assert!(within(events.recv()).await.unwrap().is_none());
    send.reset(0x10d_u32.into()).unwrap();
    let error = within(events.recv()).await.unwrap().unwrap();
    assert!(
        matches!(error, BodyError::Reset(Code::REQUEST_INCOMPLETE)),
        "{error}"
    );
    assert_eq!(was_reset(recv).await, Code::CONNECT_ERROR);
}

#[tokio::test]
async fn a_request_that_is_reset_before_its_head_is_reset_back() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let _serving = serve(agent, |_| async { panic!("there was no request") });
    let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")[..5]).await.unwrap();
    send.reset(0x10c_u32.into()).unwrap();
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    assert_eq!(hub.connection.close_reason(), None);
}

#[tokio::test]
async fn a_response_that_is_stopped_drops_the_handler_or_its_body() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let started = Arc::new(Notify::new());
    let (feed, body) = channel();
    let (held, never) = channel();
    let (body, never) = (
        Arc::new(Mutex::new(Some(body))),
        Arc::new(Mutex::new(Some(never))),
    );
    let _serving = serve(agent, {
        let started = Arc::clone(&started);
        move |request: Request<Body>| {
            let (body, never, started) = (
                body.lock().unwrap().take(),
                Arc::clone(&never),
                Arc::clone(&started),
            );
            async move {
                if request.uri().path() == "/s/Stream" {
                    return Ok(Response::new(body.unwrap()));
                }
                let _held = never.lock().unwrap().take();
                started.notify_one();
                std::future::pending().await
            }
        }
    });
    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/Stream")).await.unwrap();
    let mut first = [0];
    within(recv.read_exact(&mut first)).await.unwrap();
    recv.stop(0x10c_u32.into()).unwrap();
    within(feed.closed()).await;
    // Whoever stops a stream of the agent's is told by a code of HTTP/3 that the request is not read either.
    assert!(was_stopped(&send).await.name().is_some());

    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/Wait")).await.unwrap();
    within(started.notified()).await;
    recv.stop(0x10c_u32.into()).unwrap();
    within(held.closed()).await;
    assert!(was_stopped(&send).await.name().is_some());
}

#[tokio::test]
async fn calls_whose_serving_is_dropped_are_reset() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let (feed, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")).await.unwrap();
    {
        let mut serving = std::pin::pin!(agent.serve(move |_| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok(Response::new(body)) }
        }));
        let mut first = [0];
        tokio::select! {
            lost = &mut serving => panic!("{lost}"),
            read = within(recv.read_exact(&mut first)) => read.unwrap(),
        }
    }
    within(feed.closed()).await;
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    assert!(was_stopped(&send).await.name().is_some());
}

#[tokio::test]
async fn calls_that_were_accepted_and_never_ran_are_reset() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")).await.unwrap();
    {
        // Each call has a clone of the handler, from when it is accepted.
        let clones = Arc::new(());
        let handler = {
            let clones = Arc::clone(&clones);
            move |_| {
                let _clones = &clones;
                std::future::pending::<Answer>()
            }
        };
        let mut serving = std::pin::pin!(agent.serve(handler));
        while Arc::strong_count(&clones) < 3 {
            tokio::task::yield_now().await;
            assert!(futures_util::poll!(&mut serving).is_pending());
        }
    }
    assert_eq!(was_reset(recv).await, Code::REQUEST_CANCELLED);
    assert!(was_stopped(&send).await.name().is_some());
}
