//! What a call costs in frames and packets.

use http::Response;
use http_body::Frame;
use http_body_util::BodyExt as _;

use super::support::*;
use crate::{Body, Tuning};

const CALLS: u64 = 50;

fn message() -> bytes::Bytes {
    data(&[b'm'; 100])
}

#[tokio::test]
async fn head_body_and_end_of_a_small_request_are_one_stream_frame() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    // The hub's own control stream is counted no more.
    let _hub_control = within(agent.connection.accept_uni()).await.unwrap();
    let before = agent.connection.stats().frame_rx;
    for _ in 0..CALLS {
        let answering = async {
            let (mut send, mut recv) = agent.accept().await;
            let request = within(recv.read_to_end(10_000)).await.unwrap();
            assert!(request.ends_with(&message()));
            send.write_all(&response_head(&fields(&[("grpc-status", "0")])))
                .await
                .unwrap();
            send.finish().unwrap();
        };
        let call = call(&link, request("/s/1", full(vec![b'm'; 100])));
        let (response, ()) = within(async { tokio::join!(call, answering) }).await;
        read(response.unwrap().into_body()).await.unwrap();
    }
    let after = agent.connection.stats().frame_rx;
    assert_eq!(after.stream - before.stream, CALLS);
    assert_eq!((after.reset_stream, after.stop_sending), (0, 0));
}

#[tokio::test]
async fn head_body_and_trailers_of_a_small_response_are_one_stream_frame() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let trailers = || Frame::trailers(fields(&[("grpc-status", "0")]));
    let _serving = serve(agent, move |request: http::Request<Body>| async move {
        request.into_body().collect().await.unwrap();
        let message = Frame::data(vec![b'm'; 100].into());
        Ok(Response::new(frames(vec![message, trailers()])))
    });
    let _control = hub.control().await;
    let _agent_control = within(hub.connection.accept_uni()).await.unwrap();
    let before = hub.connection.stats().frame_rx;
    for _ in 0..CALLS {
        let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
        send.write_all(&[&request_head("/s/1")[..], &message()].concat())
            .await
            .unwrap();
        send.finish().unwrap();
        let response = within(recv.read_to_end(10_000)).await.unwrap();
        assert!(response.windows(message().len()).any(|part| part == message()));
    }
    let after = hub.connection.stats().frame_rx;
    assert_eq!(after.stream - before.stream, CALLS);
    assert_eq!((after.reset_stream, after.stop_sending), (0, 0));
}

#[tokio::test]
async fn a_message_waits_for_no_other() {
    // Two pieces with a pause between them are two frames: the first one does not wait.
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let (feed, body) = channel();
    let _call = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = call(&link, request("/s/1", body)).await;
    }));
    let (_send, mut recv) = agent.accept().await;
    let mut head = vec![0; request_head("/s/1").len()];
    within(recv.read_exact(&mut head)).await.unwrap();
    for _ in 0..10 {
        feed.send(Ok(Frame::data(vec![b'm'; 100].into()))).await.unwrap();
        let mut got = vec![0; message().len()];
        within(recv.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, message());
    }
}
