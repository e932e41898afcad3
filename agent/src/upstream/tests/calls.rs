//! What passes, and what cancels.

use adit_transport::{BodyError, Code, Reset};
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::server::Builder;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::support::{Server, answer, collect, full, get, head, request, soon, streamed, trailers};

#[tokio::test]
async fn a_call_passes_as_it_is() {
    let (seen, mut requests) = mpsc::channel(1);
    let server = Server::start(Builder::new(), move |(request, mut respond)| {
        let seen = seen.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let mut data = Vec::new();
            while let Some(chunk) = body.data().await {
                data.extend_from_slice(&chunk.unwrap());
            }
            let tail = body.trailers().await.unwrap();
            seen.send((head, data, tail)).await.unwrap();
            let response = Response::builder()
                .header("b", "1")
                .header("a", "2")
                .header("b", "3")
                .body(())
                .unwrap();
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(Bytes::from_static(b"\0\0\0\0\x02ok"), false)
                .unwrap();
            let mut tail = trailers();
            tail.insert("detail-bin", HeaderValue::from_static("AAEC"));
            send.send_trailers(tail).unwrap();
        }
    })
    .await;

    let (feed, body) = streamed();
    let mut sent = request("/a.B/C?d=e", body);
    sent.headers_mut()
        .insert("user-agent", HeaderValue::from_static("grpc-python/1"));
    for (name, value) in [
        ("x", "1"),
        ("y-bin", "AA,AQ=="),
        ("x", "2"),
        ("grpc-timeout", "1S"),
    ] {
        sent.headers_mut().append(name, HeaderValue::from_static(value));
    }
    let expected: Vec<_> = sent
        .headers()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    feed.send(Ok(Frame::data(Bytes::from_static(b"one"))))
        .await
        .unwrap();
    feed.send(Ok(Frame::data(Bytes::new()))).await.unwrap();
    feed.send(Ok(Frame::data(Bytes::from_static(b"two"))))
        .await
        .unwrap();
    feed.send(Ok(Frame::trailers(trailers()))).await.unwrap();
    let response = soon(server.upstream().call(sent)).await.unwrap();

    let (head, data, tail) = soon(requests.recv()).await.unwrap();
    assert_eq!(head.method, "POST");
    assert_eq!(
        head.uri.to_string(),
        format!("http://{}/a.B/C?d=e", server.address)
    );
    let got: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert_eq!(got, expected);
    assert_eq!(data, b"onetwo");
    assert_eq!(tail.unwrap(), trailers());

    let names: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(names, ["b: 1", "b: 3", "a: 2"]);
    assert!(!response.body().is_end_stream());
    let (data, tail) = soon(collect(response.into_body())).await.unwrap();
    assert_eq!(&data[..], b"\0\0\0\0\x02ok");
    assert_eq!(tail.len(), 2);
    assert_eq!(tail["detail-bin"], "AAEC");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_past_every_window() {
    const SIZE: usize = 40 << 20;
    let server = Server::start(Builder::new(), |(request, mut respond)| async move {
        let mut body = request.into_body();
        let mut send = respond.send_response(head(), false).unwrap();
        while let Some(chunk) = body.data().await {
            let mut chunk = chunk.unwrap();
            body.flow_control().release_capacity(chunk.len()).unwrap();
            while !chunk.is_empty() {
                send.reserve_capacity(chunk.len());
                let room = poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                send.send_data(chunk.split_to(room.min(chunk.len())), false)
                    .unwrap();
            }
        }
        send.send_trailers(trailers()).unwrap();
    })
    .await;
    let response = soon(server.upstream().call(request("/a.B/C", full(vec![7; SIZE]))))
        .await
        .unwrap();
    let (data, tail) = soon(collect(response.into_body())).await.unwrap();
    assert_eq!(data.len(), SIZE);
    assert_eq!(tail["grpc-status"], "0");
}

#[tokio::test]
async fn trailers_only_stays_trailers_only() {
    // When the request has not ended by then, a reset with NO_ERROR follows the answer.
    let server = Server::start(Builder::new(), |(_request, mut respond)| async move {
        let response = Response::builder().header("grpc-status", "5").body(()).unwrap();
        respond.send_response(response, true).unwrap();
    })
    .await;
    let upstream = server.upstream();
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["grpc-status"], "5");

    let (_feed, body) = streamed();
    let response = soon(upstream.call(request("/a.B/Early", body))).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(
        soon(collect(response.into_body())).await.unwrap(),
        (Bytes::new(), HeaderMap::new())
    );
}

#[tokio::test]
async fn a_request_without_messages_ends_in_a_data_frame() {
    let server = Server::start(Builder::new(), |(request, mut respond)| async move {
        // What the head had ended would have no frame at all.
        let first = request.into_body().data().await;
        let empty = matches!(first, Some(Ok(data)) if data.is_empty());
        let response = Response::builder().header("grpc-status", if empty { "0" } else { "2" });
        respond.send_response(response.body(()).unwrap(), true).unwrap();
    })
    .await;
    let response = soon(server.upstream().call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "0");
}

