//! Limits that one end sets and the other keeps, or runs into.

use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;

use super::support::*;
use crate::rh3::settings::Settings;
use crate::{Body, BodyError, CallError, Carrier, Code, Delivered, Tuning};

by_each_carrier!(
    a_call_beyond_the_agent_s_limit_is_busy_until_another_ends,
    metadata_beyond_what_the_agent_takes_is_not_sent,
    metadata_beyond_what_the_hub_takes_is_not_sent_and_fails_its_call_only,
    trailers_beyond_the_limit_fail_their_call_only,
);

async fn hello(_: Request<Body>) -> Answer {
    Ok(Response::new(full("hello")))
}

fn header_limit(max_header_section: u32) -> Tuning {
    Tuning {
        max_header_section,
        ..Tuning::default()
    }
}

/// Metadata whose section is a little longer than `len` bytes.
fn long_value(len: usize) -> HeaderValue {
    HeaderValue::from_bytes(&vec![b'v'; len]).unwrap()
}

async fn a_call_beyond_the_agent_s_limit_is_busy_until_another_ends(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let tuning = Tuning {
        max_calls: 2,
        ..Tuning::default()
    };
    let echo = |request: Request<Body>| async move { Ok(Response::new(request.into_body())) };
    let (link, _serving) = hub.serve(tuning, echo).await;

    let (first_feed, first) = channel();
    let (_second_feed, second) = channel();
    let first = within(call(&link, request("/s/1", first))).await.unwrap();
    let _second = within(call(&link, request("/s/2", second))).await.unwrap();
    let error = within(call(&link, request("/s/3", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Busy), "{error}");
    assert_eq!(error.delivered(), Delivered::No);

    drop(first_feed);
    read(first.into_body()).await.unwrap();
    // The agent grants another with a packet of its own: the call waits for it.
    let response = within(call(&link, request("/s/4", full("again")))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "again");
}

async fn metadata_beyond_what_the_agent_takes_is_not_sent(by: Carrier) {
    let hub = Hub::by(by, Tuning::default());
    let (link, _serving) = hub.serve(header_limit(2000), hello).await;
    // Its settings are there once it has answered.
    let response = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    read(response.into_body()).await.unwrap();

    // On HTTP/2 it says that it takes more than it passes on.
    let advertised = if by == Carrier::Quic { 2000 } else { 4000 };
    let mut long = request("/s/1", Body::empty());
    long.headers_mut().insert("x-long", long_value(advertised));
    let error = within(call(&link, long)).await.unwrap_err();
    assert!(
        matches!(error, CallError::RequestTooLarge { limit, size } if limit == advertised as u64 && size > limit),
        "{error}"
    );
    assert_eq!(error.delivered(), Delivered::No);

    let response = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "hello");
}

async fn metadata_beyond_what_the_hub_takes_is_not_sent_and_fails_its_call_only(by: Carrier) {
    let hub = Hub::by(by, header_limit(2000));
    let long = |request: Request<Body>| async move {
        let mut response = Response::new(full("hello"));
        if request.uri().path() == "/s/Long" {
            response.headers_mut().insert("x-long", long_value(2000));
        }
        Ok(response)
    };
    let (link, _serving) = hub.serve(Tuning::default(), long).await;
    for _ in 0..2 {
        let error = within(call(&link, request("/s/Long", Body::empty())))
            .await
            .unwrap_err();
        let is_expected = match by {
            Carrier::Quic => matches!(error, CallError::Reset(Code::EXCESSIVE_LOAD)),
            Carrier::Tls | Carrier::WebSocket => matches!(error, CallError::ResponseTooLarge { limit: 2000 }),
        };
        assert!(is_expected, "{error}");
        assert_eq!(error.delivered(), Delivered::Maybe);
        let response = within(call(&link, request("/s/Short", Body::empty())))
            .await
            .unwrap();
        assert_eq!(read(response.into_body()).await.unwrap().0, "hello");
    }
}

