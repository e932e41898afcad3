//! Calls of every kind between our two ends.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};

use super::support::*;
use crate::{Body, CallError, Carrier};

by_each_carrier!(
    a_unary_call_arrives_and_returns_byte_for_byte,
    the_response_s_messages_come_one_by_one,
    the_request_s_messages_come_one_by_one_and_one_response_ends_the_call,
    both_directions_take_turns_and_each_ends_by_itself,
    the_request_may_end_long_before_the_response_does,
    the_response_s_head_may_come_before_any_of_the_request,
    a_response_that_ends_before_the_request_is_read_is_complete,
    messages_larger_than_every_window_pass_both_ways_at_once,
    a_message_without_a_body_is_known_for_one_at_once,
    trailers_without_data_and_empty_data_are_kept_apart_from_no_body,
    a_response_to_head_declares_a_length_that_does_not_follow,
    many_calls_at_once_do_not_mix,
);

/// Larger than any window of one stream.
const LARGE: usize = 8 << 20;

/// Sends every request's body back as it comes.
async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

async fn a_unary_call_arrives_and_returns_byte_for_byte(by: Carrier) {
    let metadata = fields(&[
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-twice", "first"),
        ("key-bin", "AAEC,/w"),
        ("x-between", ""),
        ("x-twice", "second, third"),
        ("grpc-timeout", "20S"),
        ("x-twice", "first"),
    ]);
    let answered = fields(&[("x-r", "b"), ("r-bin", "_-=="), ("x-r", "a")]);
    let trailers = fields(&[
        ("grpc-status", "0"),
        ("t-bin", "/+8"),
        ("x-t", "2"),
        ("x-t", "1"),
        ("grpc-message", "a%20b"),
    ]);
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");

    let seen = Arc::new(Mutex::new(None));
    let (link, _serving, _hub) = linked(by, {
        let (seen, answered, trailers, message) = (
            Arc::clone(&seen),
            answered.clone(),
            trailers.clone(),
            message.clone(),
        );
        move |request: Request<Body>| {
            let (seen, answered, trailers, message) = (
                Arc::clone(&seen),
                answered.clone(),
                trailers.clone(),
                message.clone(),
            );
            async move {
                let (parts, body) = request.into_parts();
                let body = read(body).await.unwrap();
                *seen.lock().unwrap() = Some((parts, body));
                let mut response =
                    Response::new(frames(vec![Frame::data(message), Frame::trailers(trailers)]));
                *response.headers_mut() = answered;
                *response.status_mut() = StatusCode::ACCEPTED;
                Ok(response)
            }
        }
    })
    .await;

    let mut request = request("/a.B/C?d=%20e", full(message.clone()));
    *request.headers_mut() = metadata.clone();
    *request.method_mut() = Method::PUT;
    let response = within(call(&link, request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(
        response.version(),
        match by {
            Carrier::Quic => Version::HTTP_3,
            Carrier::Tls | Carrier::WebSocket => Version::HTTP_2,
        }
    );
    assert_eq!(in_order(response.headers()), in_order(&answered));
    let (body, got) = read(response.into_body()).await.unwrap();
    assert_eq!(body, message);
    assert_eq!(in_order(&got.unwrap()), in_order(&trailers));

    let (parts, (body, request_trailers)) = seen.lock().unwrap().take().unwrap();
    assert_eq!(parts.method, Method::PUT);
    assert_eq!(parts.uri, format!("https://{HUB}/a.B/C?d=%20e").as_str());
    assert_eq!(in_order(&parts.headers), in_order(&metadata));
    assert_eq!((body, request_trailers), (message, None));
}

/// Names and values in the order in which a peer would be sent them.
fn in_order(fields: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let pairs = fields.iter();
    pairs
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect()
}

async fn the_response_s_messages_come_one_by_one(by: Carrier) {
    let (feed, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let (link, _serving, _hub) = linked(by, move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok(Response::new(body)) }
    })
    .await;

    let mut response = within(call(&link, request("/s/List", Body::empty())))
        .await
        .unwrap()
        .into_body();
    // Each is read before the next is sent, so nothing on the way waits for more.
    for message in 0..20_u8 {
        let message = Bytes::from(vec![message; usize::from(message) * 500 + 1]);
        feed.send(Ok(Frame::data(message.clone()))).await.unwrap();
        let mut got = Vec::new();
        while got.len() < message.len() {
            got.extend(next_data(&mut response).await.unwrap());
        }
        assert_eq!(got, message);
    }
    feed.send(Ok(Frame::trailers(fields(&[("grpc-status", "5")]))))
        .await
        .unwrap();
    let (rest, trailers) = read(response).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(trailers.unwrap(), fields(&[("grpc-status", "5")]));
}

async fn the_request_s_messages_come_one_by_one_and_one_response_ends_the_call(by: Carrier) {
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let (link, _serving, _hub) = linked(by, move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(data) = next_data(&mut body).await {
                total += data.len();
                seen.send(total).unwrap();
            }
            Ok(Response::new(full(total.to_string())))
        }
    })
    .await;

    let (feed, body) = channel();
    let call = call(&link, request("/s/Record", body));
    let sending = async move {
        let mut total = 0;
        for len in [1, 5, 20_000, 300] {
            feed.send(Ok(Frame::data(pattern(len)))).await.unwrap();
            total += len;
            while within(arrived.recv()).await.unwrap() < total {}
        }
        total
    };
    let (response, total) = within(async { tokio::join!(call, sending) }).await;
    let (body, trailers) = read(response.unwrap().into_body()).await.unwrap();
    assert_eq!((body, trailers), (Bytes::from(total.to_string()), None));
}