/// HTTP/2 error codes, and what each becomes. `None`: a status, for want of a code.
const RESETS: [(u32, Option<Code>); 15] = [
    (0x0, Some(Code::NO_ERROR)),
    (0x1, Some(Code::GENERAL_PROTOCOL_ERROR)),
    (0x2, Some(Code::INTERNAL_ERROR)),
    (0x3, Some(Code::GENERAL_PROTOCOL_ERROR)),
    (0x4, Some(Code::SETTINGS_ERROR)),
    (0x5, Some(Code::GENERAL_PROTOCOL_ERROR)),
    (0x6, Some(Code::FRAME_ERROR)),
    (0x7, Some(Code::REQUEST_REJECTED)),
    (0x8, Some(Code::REQUEST_CANCELLED)),
    (0x9, Some(Code::GENERAL_PROTOCOL_ERROR)),
    (0xa, Some(Code::CONNECT_ERROR)),
    (0xb, Some(Code::EXCESSIVE_LOAD)),
    (0xc, None),
    (0xd, Some(Code::GENERAL_PROTOCOL_ERROR)),
    (0xbeef, Some(Code::GENERAL_PROTOCOL_ERROR)),
];

#[tokio::test]
async fn an_upstreams_reset_keeps_its_meaning() {
    let server = Server::start(Builder::new(), |(request, mut respond)| async move {
        let (place, code) = request
            .uri()
            .path()
            .strip_prefix("/reset/")
            .unwrap()
            .split_once('/')
            .unwrap();
        let reason = Reason::from(code.parse::<u32>().unwrap());
        if place == "head" {
            respond.send_reset(reason);
            return;
        }
        let mut send = respond.send_response(head(), false).unwrap();
        send.send_data(Bytes::from_static(b"x"), false).unwrap();
        // A reset overtakes data that waits, so the client says when it has it.
        let mut body: RecvStream = request.into_body();
        let _ = body.data().await;
        send.send_reset(reason);
    })
    .await;
    let upstream = server.upstream();
    for (number, expected) in RESETS {
        let before = soon(upstream.call(get(&format!("/reset/head/{number}")))).await;
        match expected {
            Some(code) => assert_eq!(before.unwrap_err(), Reset(code), "{number:#x} before the head"),
            None => assert_eq!(before.unwrap().headers()["grpc-status"], "7"),
        }

        let (feed, body) = streamed();
        let response = soon(upstream.call(request(&format!("/reset/body/{number}"), body)))
            .await
            .unwrap();
        let mut body = response.into_body();
        assert_eq!(
            soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(),
            "x"
        );
        feed.send(Ok(Frame::data(Bytes::from_static(b"go on"))))
            .await
            .unwrap();
        match (expected, soon(collect(body)).await) {
            (Some(code), Err(BodyError::Reset(got))) => assert_eq!(got, code, "{number:#x} in the body"),
            (None, Ok((_, tail))) => {
                assert_eq!(tail["grpc-status"], "7");
                assert_eq!(tail["adit-error"], "upstream-protocol");
            }
            (_, other) => panic!("{number:#x} in the body: {other:?}"),
        }
    }
    assert_eq!(server.connections(), 1, "a reset ends its call only");
}

/// A server that reports the code of the reset that each call ends with. It reads no request, and sends a head and one
/// chunk first unless the path says `/a.B/Silent`.
async fn watching() -> (Server, mpsc::Receiver<Reason>, mpsc::Receiver<()>) {
    let (report, resets) = mpsc::channel(1);
    let (arrive, arrived) = mpsc::channel(8);
    let server = Server::start(Builder::new(), move |(request, mut respond)| {
        let (report, arrive) = (report.clone(), arrive.clone());
        async move {
            arrive.send(()).await.unwrap();
            let reason = if request.uri().path() == "/a.B/Silent" {
                poll_fn(|cx| respond.poll_reset(cx)).await
            } else {
                let mut send = respond.send_response(head(), false).unwrap();
                send.send_data(Bytes::from_static(b"x"), false).unwrap();
                poll_fn(|cx| send.poll_reset(cx)).await
            };
            report.send(reason.unwrap()).await.unwrap();
        }
    })
    .await;
    (server, resets, arrived)
}

#[tokio::test]
async fn dropping_the_future_cancels() {
    let (server, mut resets, mut arrived) = watching().await;
    let upstream = server.upstream();
    let (_feed, open) = streamed();
    for body in [full("whole"), open] {
        let call = tokio::spawn({
            let upstream = upstream.clone();
            async move { upstream.call(request("/a.B/Silent", body)).await }
        });
        soon(arrived.recv()).await.unwrap();
        call.abort();
        assert_eq!(soon(resets.recv()).await.unwrap(), Reason::CANCEL);
    }
}

