//! WebSockets that come to nothing, and proxies between: what is said of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::SinkExt as _;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::{Proxies, WebSocketUrl};
use crate::quic::tests::support::*;
use crate::{Body, DialError, Dialer, HandshakeError, LinkError, Listener, Tuning};

/// Something that reads what it is sent up to an empty line, and answers `said`; then it is gone, unless it `holds`.
async fn answering(said: &[u8], holds: bool) -> (SocketAddr, AbortOnDropHandle<Vec<u8>>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = said.to_vec();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head_of(&mut stream).await;
        let _ = stream.write_all(&said).await;
        if holds {
            std::future::pending::<()>().await;
        }
        let _ = stream.shutdown().await;
        head
    });
    (address, AbortOnDropHandle::new(task))
}

async fn head_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    head
}

fn dialer(pki: &Pki) -> Dialer {
    let dialer = Dialer::new(pki.client_tls(Some(pki.agent())), Tuning::default()).unwrap();
    dialer.proxies(Proxies::none())
}

fn url(address: SocketAddr) -> WebSocketUrl {
    format!("ws://{address}/tunnel").parse().unwrap()
}

async fn error_at(said: &[u8]) -> String {
    let (address, _answering) = answering(said, false).await;
    let error = within(dialer(&Pki::new()).dial_url(&url(address)))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Upgrade { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&address.to_string()), "{said}");
    said
}

