//! The HTTP/3 client of the `h3` crate as a hub, calling our agent.

use bytes::Bytes;
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code as H3Code, StreamError};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{Body, BodyError, Code, Reset, Tuning};

type Requests = SendRequest<h3_quinn::OpenStreams, Bytes>;
type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// What keeps an agent and the hub that calls it running.
type Running = (BarePeer, Serving, AbortOnDropHandle<()>);

async fn h3_hub<H, F>(handler: H) -> (Requests, Running)
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (peer, agent) = bare_hub(Tuning::default()).await;
    let connection = h3_quinn::Connection::new(peer.connection.clone());
    let (mut driver, requests) = h3::client::new(connection).await.unwrap();
    let driving = tokio::spawn(async move {
        driver.wait_idle().await;
    });
    (
        requests,
        (peer, serve(agent, handler), AbortOnDropHandle::new(driving)),
    )
}

async fn echo(request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    *response.headers_mut() = parts.headers;
    Ok(response)
}

async fn start(requests: &mut Requests, path: &str, metadata: http::HeaderMap) -> Stream {
    let mut request = Request::post(format!("https://{HUB}{path}")).body(()).unwrap();
    *request.headers_mut() = metadata;
    within(requests.send_request(request)).await.unwrap()
}

/// The rest of a response: its bytes and trailers.
async fn rest(stream: &mut Stream) -> Result<(Bytes, Option<http::HeaderMap>), StreamError> {
    let mut bytes = Vec::new();
    while let Some(data) = within(stream.recv_data()).await? {
        bytes.extend(bytes_of(data));
    }
    Ok((bytes.into(), within(stream.recv_trailers()).await?))
}

