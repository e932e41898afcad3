//! GOAWAY, written by hand: the `h3` crate knows the ids of client-initiated streams only.

use bytes::BytesMut;
use http::Response;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::rh3::frame::put_goaway;
use crate::{Body, CallError, Code, Delivered, HubLink, LinkError, Tuning};

/// The ids of the hub's first streams (RFC 9000 §2.1: bidirectional, initiated by the server of QUIC).
const FIRST: u64 = 1;
const SECOND: u64 = 5;
const THIRD: u64 = 9;

type Calling = AbortOnDropHandle<Result<Response<Body>, CallError>>;

/// Starts a call, and answers with it and the agent's end of its stream.
async fn started(link: &HubLink, agent: &BarePeer) -> (Calling, quinn::SendStream, quinn::RecvStream) {
    let link = link.clone();
    let calling = tokio::spawn(async move { call(&link, request("/s/1", full("body"))).await });
    let (send, recv) = agent.accept().await;
    (AbortOnDropHandle::new(calling), send, recv)
}

async fn goaway(control: &mut quinn::SendStream, id: u64) {
    let mut frame = BytesMut::new();
    put_goaway(&mut frame, id);
    within(control.write_all(&frame)).await.unwrap();
}

async fn refused(link: &HubLink) {
    let error = within(call(link, request("/s/1", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
    assert_eq!(error.delivered(), Delivered::No);
}

fn reset(mut send: quinn::SendStream, code: Code) {
    send.reset(quinn::VarInt::from_u64(code.0).unwrap()).unwrap();
}

#[tokio::test]
async fn zero_before_the_first_call_refuses_all() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    assert!(!link.is_draining());
    goaway(&mut control, 0).await;
    until("the link drains", || link.is_draining()).await;
    refused(&link).await;
    assert_eq!(agent.connection.close_reason(), None);
}

#[tokio::test]
async fn zero_after_calls_disowns_them() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    let (calling, send, _recv) = started(&link, &agent).await;
    goaway(&mut control, 0).await;
    until("the link drains", || link.is_draining()).await;
    reset(send, Code::REQUEST_CANCELLED);
    let error = within(calling).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
}

#[tokio::test]
async fn calls_below_the_id_go_on_and_those_from_it_on_count_as_refused() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    let (below, mut below_send, _recv) = started(&link, &agent).await;
    let (at, at_send, _recv) = started(&link, &agent).await;
    let (above, above_send, _recv) = started(&link, &agent).await;
    let ids = [&below_send, &at_send, &above_send].map(|send| quinn::VarInt::from(send.id()).into_inner());
    assert_eq!(ids, [FIRST, SECOND, THIRD]);

    goaway(&mut control, SECOND).await;
    until("the link drains", || link.is_draining()).await;
    refused(&link).await;
    reset(at_send, Code::INTERNAL_ERROR);
    reset(above_send, Code::REQUEST_CANCELLED);
    for call in [at, above] {
        let error = within(call).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Draining), "{error}");
    }
    below_send
        .write_all(&response_head(&fields(&[("grpc-status", "0")])))
        .await
        .unwrap();
    below_send.finish().unwrap();
    let response = within(below).await.unwrap().unwrap();
    assert_eq!(response.headers(), &fields(&[("grpc-status", "0")]));
}

#[tokio::test]
async fn a_call_below_the_id_that_is_reset_was_perhaps_seen() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    let (below, send, _recv) = started(&link, &agent).await;
    goaway(&mut control, SECOND).await;
    until("the link drains", || link.is_draining()).await;
    reset(send, Code::INTERNAL_ERROR);
    let error = within(below).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Reset(Code::INTERNAL_ERROR)), "{error}");
    assert_eq!(error.delivered(), Delivered::Maybe);
}

#[tokio::test]
async fn the_link_s_end_says_the_same_of_both() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    let (below, _send, _recv) = started(&link, &agent).await;
    let (above, _send_2, _recv_2) = started(&link, &agent).await;
    goaway(&mut control, SECOND).await;
    until("the link drains", || link.is_draining()).await;
    agent.connection.close(0x100_u32.into(), b"done");
    let error = within(below).await.unwrap().unwrap_err();
    assert!(
        matches!(&error, CallError::LinkLost { delivered: Delivered::Maybe, reason: LinkError::Closed(why) } if why == "done"),
        "{error}"
    );
    let error = within(above).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
}

#[tokio::test]
async fn a_smaller_id_disowns_more() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    let (call, send, _recv) = started(&link, &agent).await;
    // The largest there is: the first of two steps that RFC 9114 §5.2 describes.
    goaway(&mut control, (1 << 62) - 3).await;
    until("the link drains", || link.is_draining()).await;
    goaway(&mut control, FIRST).await;
    // The call's reset is on a stream of its own, and might overtake the frame.
    agent.is_heard().await;
    reset(send, Code::REQUEST_CANCELLED);
    let error = within(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
}

#[tokio::test]
async fn an_id_of_no_stream_of_the_hub_closes_the_link() {
    for id in [2, 3, 4, 8] {
        let hub = Hub::new(Tuning::default());
        let (link, agent) = hub.bare_agent().await;
        let mut control = agent.control().await;
        goaway(&mut control, id).await;
        assert_eq!(agent.closed().await, Code::ID_ERROR, "{id}");
        within(link.closed()).await;
    }
}

#[tokio::test]
async fn a_growing_id_closes_the_link() {
    let hub = Hub::new(Tuning::default());
    let (_link, agent) = hub.bare_agent().await;
    let mut control = agent.control().await;
    goaway(&mut control, SECOND).await;
    goaway(&mut control, THIRD).await;
    assert_eq!(agent.closed().await, Code::ID_ERROR);
}

#[tokio::test]
async fn what_a_hub_says_is_about_pushes_and_stops_nothing() {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let _serving = serve(agent, |_| async { Ok(Response::new(full("hello"))) });
    let mut control = hub.control().await;
    goaway(&mut control, 7).await;
    goaway(&mut control, 0).await;
    hub.is_heard().await;

    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    send.write_all(&request_head("/s/1")).await.unwrap();
    send.finish().unwrap();
    assert!(
        within(recv.read_to_end(1000))
            .await
            .unwrap()
            .ends_with(&data(b"hello"))
    );

    goaway(&mut control, 1).await;
    assert_eq!(hub.closed().await, Code::ID_ERROR);
}