#[tokio::test]
async fn dropping_the_responses_body_cancels() {
    let (server, mut resets, _arrived) = watching().await;
    let upstream = server.upstream();
    let (_idle, open) = streamed();
    // The last one fills the upstream's window: nothing of it can be sent when the call is cancelled.
    for body in [full("whole"), open, full(vec![0; 4 << 20])] {
        let mut response = soon(upstream.call(request("/a.B/C", body))).await.unwrap();
        assert!(
            soon(response.body_mut().frame())
                .await
                .unwrap()
                .unwrap()
                .is_data()
        );
        drop(response);
        assert_eq!(soon(resets.recv()).await.unwrap(), Reason::CANCEL);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_request_that_is_given_up_cancels() {
    let (server, mut resets, mut arrived) = watching().await;
    let upstream = server.upstream();
    let given_up = || Err(BodyError::Reset(Code::EXCESSIVE_LOAD));

    let (feed, body) = streamed();
    let call = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.call(request("/a.B/Silent", body)).await }
    });
    soon(arrived.recv()).await.unwrap();
    feed.send(given_up()).await.unwrap();
    assert_eq!(soon(resets.recv()).await.unwrap(), Reason::CANCEL);
    assert_eq!(
        soon(call).await.unwrap().unwrap_err(),
        Reset(Code::EXCESSIVE_LOAD)
    );

    let (feed, body) = streamed();
    let response = soon(upstream.call(request("/a.B/C", body))).await.unwrap();
    feed.send(given_up()).await.unwrap();
    assert_eq!(soon(resets.recv()).await.unwrap(), Reason::CANCEL);
    let end = soon(collect(response.into_body())).await.unwrap_err();
    assert!(
        matches!(end, BodyError::Reset(Code::REQUEST_CANCELLED)),
        "{end:?}"
    );
}

#[tokio::test]
async fn long_metadata_fails_its_own_call_only() {
    let server = Server::start(Builder::new(), |(request, mut respond)| async move {
        let (place, size) = request
            .uri()
            .path()
            .strip_prefix('/')
            .unwrap()
            .split_once('/')
            .unwrap();
        if place == "answer" {
            // Ends when the client says so: after the others have failed.
            let mut body = request.into_body();
            while body.data().await.is_some() {}
            return answer((http::Request::new(body), respond), "neighbour").await;
        }
        let value = |size: usize| HeaderValue::from_bytes(&vec![b'a'; size]).unwrap();
        let long = |mut map: HeaderMap| {
            let mut left: usize = size.parse().unwrap();
            for number in 0.. {
                let part = left.min(32 << 10);
                map.append(
                    HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap(),
                    value(part),
                );
                left -= part;
                if left == 0 {
                    break;
                }
            }
            map
        };
        let mut response = head();
        if place == "head" {
            *response.headers_mut() = long(trailers());
            respond.send_response(response, true).unwrap();
        } else {
            let mut send = respond.send_response(response, false).unwrap();
            send.send_trailers(long(trailers())).unwrap();
        }
    })
    .await;
    let upstream = server.upstream();
    let (feed, body) = streamed();
    let neighbour = tokio::spawn({
        let upstream = upstream.clone();
        async move {
            collect(
                upstream
                    .call(request("/answer/0", body))
                    .await
                    .unwrap()
                    .into_body(),
            )
            .await
        }
    });

    let response = soon(upstream.call(get("/head/102400"))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "0");
    let response = soon(upstream.call(get("/trailers/102400"))).await.unwrap();
    let (_, tail) = soon(collect(response.into_body())).await.unwrap();
    assert_eq!(tail["grpc-status"], "0");
    assert!(tail.contains_key("x-3"));

    // 140 KiB is above this limit, 2 MiB above h2's own.
    for size in [140 << 10, 2 << 20] {
        let response = soon(upstream.call(get(&format!("/head/{size}")))).await.unwrap();
        assert_eq!(response.headers()["adit-error"], "upstream-protocol", "{size}");
        assert_eq!(response.headers()["grpc-status"], "13");
        assert!(!response.headers().contains_key("x-0"));
    }
    let response = soon(upstream.call(get("/trailers/143360"))).await.unwrap();
    let (_, tail) = soon(collect(response.into_body())).await.unwrap();
    assert_eq!(tail["adit-error"], "upstream-protocol");
    assert!(
        tail["grpc-message"].to_str().unwrap().contains("131072"),
        "{tail:?}"
    );

    drop(feed);
    let (data, tail) = soon(neighbour).await.unwrap().unwrap();
    assert_eq!(
        (&data[..], &tail["grpc-status"]),
        (&b"neighbour"[..], &HeaderValue::from_static("0"))
    );
    assert_eq!(server.connections(), 1);
}
