//! Peers that break the protocol: they are told so by the code that HTTP/3 has for it, and nobody else notices.

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;

use super::support::*;
use crate::rh3::frame::stream_type;
use crate::rh3::settings::Settings;
use crate::rh3::varint;
use crate::{Body, CallError, Code, HubLink, Tuning};

async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

/// A link of the same hub with a call in the middle of it.
struct Neighbour {
    feed: Feed,
    response: Body,
    link: HubLink,
    _serving: Serving,
}

impl Neighbour {
    async fn of(hub: &Hub) -> Self {
        let (link, serving) = hub.serve(Tuning::default(), echo).await;
        let (feed, body) = channel();
        let response = within(call(&link, request("/s/Chat", body))).await.unwrap();
        Self {
            feed,
            response: response.into_body(),
            link,
            _serving: serving,
        }
    }

    async fn noticed_nothing(&mut self) {
        self.feed.send(Ok(Frame::data("on".into()))).await.unwrap();
        assert_eq!(next_data(&mut self.response).await.unwrap(), "on");
        let response = within(call(&self.link, request("/s/Echo", full("new"))))
            .await
            .unwrap();
        assert_eq!(read(response.into_body()).await.unwrap().0, "new");
    }
}

/// An agent that answers a call with `response` is told `expected`, and the call fails.
async fn response_closes(response: &[u8], expected: Code) {
    let hub = Hub::new(Tuning::default());
    let mut neighbour = Neighbour::of(&hub).await;
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        within(send.write_all(response)).await.unwrap();
        send.finish().unwrap();
        agent.closed().await
    };
    let calling = async {
        read(
            within(call(&link, request("/s/1", Body::empty())))
                .await?
                .into_body(),
        )
        .await
        .map_err(|_| CallError::Busy)
    };
    let (called, code) = tokio::join!(calling, answering);
    assert_eq!(code, expected);
    called.unwrap_err();
    neighbour.noticed_nothing().await;
}

/// An agent that opens these unidirectional streams is told `expected`.
async fn streams_close(streams: &[&[u8]], expected: Code) {
    let hub = Hub::new(Tuning::default());
    let mut neighbour = Neighbour::of(&hub).await;
    let (link, agent) = hub.bare_agent().await;
    let mut open = Vec::new();
    for bytes in streams {
        open.push(agent.uni(bytes).await);
    }
    assert_eq!(agent.closed().await, expected);
    within(link.closed()).await;
    neighbour.noticed_nothing().await;
}

/// A hub that sends this request is told `expected`.
async fn request_closes(bytes: &[u8], expected: Code) {
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let serving = serve(agent, echo);
    let (mut send, _recv) = within(hub.connection.open_bi()).await.unwrap();
    within(send.write_all(bytes)).await.unwrap();
    send.finish().unwrap();
    assert_eq!(hub.closed().await, expected);
    within(serving).await.unwrap();
}

/// A control stream's first bytes.
fn hello() -> Vec<u8> {
    let mut hello = BytesMut::new();
    varint::put(&mut hello, stream_type::CONTROL);
    Settings::default().encode(&mut hello);
    hello.to_vec()
}

/// A HEADERS frame with this payload.
fn headers(payload: &[u8]) -> Bytes {
    [&[0x01, u8::try_from(payload.len()).unwrap()], payload]
        .concat()
        .into()
}

#[tokio::test]
async fn a_frame_that_is_cut_off() {
    let whole = response_head(&fields(&[("x-a", "b")]));
    response_closes(&whole[..whole.len() - 1], Code::FRAME_ERROR).await;
    request_closes(&request_head("/s/1")[..10], Code::FRAME_ERROR).await;
}

#[tokio::test]
async fn a_frame_whose_length_is_wrong() {
    // GOAWAY holds one integer, and this one has a byte too many.
    streams_close(
        &[&[&hello()[..], &[0x07, 0x02, 0x01, 0x01]].concat()],
        Code::FRAME_ERROR,
    )
    .await;
}

#[tokio::test]
async fn a_frame_type_of_http2() {
    response_closes(&[0x02, 0x00], Code::FRAME_UNEXPECTED).await;
    request_closes(&[0x06, 0x00], Code::FRAME_UNEXPECTED).await;
}

