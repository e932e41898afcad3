//! The HTTP/3 server of the `h3` crate as an agent, called by our hub.

use bytes::Bytes;
use h3::server::RequestStream;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::{Body, BodyError, CallError, Code, Delivered, HubLink, Tuning};

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Serves `agent` with the `h3` crate; each request goes to `handler` in a task of its own.
async fn h3_agent<H, F>(handler: H) -> (HubLink, AbortOnDropHandle<()>, Hub)
where
    H: Fn(Request<()>, Stream) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let hub = Hub::new(Tuning::default());
    let (link, agent) = hub.bare_agent().await;
    let serving = tokio::spawn(async move {
        let connection = h3_quinn::Connection::new(agent.connection.clone());
        let mut server = h3::server::Connection::new(connection).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        while let Ok(Some(resolver)) = server.accept().await {
            let handler = handler.clone();
            calls.spawn(async move {
                if let Ok((request, stream)) = resolver.resolve_request().await {
                    handler(request, stream).await;
                }
            });
        }
    });
    (link, AbortOnDropHandle::new(serving), hub)
}

/// Answers with what it is asked: every message of the request, then its trailers, then a status.
async fn echo(request: Request<()>, stream: Stream) {
    let (mut send, mut recv) = stream.split();
    let mut response = Response::new(());
    *response.headers_mut() = request.headers().clone();
    send.send_response(response).await.unwrap();
    while let Some(data) = recv.recv_data().await.unwrap() {
        send.send_data(bytes_of(data)).await.unwrap();
    }
    let mut trailers = recv.recv_trailers().await.unwrap().unwrap_or_default();
    trailers.append("grpc-status", "0".parse().unwrap());
    send.send_trailers(trailers).await.unwrap();
    send.finish().await.unwrap();
}

#[tokio::test]
async fn unary_metadata_data_and_trailers_are_exact() {
    let (link, _serving, _hub) = h3_agent(echo).await;
    let metadata = fields(&[
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-twice", "b"),
        ("key-bin", "AAEC,/w"),
        ("x-twice", "a"),
        ("x-empty", ""),
    ]);
    let body = vec![
        Frame::data("message".into()),
        Frame::trailers(fields(&[("t-bin", "/w"), ("t-bin", "AA")])),
    ];
    let mut request = request("/s/Echo", frames(body));
    *request.headers_mut() = metadata.clone();
    let response = within(call(&link, request)).await.unwrap();
    assert_eq!(response.headers(), &metadata);
    let (body, trailers) = read(response.into_body()).await.unwrap();
    assert_eq!(body, "message");
    assert_eq!(
        trailers.unwrap(),
        fields(&[("t-bin", "/w"), ("t-bin", "AA"), ("grpc-status", "0")])
    );
}

#[tokio::test]
async fn bidirectional_messages_take_turns() {
    let (link, _serving, _hub) = h3_agent(echo).await;
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
    drop(feed);
    let (rest, trailers) = read(response).await.unwrap();
    assert_eq!(
        (rest, trailers.unwrap()),
        (Bytes::new(), fields(&[("grpc-status", "0")]))
    );
}

#[tokio::test]
async fn the_server_streams() {
    let (link, _serving, _hub) = h3_agent(|_, mut stream: Stream| async move {
        stream.send_response(Response::new(())).await.unwrap();
        for _ in 0..100 {
            stream.send_data(pattern(10_000)).await.unwrap();
        }
        stream.finish().await.unwrap();
    })
    .await;
    let response = within(call(&link, request("/s/List", Body::empty())))
        .await
        .unwrap();
    let (body, trailers) = read(response.into_body()).await.unwrap();
    assert!(body == pattern(10_000).repeat(100), "other bytes than were sent");
    assert_eq!(trailers, None);
}