fn code(error: &StreamError) -> u64 {
    match error {
        StreamError::RemoteTerminate { code, .. } => code.value(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn unary_metadata_data_and_trailers_are_exact() {
    let (mut requests, _running) = h3_hub(echo).await;
    let metadata = fields(&[
        ("te", "trailers"),
        ("x-twice", "b"),
        ("key-bin", "AAEC,/w"),
        ("x-twice", "a"),
        ("x-empty", ""),
    ]);
    let mut stream = start(&mut requests, "/s/Echo", metadata.clone()).await;
    stream.send_data("message".into()).await.unwrap();
    let trailers = fields(&[("t-bin", "/w"), ("grpc-status", "0"), ("t-bin", "AA")]);
    stream.send_trailers(trailers.clone()).await.unwrap();
    stream.finish().await.unwrap();
    let response = within(stream.recv_response()).await.unwrap();
    assert_eq!(response.headers(), &metadata);
    assert_eq!(
        rest(&mut stream).await.unwrap(),
        ("message".into(), Some(trailers))
    );
}

#[tokio::test]
async fn bidirectional_messages_take_turns() {
    let (mut requests, _running) = h3_hub(echo).await;
    let mut stream = start(&mut requests, "/s/Chat", fields(&[])).await;
    within(stream.recv_response()).await.unwrap();
    for turn in 0..10_u8 {
        let message = Bytes::from(vec![turn; 100]);
        stream.send_data(message.clone()).await.unwrap();
        assert_eq!(
            bytes_of(within(stream.recv_data()).await.unwrap().unwrap()),
            message
        );
    }
    stream.finish().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), (Bytes::new(), None));
}

#[tokio::test]
async fn the_client_streams_and_the_server_streams() {
    let (mut requests, _running) = h3_hub(|request: Request<Body>| async move {
        let (body, _) = read(request.into_body()).await.unwrap();
        let mut messages: Vec<_> = (0..100).map(|_| Frame::data(pattern(10_000))).collect();
        messages.push(Frame::trailers(fields(&[("grpc-status", "0")])));
        let mut response = Response::new(frames(messages));
        response
            .headers_mut()
            .insert("x-total", body.len().to_string().parse().unwrap());
        Ok(response)
    })
    .await;
    let mut stream = start(&mut requests, "/s/Both", fields(&[])).await;
    for _ in 0..100 {
        within(stream.send_data(pattern(10_000))).await.unwrap();
    }
    stream.finish().await.unwrap();
    let response = within(stream.recv_response()).await.unwrap();
    assert_eq!(response.headers(), &fields(&[("x-total", "1000000")]));
    let (body, trailers) = rest(&mut stream).await.unwrap();
    assert!(body == pattern(10_000).repeat(100), "other bytes than were sent");
    assert_eq!(trailers.unwrap(), fields(&[("grpc-status", "0")]));
}

#[tokio::test]
async fn an_answer_before_the_request_is_read_is_complete() {
    let (mut requests, _running) = h3_hub(|_| async {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = fields(&[("grpc-status", "16")]);
        Ok(response)
    })
    .await;
    let stream = start(&mut requests, "/s/Record", fields(&[])).await;
    let (mut send, mut recv) = stream.split();
    // The agent stops the request with no error, and says so.
    let stopped = loop {
        match within(send.send_data(pattern(10_000))).await {
            Ok(()) => {}
            Err(error) => break code(&error),
        }
    };
    assert_eq!(stopped, 0x100);
    let response = within(recv.recv_response()).await.unwrap();
    assert_eq!(response.headers(), &fields(&[("grpc-status", "16")]));
    assert!(within(recv.recv_data()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_agent_gives_up_before_and_in_the_response() {
    let (mut requests, _running) = h3_hub(|request: Request<Body>| async move {
        match request.uri().path() {
            "/s/Reject" => Err(Reset(Code::REQUEST_REJECTED)),
            "/s/Fail" => Err(Reset(Code::INTERNAL_ERROR)),
            _ => {
                let (feed, body) = channel();
                tokio::spawn(async move {
                    feed.send(Ok(Frame::data("first".into()))).await.unwrap();
                    next_data(&mut request.into_body()).await.unwrap();
                    feed.send(Err(BodyError::Reset(Code::CONNECT_ERROR)))
                        .await
                        .unwrap();
                });
                Ok(Response::new(body))
            }
        }
    })
    .await;
    for (path, expected) in [("/s/Reject", 0x10b), ("/s/Fail", 0x102)] {
        let mut stream = start(&mut requests, path, fields(&[])).await;
        stream.finish().await.unwrap();
        let error = within(stream.recv_response()).await.unwrap_err();
        assert_eq!(code(&error), expected);
    }
    let mut stream = start(&mut requests, "/s/Break", fields(&[])).await;
    within(stream.recv_response()).await.unwrap();
    assert_eq!(
        bytes_of(within(stream.recv_data()).await.unwrap().unwrap()),
        "first"
    );
    stream.send_data("second".into()).await.unwrap();
    assert_eq!(code(&rest(&mut stream).await.unwrap_err()), 0x10f);
}

#[tokio::test]
async fn the_hub_gives_up_in_the_request_and_in_the_response() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (mut requests, _running) = h3_hub(move |request: Request<Body>| {
        let ended = ended.clone();
        async move {
            let (feed, body) = channel();
            tokio::spawn(async move {
                let mut request = request.into_body();
                let reading = async {
                    loop {
                        match request.frame().await {
                            Some(Ok(_)) => {}
                            Some(Err(error)) => break Some(error),
                            None => break None,
                        }
                    }
                };
                ended.send(tokio::join!(reading, feed.closed()).0).unwrap();
            });
            Ok(Response::new(body))
        }
    })
    .await;
    let mut stream = start(&mut requests, "/s/Chat", fields(&[])).await;
    within(stream.recv_response()).await.unwrap();
    stream.stop_stream(H3Code::H3_REQUEST_CANCELLED);
    stream.stop_sending(H3Code::H3_REQUEST_CANCELLED);
    let error = within(ends.recv()).await.unwrap().unwrap();
    assert!(
        matches!(error, BodyError::Reset(Code::REQUEST_CANCELLED)),
        "{error}"
    );

    let mut stream = start(&mut requests, "/s/List", fields(&[])).await;
    stream.finish().await.unwrap();
    within(stream.recv_response()).await.unwrap();
    stream.stop_sending(H3Code::H3_REQUEST_CANCELLED);
    assert!(within(ends.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_without_a_body_is_known_for_one_when_its_end_is_there() {
    let (mut requests, _running) = h3_hub(|mut request: Request<Body>| async move {
        assert!(request.body_mut().frame().await.is_none());
        assert!(request.body().is_end_stream());
        Ok(Response::new(Body::empty()))
    })
    .await;
    let mut stream = start(&mut requests, "/s/None", fields(&[])).await;
    stream.finish().await.unwrap();
    within(stream.recv_response()).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), (Bytes::new(), None));
}