#[tokio::test]
async fn frames_of_unknown_types_are_skipped() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let unknown = [&[0x21, 0x03][..], b"abc"].concat();
    let response = [
        &unknown,
        &response_head(&fields(&[]))[..],
        &unknown,
        &data(b"hello"),
        &unknown,
    ]
    .concat();
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        within(send.write_all(&response)).await.unwrap();
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    assert_eq!(
        read(called.unwrap().into_body()).await.unwrap(),
        ("hello".into(), None)
    );
}

#[tokio::test]
async fn data_before_headers() {
    response_closes(&data(b"early"), Code::FRAME_UNEXPECTED).await;
    request_closes(&data(b"early"), Code::FRAME_UNEXPECTED).await;
}

#[tokio::test]
async fn data_and_headers_after_trailers() {
    let message = [&response_head(&fields(&[]))[..], &headers(&[0, 0])].concat();
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        within(send.write_all(&[&message[..], &data(b"late")].concat()))
            .await
            .unwrap();
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    // The message is complete with its trailers: what follows is perhaps looked at, and never passed on.
    assert_eq!(
        read(called.unwrap().into_body()).await.unwrap(),
        (Bytes::new(), Some(fields(&[])))
    );
}

#[tokio::test]
async fn garbage_for_a_field_section() {
    // A reference to a dynamic table that was never offered.
    response_closes(&headers(&[0, 0, 0x80]), Code::QPACK_DECOMPRESSION_FAILED).await;
    response_closes(&headers(&[0xff; 8]), Code::QPACK_DECOMPRESSION_FAILED).await;
    request_closes(&headers(&[0, 0, 0x80]), Code::QPACK_DECOMPRESSION_FAILED).await;
}

#[tokio::test]
async fn a_malformed_head_fails_its_call_only() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        // No :status.
        within(send.write_all(&headers(&[0, 0]))).await.unwrap();
        Code(within(send.stopped()).await.unwrap().unwrap().into_inner())
    };
    let (called, stopped) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    assert_eq!(stopped, Code::MESSAGE_ERROR);
    let error = called.unwrap_err();
    assert!(
        matches!(&error, CallError::Malformed(why) if why.contains(":status")),
        "{error}"
    );
    assert_eq!(agent.connection.close_reason(), None);

    let (hub, agent) = bare_hub(Tuning::default()).await;
    let _serving = serve(agent, echo);
    let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
    within(send.write_all(&headers(&[0, 0]))).await.unwrap();
    let reset = within(recv.received_reset()).await.unwrap().unwrap();
    assert_eq!(Code(reset.into_inner()), Code::MESSAGE_ERROR);
    assert_eq!(hub.connection.close_reason(), None);
}

#[tokio::test]
async fn a_response_that_ends_before_its_head() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    let error = called.unwrap_err();
    assert!(matches!(error, CallError::Malformed(_)), "{error}");
    assert_eq!(agent.connection.close_reason(), None);
}

#[tokio::test]
async fn a_second_control_stream() {
    streams_close(&[&hello(), &hello()], Code::STREAM_CREATION_ERROR).await;
    streams_close(&[&hello(), &[0x02], &[0x02]], Code::STREAM_CREATION_ERROR).await;
    streams_close(&[&hello(), &[0x03], &[0x03]], Code::STREAM_CREATION_ERROR).await;
}

#[tokio::test]
async fn a_control_stream_that_is_closed() {
    for resets in [false, true] {
        let hub = Hub::new(Tuning::default());
        let mut neighbour = Neighbour::of(&hub).await;
        let (_link, agent) = hub.bare_agent().await;
        let mut control = agent.control().await;
        if resets {
            // The stream's type has to be there for it to be the control stream.
            agent.is_heard().await;
            control.reset(0x100_u32.into()).unwrap();
        } else {
            control.finish().unwrap();
        }
        assert_eq!(agent.closed().await, Code::CLOSED_CRITICAL_STREAM);
        neighbour.noticed_nothing().await;
    }
}

#[tokio::test]
async fn a_push_stream() {
    streams_close(&[&hello(), &[0x01, 0x00]], Code::ID_ERROR).await;
    let (hub, agent) = bare_hub(Tuning::default()).await;
    let _serving = serve(agent, echo);
    let _push = hub.uni(&[0x01, 0x00]).await;
    assert_eq!(hub.closed().await, Code::STREAM_CREATION_ERROR);
}