#[tokio::test]
async fn the_client_streams() {
    let (link, _serving, _hub) = h3_agent(|_, mut stream: Stream| async move {
        let mut total = 0;
        while let Some(data) = stream.recv_data().await.unwrap() {
            total += bytes_of(data).len();
        }
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert("x-total", total.to_string().parse().unwrap());
        stream.send_response(response).await.unwrap();
        stream.finish().await.unwrap();
    })
    .await;
    let messages = (0..100).map(|_| Frame::data(pattern(10_000))).collect();
    let response = within(call(&link, request("/s/Record", frames(messages))))
        .await
        .unwrap();
    assert_eq!(response.headers(), &fields(&[("x-total", "1000000")]));
    assert_eq!(read(response.into_body()).await.unwrap(), (Bytes::new(), None));
}

#[tokio::test]
async fn a_response_of_a_head_alone_is_empty() {
    let (link, _serving, _hub) = h3_agent(|_, mut stream: Stream| async move {
        let mut response = Response::new(());
        *response.headers_mut() = fields(&[("grpc-status", "12")]);
        stream.send_response(response).await.unwrap();
        stream.finish().await.unwrap();
    })
    .await;
    let response = within(call(&link, request("/s/None", Body::empty())))
        .await
        .unwrap();
    assert_eq!(response.headers(), &fields(&[("grpc-status", "12")]));
    assert_eq!(read(response.into_body()).await.unwrap(), (Bytes::new(), None));
}

#[tokio::test]
async fn the_agent_gives_up_before_and_in_the_response() {
    let (link, _serving, _hub) = h3_agent(|request: Request<()>, mut stream: Stream| async move {
        match request.uri().path() {
            "/s/Reject" => return stream.stop_stream(h3::error::Code::H3_REQUEST_REJECTED),
            "/s/Fail" => return stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR),
            _ => {}
        }
        stream.send_response(Response::new(())).await.unwrap();
        stream.send_data(Bytes::from_static(b"first")).await.unwrap();
        // The hub has it once it has sent the second message.
        stream.recv_data().await.unwrap().unwrap();
        stream.stop_stream(h3::error::Code::H3_EXCESSIVE_LOAD);
    })
    .await;
    let error = within(call(&link, request("/s/Reject", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Refused), "{error}");
    assert_eq!(error.delivered(), Delivered::No);
    let error = within(call(&link, request("/s/Fail", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Reset(Code::INTERNAL_ERROR)), "{error}");
    assert_eq!(error.delivered(), Delivered::Maybe);

    let (feed, body) = channel();
    let mut response = within(call(&link, request("/s/Break", body)))
        .await
        .unwrap()
        .into_body();
    assert_eq!(next_data(&mut response).await.unwrap(), "first");
    feed.send(Ok(Frame::data("second".into()))).await.unwrap();
    let error = read(response).await.unwrap_err();
    assert!(matches!(error, BodyError::Reset(Code::EXCESSIVE_LOAD)), "{error}");
}

#[tokio::test]
async fn the_hub_gives_up_in_the_request_and_in_the_response() {
    let (seen, mut codes) = mpsc::unbounded_channel();
    let (link, _serving, _hub) = h3_agent(move |_, stream: Stream| {
        let seen = seen.clone();
        async move {
            let (mut send, mut recv) = stream.split();
            send.send_response(Response::new(())).await.unwrap();
            let read = async {
                loop {
                    match recv.recv_data().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(error) => break Some(code(&error)),
                    }
                }
            };
            let write = async {
                loop {
                    if let Err(error) = send.send_data(pattern(10_000)).await {
                        break code(&error);
                    }
                }
            };
            seen.send(tokio::join!(read, write)).unwrap();
        }
    })
    .await;

    let (feed, body) = channel();
    let response = within(call(&link, request("/s/Chat", body))).await.unwrap();
    drop(response);
    assert_eq!(within(codes.recv()).await.unwrap(), (Some(0x10c), 0x10c));
    within(feed.closed()).await;

    // A request that had come to its end is not taken back; the response is stopped all the same.
    let response = within(call(&link, request("/s/List", full("all"))))
        .await
        .unwrap();
    assert!(!response.body().is_end_stream());
    drop(response);
    assert_eq!(within(codes.recv()).await.unwrap(), (None, 0x10c));
}

/// The code in an error of the `h3` crate.
fn code(error: &h3::error::StreamError) -> u64 {
    match error {
        h3::error::StreamError::RemoteTerminate { code, .. } => code.value(),
        other => panic!("{other}"),
    }
}