#[tokio::test]
async fn metadata_that_a_foreign_agent_sends_beyond_the_limit_fails_its_call_only() {
    let hub = Hub::new(header_limit(2000));
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let mut long = fields(&[]);
    long.insert("x-long", long_value(2000));
    for too_long in [
        response_head(&long),
        // Refused from its length alone: nothing of it is waited for.
        [&[0x01][..], &(0x8000_0000_u32 | (1 << 29)).to_be_bytes()]
            .concat()
            .into(),
    ] {
        let answering = async {
            let (mut send, _recv) = agent.accept().await;
            within(send.write_all(&too_long)).await.unwrap();
            // The rest is not wanted.
            let stopped = within(send.stopped()).await.unwrap().unwrap();
            assert_eq!(stopped.into_inner(), Code::EXCESSIVE_LOAD.0);
        };
        let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
        let error = called.unwrap_err();
        assert!(
            matches!(error, CallError::ResponseTooLarge { limit: 2000 }),
            "{error}"
        );
    }

    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        send.write_all(&response_head(&fields(&[("grpc-status", "0")])))
            .await
            .unwrap();
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    assert_eq!(called.unwrap().headers(), &fields(&[("grpc-status", "0")]));
}

async fn trailers_beyond_the_limit_fail_their_call_only(by: Carrier) {
    let hub = Hub::by(by, header_limit(2000));
    let handler = |request: Request<Body>| async move {
        let len = if request.uri().path() == "/s/Long" {
            2000
        } else {
            1000
        };
        let mut trailers = fields(&[]);
        trailers.insert("x-long", long_value(len));
        Ok(Response::new(frames(vec![
            http_body::Frame::data("data".into()),
            http_body::Frame::trailers(trailers),
        ])))
    };
    let (link, _serving) = hub.serve(Tuning::default(), handler).await;
    let response = within(call(&link, request("/s/Long", Body::empty())))
        .await
        .unwrap();
    let error = read(response.into_body()).await.unwrap_err();
    assert!(
        matches!(&error, BodyError::Malformed(why) if by != Carrier::Quic || why.contains("longer than this end takes")),
        "{error}"
    );
    let response = within(call(&link, request("/s/Short", Body::empty())))
        .await
        .unwrap();
    assert_eq!(
        read(response.into_body()).await.unwrap().1.unwrap()["x-long"].len(),
        1000
    );
}

#[tokio::test]
async fn a_request_beyond_the_agent_s_limit_that_was_sent_all_the_same_fails_alone() {
    let (hub, agent) = bare_hub(header_limit(2000)).await;
    let _serving = serve(agent, hello);
    let _control = hub.control_with(&Settings::new(1 << 20)).await;

    let mut long = request("/s/1", Body::empty());
    long.headers_mut().insert("x-long", long_value(2000));
    let mut head = bytes::BytesMut::new();
    crate::rh3::head::encode_request(&long.into_parts().0, &mut head).unwrap();
    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    within(send.write_all(&head)).await.unwrap();
    let reset = within(recv.read_to_end(1000)).await.unwrap_err();
    let quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) = reset else {
        panic!("{reset}");
    };
    assert_eq!(code.into_inner(), Code::EXCESSIVE_LOAD.0);

    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")).await.unwrap();
    send.finish().unwrap();
    let response = within(recv.read_to_end(1000)).await.unwrap();
    assert!(response.ends_with(&data(b"hello")));
}

#[tokio::test]
async fn a_request_that_cannot_be_carried_says_why() {
    let (link, _serving, _hub) = linked(Carrier::Quic, hello).await;
    let mut connect = request("/s/1", Body::empty());
    *connect.method_mut() = http::Method::CONNECT;
    let error = within(call(&link, connect)).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Unsendable(why) if why.contains("CONNECT")),
        "{error}"
    );
    assert_eq!(error.delivered(), Delivered::No);
    let response = within(call(&link, request("/s/1", Body::empty()))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}