async fn both_directions_take_turns_and_each_ends_by_itself(by: Carrier) {
    let (link, _serving, _hub) = linked(by, echo).await;
    let (feed, body) = channel();
    let mut response = within(call(&link, request("/s/Chat", body)))
        .await
        .unwrap()
        .into_body();
    for turn in 0..10_u8 {
        let message = Bytes::from(vec![turn; 100]);
        feed.send(Ok(Frame::data(message.clone()))).await.unwrap();
        assert_eq!(next_data(&mut response).await.unwrap(), message);
    }
    // The request's trailers are its end, the echo's are the response's.
    feed.send(Ok(Frame::trailers(fields(&[("x-last", "1")]))))
        .await
        .unwrap();
    let (rest, trailers) = read(response).await.unwrap();
    assert_eq!((rest, trailers), (Bytes::new(), Some(fields(&[("x-last", "1")]))));
}

async fn the_request_may_end_long_before_the_response_does(by: Carrier) {
    let (feed, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let (link, _serving, _hub) = linked(by, move |request: Request<Body>| {
        let body = body.lock().unwrap().take().unwrap();
        async move {
            assert_eq!(read(request.into_body()).await.unwrap().0, "ask");
            Ok(Response::new(body))
        }
    })
    .await;
    let mut response = within(call(&link, request("/s/List", full("ask"))))
        .await
        .unwrap()
        .into_body();
    feed.send(Ok(Frame::data("answer".into()))).await.unwrap();
    assert_eq!(next_data(&mut response).await.unwrap(), "answer");
    drop(feed);
    assert_eq!(read(response).await.unwrap(), (Bytes::new(), None));
}

async fn the_response_s_head_may_come_before_any_of_the_request(by: Carrier) {
    let (link, _serving, _hub) = linked(by, echo).await;
    let (feed, body) = channel();
    let response = within(call(&link, request("/s/Chat", body))).await.unwrap();
    feed.send(Ok(Frame::data("late".into()))).await.unwrap();
    drop(feed);
    assert_eq!(read(response.into_body()).await.unwrap(), ("late".into(), None));
}

async fn a_response_that_ends_before_the_request_is_read_is_complete(by: Carrier) {
    let (link, _serving, _hub) = linked(by, |request: Request<Body>| async move {
        drop(request);
        Ok(Response::new(frames(vec![
            Frame::data("early".into()),
            Frame::trailers(fields(&[("grpc-status", "7")])),
        ])))
    })
    .await;
    // More than fits in any window, so that the request is certainly under way.
    let response = within(call(&link, request("/s/Record", full(pattern(LARGE)))))
        .await
        .unwrap();
    let (body, trailers) = read(response.into_body()).await.unwrap();
    assert_eq!(body, "early");
    assert_eq!(trailers.unwrap(), fields(&[("grpc-status", "7")]));

    // And the same where the request stands still rather than flows.
    let (feed, body) = channel();
    let response = within(call(&link, request("/s/Record", body))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "early");
    within(feed.closed()).await;
}

async fn messages_larger_than_every_window_pass_both_ways_at_once(by: Carrier) {
    let (link, _serving, _hub) = linked(by, echo).await;
    let message = pattern(LARGE);
    let response = within(call(&link, request("/s/Echo", full(message.clone()))))
        .await
        .unwrap();
    assert!(
        read(response.into_body()).await.unwrap().0 == message,
        "not the bytes that were sent"
    );
}

async fn a_message_without_a_body_is_known_for_one_at_once(by: Carrier) {
    let (link, _serving, _hub) = linked(by, |request: Request<Body>| async move {
        // Known from the head alone: nothing has been read.
        let is_empty = request.body().is_end_stream();
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = fields(&[("grpc-status", if is_empty { "12" } else { "13" })]);
        Ok(response)
    })
    .await;
    let response = within(call(&link, request("/s/None", Body::empty())))
        .await
        .unwrap();
    if by == Carrier::Quic {
        // Elsewhere its end is a frame of its own, because some servers of gRPC wait for one.
        assert_eq!(response.headers(), &fields(&[("grpc-status", "12")]));
    }
    assert!(response.body().is_end_stream());
    assert_eq!(read(response.into_body()).await.unwrap(), (Bytes::new(), None));
}

async fn trailers_without_data_and_empty_data_are_kept_apart_from_no_body(by: Carrier) {
    let (link, _serving, _hub) = linked(by, echo).await;
    let only_trailers = frames(vec![Frame::trailers(fields(&[("x-end", "")]))]);
    let response = within(call(&link, request("/s/Echo", only_trailers)))
        .await
        .unwrap();
    assert!(!response.body().is_end_stream());
    assert_eq!(
        read(response.into_body()).await.unwrap(),
        (Bytes::new(), Some(fields(&[("x-end", "")])))
    );

    let empty_data = frames(vec![Frame::data(Bytes::new()), Frame::data(Bytes::new())]);
    let response = within(call(&link, request("/s/Echo", empty_data))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), (Bytes::new(), None));
}