#[tokio::test]
async fn answers_that_are_no_websocket_say_what_to_do() {
    let response = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (said, expected) in [
        (response("200 OK", "<html>Welcome to the hotel"), &["200", "Welcome to the hotel", "captive portal"][..]),
        (response("302 Found", ""), &["302", "elsewhere"]),
        (response("403 Forbidden", "no"), &["403", "does not let it pass"]),
        (response("404 Not Found", ""), &["404", "path"]),
        (response("426 Upgrade Required", ""), &["426", "Upgrade and Connection"]),
        (response("502 Bad Gateway", "\x1b[2J"), &["502", "--websocket"]),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), &["no answer of HTTP/1.1"]),
        (String::new(), &["no answer of HTTP/1.1"]),
        ("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n".to_owned(), &["no answer of HTTP/1.1"]),
    ] {
        let error = error_at(said.as_bytes()).await;
        for expected in expected {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!error.contains('\x1b'), "{error:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_costs_little() {
    let endless = vec![b'x'; 1 << 20];
    let error = error_at(&[b"HTTP/1.1 101 Switching\r\nX-Long: ", &endless[..]].concat()).await;
    assert!(error.contains("no answer of HTTP/1.1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_a_handshake() {
    let (address, _answering) = answering(b"HTTP/1.1 101", true).await;
    let error = dialer(&Pki::new()).dial_url(&url(address)).await.unwrap_err();
    assert!(matches!(error, DialError::WebSocketTimeout { .. }), "{error}");
    assert!(error.to_string().contains("within 10 s"), "{error}");
}

async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

/// A hub's port for WebSockets whose TLS runs inside.
fn inner(pki: &Pki) -> (Arc<Listener>, SocketAddr) {
    let listener = Listener::bind_websocket(loopback(), pki.server_tls(), Tuning::default()).unwrap();
    let address = listener.local_addr().unwrap();
    (Arc::new(listener), address)
}

#[tokio::test]
async fn a_link_has_its_own_tls_inside_and_the_hub_sees_the_agent_s_certificate() {
    let pki = Pki::new();
    let (listener, address) = inner(&pki);
    let (chain, key) = pki.agent();
    let dialer = Dialer::new(pki.client_tls(Some((chain.clone(), key))), Tuning::default()).unwrap();
    let dialer = dialer.proxies(Proxies::all(&format!("http://{address}")));
    // A proxy of the simplest kind: whatever name it is asked for, it is at the hub's port itself.
    let accepting = async { within(listener.accept()).await.unwrap().establish().await };
    let named: WebSocketUrl = format!("ws://{HUB}:{}/tunnel", address.port()).parse().unwrap();
    let (accepted, dialled) = tokio::join!(accepting, within(dialer.dial_url(&named)));
    // A hub is no proxy.
    assert!(matches!(accepted.unwrap_err(), HandshakeError::WebSocket(_)));
    assert!(matches!(dialled.unwrap_err(), DialError::Proxy(_)));

    let (proxy, _proxying) = proxy(b"HTTP/1.1 200 Connection established\r\n\r\n", address).await;
    let dialer = dialer.proxies(Proxies::all(&format!("http://{proxy}")));
    let accepting = async { within(listener.accept()).await.unwrap().establish().await };
    let (hub, agent) = tokio::join!(accepting, within(dialer.dial_url(&named)));
    let (hub, agent) = (hub.unwrap(), agent.unwrap());
    assert_eq!(hub.peer_certificates(), chain);
    assert_eq!(
        (hub.carrier(), agent.carrier()),
        (crate::Carrier::WebSocket, crate::Carrier::WebSocket)
    );
    let _serving = serve(agent, echo);
    let message = pattern(5 << 20);
    let response = within(call(&hub, request("/s/1", full(message.clone()))))
        .await
        .unwrap();
    assert!(read(response.into_body()).await.unwrap().0 == message);
}

#[tokio::test]
async fn a_hub_refuses_other_paths_subprotocols_and_certificates() {
    let hub = Hub::by(crate::Carrier::WebSocket, Tuning::default());
    let tls = hub.pki.client_tls(Some(hub.pki.agent()));
    for (path, subprotocol, status) in [
        ("/other", "rh2", 404),
        ("/tunnel", "chat", 400),
        ("/tunnel", "rh2-tls", 400),
    ] {
        let asking = async {
            let stream = TcpStream::connect(hub.address).await.unwrap();
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let mut stream = connector.connect(HUB.try_into().unwrap(), stream).await.unwrap();
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let accepting = async { within(hub.listener.accept()).await.unwrap().establish().await };
        let (answer, refused) = within(async { tokio::join!(asking, accepting) }).await;
        assert_eq!(answer, format!("HTTP/1.1 {status}"));
        assert!(matches!(refused.unwrap_err(), HandshakeError::WebSocket(_)));
    }

    // Without a certificate there is not even a WebSocket, and with TLS inside there is no link.
    let bare = Dialer::new(hub.pki.client_tls(None), Tuning::default())
        .unwrap()
        .proxies(Proxies::none());
    let accepting = async { within(hub.listener.accept()).await.unwrap().establish().await };
    let address = hub.address;
    let dialling = within(bare.dial_by(crate::Carrier::WebSocket, address, HUB));
    let (refused, dialled) = tokio::join!(accepting, dialling);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("peer sent no certificates")
    );
    dialled.unwrap_err();
    let (listener, address) = inner(&hub.pki);
    let url: WebSocketUrl = format!("ws://localhost:{}/tunnel", address.port())
        .parse()
        .unwrap();
    let accepting = async { within(listener.accept()).await.unwrap().establish().await };
    let (refused, dialled) = tokio::join!(accepting, within(bare.dial_url(&url)));
    // The hub's certificate is for another name than the URL's.
    assert!(dialled.unwrap_err().to_string().contains("certificate"));
    refused.unwrap_err();
}

#[tokio::test]
async fn a_text_message_ends_the_link_and_a_long_one_as_well() {
    for message in [Message::text("hello"), Message::binary(vec![0; 2 << 20])] {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async {
            let (stream, _) = listener.accept().await.unwrap();
            #[expect(clippy::result_large_err, reason = "the library's")]
            let take = |_: &Request<()>, mut response: Response<()>| {
                let taken = http::HeaderValue::from_static("rh2-tls");
                response.headers_mut().insert("sec-websocket-protocol", taken);
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, take).await.unwrap();
            let _ = socket.send(message).await;
            socket
        };
        let (dialer, url) = (dialer(&Pki::new()), url(address));
        let (_socket, dialled) = within(async { tokio::join!(answering, dialer.dial_url(&url)) }).await;
        let error = dialled.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("text message") || said.contains("too long"),
            "{said}"
        );
    }
}

/// A proxy that answers `said` to the next CONNECT, and passes bytes on to `hub` after that.
async fn proxy(said: &'static [u8], hub: SocketAddr) -> (SocketAddr, AbortOnDropHandle<Vec<u8>>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head_of(&mut stream).await;
        stream.write_all(said).await.unwrap();
        let mut hub = TcpStream::connect(hub).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut hub).await;
        head
    });
    (address, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn a_proxy_is_told_the_hub_s_name_and_the_credentials() {
    let hub = Hub::by(crate::Carrier::WebSocket, Tuning::default());
    let (address, proxying) = proxy(b"HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", hub.address).await;
    let tls = hub.pki.client_tls(Some(hub.pki.agent()));
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    let dialer = dialer.proxies(Proxies::all(&format!("http://user:secret@{address}")));
    // This machine doesn't know the name.
    let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial_websocket(HUB, 4433)));
    let _serving = serve(agent.unwrap(), echo);
    let response = within(call(&link, request("/s/1", full("through"))))
        .await
        .unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "through");
    drop((link, _serving, hub));
    let head = String::from_utf8(within(proxying).await.unwrap()).unwrap();
    assert!(
        head.starts_with("CONNECT hub.test:4433 HTTP/1.1\r\nHost: hub.test:4433\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_proxy_that_opens_no_way_is_said_to() {
    let long = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 20_000]].concat();
    for (said, expected) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "allow this host and port"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot reach the hub"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "something follows"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
        (&long, "longer than 16384 bytes"),
    ] {
        let (address, _proxying) = answering(said, false).await;
        let dialer = dialer(&Pki::new()).proxies(Proxies::all(&format!("http://user:secret@{address}")));
        let error = within(dialer.dial_websocket(HUB, 4433)).await.unwrap_err();
        assert!(matches!(error, DialError::Proxy(_)), "{error}");
        let error = error.to_string();
        assert!(
            error.contains(expected)
                && error.contains(&address.to_string())
                && error.contains("hub.test:4433"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
    let dialer = dialer(&Pki::new()).proxies(Proxies::all("socks5://user:secret@127.0.0.1:1080"));
    let error = within(dialer.dial_websocket(HUB, 4433))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("socks5://127.0.0.1:1080") && !error.contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn what_opens_tls_between_is_not_trusted() {
    // It has a certificate for the hub's name, of a CA that this machine may trust, and the agent doesn't.
    let (hub, between) = (Hub::by(crate::Carrier::Tls, Tuning::default()), Pki::new());
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = between.server_tls();
        tls.alpn_protocols = vec![b"rh2".to_vec(), b"http/1.1".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(tls))
            .accept(stream)
            .await
            .unwrap_err()
    };
    let dialer = dialer(&hub.pki);
    let (_, dialled) =
        within(async { tokio::join!(accepting, dialer.dial_by(crate::Carrier::Tls, address, HUB)) }).await;
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::TlsHandshake { .. }), "{error}");
    assert!(
        error.to_string().contains("something between may open TLS"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_of_something_else_is_no_hub() {
    let pki = Pki::new();
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        // It knows of no ALPN.
        let tls = pki.server_tls();
        tokio_rustls::TlsAcceptor::from(Arc::new(tls))
            .accept(stream)
            .await
            .unwrap()
    };
    let dialer = dialer(&pki);
    let (_stream, dialled) =
        within(async { tokio::join!(accepting, dialer.dial_by(crate::Carrier::Tls, address, HUB)) }).await;
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::NoHub { .. }), "{error}");
}

