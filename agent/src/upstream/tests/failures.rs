//! Upstreams that are not there, are something else, or go.

use std::sync::Arc;

use adit_transport::{Code, Reset};
use bytes::Bytes;
use h2::server::Builder;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::support::{Server, collect, get, head, soon, upstream};

/// SETTINGS with nothing in it (RFC 9113 §6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// GOAWAY of stream 0 with NO_ERROR: no call was processed (RFC 9113 §6.8).
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    for address in [
        format!("http://{address}"),
        format!("unix:{}", folder.path().join("none").display()),
    ] {
        let upstream = upstream(&address);
        let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
        assert_eq!(response.headers()["adit-error"], "upstream-refused");
        assert_eq!(response.headers()["adit-delivered"], "no");
        assert_eq!(response.headers()["grpc-status"], "14");
        let message = tonic::Status::from_header_map(response.headers())
            .unwrap()
            .message()
            .to_owned();
        assert!(
            message.contains(&address) && message.contains("--upstream"),
            "{message}"
        );
        assert!(http_body::Body::is_end_stream(response.body()));
    }
}

#[tokio::test]
async fn an_upstream_that_comes_up_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = upstream(&format!("http://{address}"));
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.headers()["adit-error"], "upstream-refused");
    let listener = TcpListener::bind(address).await.unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok(exchange)) = connection.accept().await {
            super::support::answer(exchange, "ok").await;
        }
    });
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert_eq!(soon(collect(response.into_body())).await.unwrap().0, "ok");
    server.abort();
}

#[tokio::test]
async fn a_server_of_another_protocol_is_found_out_before_a_call_is_sent() {
    let http1 = Server::accept(|mut stream| async move {
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            .await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let closing = Server::accept(|stream| async move { drop(stream) }).await;
    for (server, expected) in [
        (http1, "as an HTTP/2 server"),
        (closing, "before it spoke HTTP/2"),
    ] {
        let response = soon(server.upstream().call(get("/a.B/C"))).await.unwrap();
        assert_eq!(response.headers()["adit-error"], "upstream-refused");
        assert_eq!(response.headers()["adit-delivered"], "no");
        let message = tonic::Status::from_header_map(response.headers())
            .unwrap()
            .message()
            .to_owned();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::accept(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let response = soon(server.upstream().call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.headers()["adit-error"], "upstream-refused");
    let message = tonic::Status::from_header_map(response.headers())
        .unwrap()
        .message()
        .to_owned();
    assert!(message.contains("within 5 s"), "{message}");
}

#[tokio::test]
async fn a_connection_lost_before_the_response_may_have_delivered() {
    let server = Server::accept(|stream| async move {
        let mut connection: h2::server::Connection<_, Bytes> =
            Builder::new().handshake(stream).await.unwrap();
        let _exchange = connection.accept().await;
    })
    .await;
    let response = soon(server.upstream().call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.headers()["adit-error"], "upstream-lost");
    assert_eq!(response.headers()["adit-delivered"], "maybe");
    assert_eq!(response.headers()["grpc-status"], "14");
}

#[tokio::test]
async fn a_connection_lost_in_the_response_is_told_in_the_trailers() {
    let kill = Arc::new(Notify::new());
    let server = Server::accept({
        let kill = Arc::clone(&kill);
        move |stream| {
            let kill = Arc::clone(&kill);
            async move {
                let mut connection: h2::server::Connection<_, Bytes> =
                    Builder::new().handshake(stream).await.unwrap();
                let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
                let mut send = respond.send_response(head(), false).unwrap();
                send.send_data(Bytes::from_static(b"x"), false).unwrap();
                tokio::select! {
                    _ = connection.accept() => {}
                    () = kill.notified() => {}
                }
            }
        }
    })
    .await;
    let upstream = server.upstream();
    let mut response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert!(
        soon(response.body_mut().frame())
            .await
            .unwrap()
            .unwrap()
            .is_data()
    );
    kill.notify_one();
    let (_, tail) = soon(collect(response.into_body())).await.unwrap();
    assert_eq!(tail["grpc-status"], "14");
    assert_eq!(tail["adit-error"], "upstream-lost");
    assert_eq!(tail["adit-delivered"], "maybe");

    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.status(), 200, "the next call has a new connection");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_call_above_a_goaways_id_may_be_made_again() {
    let server = Server::accept(|mut stream| async move {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        stream.write_all(&SETTINGS).await.unwrap();
        loop {
            let mut frame = [0; 9];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if frame[3] == HEADERS {
                stream.write_all(&GOAWAY).await.unwrap();
            }
        }
    })
    .await;
    let end = soon(server.upstream().call(get("/a.B/C"))).await.unwrap_err();
    assert_eq!(end, Reset(Code::REQUEST_REJECTED));
}