async fn a_response_to_head_declares_a_length_that_does_not_follow(by: Carrier) {
    let (link, _serving, _hub) = linked(by, |_| async {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = fields(&[("content-length", "5")]);
        Ok(response)
    })
    .await;
    let mut head = request("/s/Any", Body::empty());
    *head.method_mut() = Method::HEAD;
    let response = within(call(&link, head)).await.unwrap();
    assert_eq!(response.headers(), &fields(&[("content-length", "5")]));
    assert_eq!(read(response.into_body()).await.unwrap(), (Bytes::new(), None));

    // To any other request it is a promise that was not kept.
    let response = within(call(&link, request("/s/Any", Body::empty()))).await;
    let broken = match response {
        Ok(response) => {
            assert!(
                !response.body().is_end_stream(),
                "the missing bytes would go unseen"
            );
            read(response.into_body()).await.unwrap_err().to_string()
        }
        Err(CallError::Malformed(reason)) => reason,
        Err(other) => panic!("{other}"),
    };
    let why = match by {
        Carrier::Quic => "5 bytes before its content-length",
        Carrier::Tls | Carrier::WebSocket => "protocol error",
    };
    assert!(broken.contains(why), "{broken}");
}

async fn many_calls_at_once_do_not_mix(by: Carrier) {
    let (link, _serving, _hub) = linked(by, echo).await;
    let calls = (0..200_usize).map(|number| {
        let link = link.clone();
        async move {
            let message = Bytes::from(format!("{number:04}").repeat(number * 50));
            let response = call(&link, request("/s/Echo", full(message.clone())))
                .await
                .unwrap();
            assert_eq!(read(response.into_body()).await.unwrap().0, message);
        }
    });
    within(futures_util::future::join_all(calls)).await;
}