#[tokio::test]
async fn unidirectional_streams_of_unknown_types_are_stopped_and_ignored() {
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    // More than may be open at once: each makes room for another when it is stopped.
    for _ in 0..50 {
        let stream = agent.uni(&[0x21, 0x00, 0x00]).await;
        let code = within(stream.stopped()).await.unwrap().unwrap();
        assert_eq!(Code(code.into_inner()), Code::STREAM_CREATION_ERROR);
    }
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        send.write_all(&response_head(&fields(&[]))).await.unwrap();
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    called.unwrap();
}

#[tokio::test]
async fn settings_twice_missing_or_wrong() {
    let settings = &hello()[1..];
    streams_close(&[&[&hello()[..], settings].concat()], Code::FRAME_UNEXPECTED).await;
    streams_close(&[&[0x00, 0x07, 0x01, 0x00]], Code::MISSING_SETTINGS).await;
    // A setting that appears twice, one that only HTTP/2 has, and more than anybody needs.
    streams_close(
        &[&[0x00, 0x04, 0x04, 0x06, 0x01, 0x06, 0x01]],
        Code::SETTINGS_ERROR,
    )
    .await;
    streams_close(&[&[0x00, 0x04, 0x02, 0x02, 0x01]], Code::SETTINGS_ERROR).await;
    streams_close(&[&[0x00, 0x04, 0x80, 0x10, 0x00, 0x00]], Code::EXCESSIVE_LOAD).await;
}

#[tokio::test]
async fn instructions_for_tables_that_were_not_offered() {
    streams_close(
        &[&hello(), &[0x02, 0x3f, 0xbd, 0x01]],
        Code::QPACK_ENCODER_STREAM_ERROR,
    )
    .await;
    streams_close(&[&hello(), &[0x03, 0x01]], Code::QPACK_DECODER_STREAM_ERROR).await;
}

#[tokio::test]
async fn an_agent_that_opens_streams_and_says_nothing_gets_no_more_of_them() {
    let hub = Hub::new(Tuning::default());
    let mut neighbour = Neighbour::of(&hub).await;
    let (link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    let mut silent = Vec::new();
    // The first half of a type, and then nothing.
    while let Some(Ok(mut stream)) = futures_util::FutureExt::now_or_never(agent.connection.open_uni()) {
        stream.write_all(&[0x40]).await.unwrap();
        silent.push(stream);
        assert!(silent.len() < 100, "streams without a limit");
    }
    assert!(silent.len() >= 2, "{}", silent.len());
    let answering = async {
        let (mut send, _recv) = agent.accept().await;
        send.write_all(&response_head(&fields(&[]))).await.unwrap();
        send.finish().unwrap();
    };
    let (called, ()) = tokio::join!(within(call(&link, request("/s/1", Body::empty()))), answering);
    called.unwrap();
    neighbour.noticed_nothing().await;
}

#[tokio::test]
async fn an_agent_may_not_open_a_call() {
    let hub = Hub::new(Tuning::default());
    let (_link, agent) = hub.bare_agent().await;
    let _control = agent.control().await;
    // The hub's own control stream is here, so what it grants is known.
    within(agent.connection.accept_uni()).await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(agent.connection.open_bi()).is_none());
}

#[tokio::test]
async fn a_hub_that_opens_calls_and_says_nothing_holds_up_none_of_the_others() {
    let (hub, agent) = bare_hub(Tuning {
        max_calls: 20,
        ..Tuning::default()
    })
    .await;
    let _serving = serve(agent, echo);
    let mut silent = Vec::new();
    for _ in 0..10 {
        let (mut send, recv) = within(hub.connection.open_bi()).await.unwrap();
        send.write_all(&[0x01]).await.unwrap();
        silent.push((send, recv));
    }
    // More calls than there is room for at once.
    for _ in 0..30 {
        let (mut send, mut recv) = within(hub.connection.open_bi()).await.unwrap();
        send.write_all(&[&request_head("/s/Echo")[..], &data(b"hello")].concat())
            .await
            .unwrap();
        send.finish().unwrap();
        assert!(
            within(recv.read_to_end(1000))
                .await
                .unwrap()
                .ends_with(&data(b"hello"))
        );
    }
    // The agent gives them up in the end. Its clock is moved on for that.
    tokio::time::pause();
    for (_send, mut recv) in silent {
        let reset = recv.received_reset().await.unwrap().unwrap();
        assert_eq!(Code(reset.into_inner()), Code::REQUEST_INCOMPLETE);
    }
}