#[tokio::test]
async fn peers_that_speak_something_else_on_tcp_hold_up_nobody() {
    let hub = Hub::by(crate::Carrier::Tls, Tuning::default());
    let mut silent = TcpStream::connect(hub.address).await.unwrap();
    let waiting = within(hub.listener.accept()).await.unwrap();
    for said in [
        &b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x01\x00",
    ] {
        let mut stream = TcpStream::connect(hub.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        let handshake = within(hub.listener.accept()).await.unwrap();
        let error = within(handshake.establish()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Tls(_)), "{error}");
    }
    let (link, _serving) = hub.serve(Tuning::default(), echo).await;
    let response = within(call(&link, request("/s/1", full("hello")))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "hello");

    tokio::time::pause();
    let error = waiting.establish().await.unwrap_err();
    assert!(matches!(error, HandshakeError::Timeout), "{error}");
    drop(silent.shutdown().await);
}

#[tokio::test]
async fn a_hub_that_is_killed_is_missed_at_once() {
    let (hub, far) = (
        Hub::by(crate::Carrier::Tls, Tuning::default()),
        TcpListener::bind(loopback()).await.unwrap(),
    );
    let between = far.local_addr().unwrap();
    let passing = AbortOnDropHandle::new(tokio::spawn({
        let hub = hub.address;
        async move {
            let (mut agent, _) = far.accept().await.unwrap();
            let mut hub = TcpStream::connect(hub).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut agent, &mut hub).await;
        }
    }));
    let dialer = dialer(&hub.pki);
    let (link, agent) = tokio::join!(
        hub.accept(),
        within(dialer.dial_by(crate::Carrier::Tls, between, HUB))
    );
    let serving = serve(agent.unwrap(), echo);
    drop(passing);
    let lost = within(serving).await.unwrap();
    assert!(matches!(lost, LinkError::Broken(_)), "{lost}");
    assert!(matches!(within(link.closed()).await, LinkError::Broken(_)));
}
