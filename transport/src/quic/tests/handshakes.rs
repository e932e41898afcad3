//! Handshakes that come to nothing, and what each end says of them.

use std::time::Duration;

use http::{Request, Response};
use tokio::net::UdpSocket;

use super::support::*;
use crate::{Body, DialError, Dialer, HandshakeError, LinkError, Listener, Tuning};

async fn echo(request: Request<Body>) -> Answer {
    Ok(Response::new(request.into_body()))
}

/// What the hub says of the next peer's handshake.
async fn refused(hub: &Hub) -> String {
    let handshake = within(hub.listener.accept()).await.unwrap();
    within(handshake.establish()).await.unwrap_err().to_string()
}

/// An agent with this TLS does not get a link, and one that is as it should be does. What the hub says is returned.
async fn agent_refused(hub: &Hub, tls: rustls::ClientConfig) -> String {
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    // In TLS 1.3 the hub's refusal comes after the handshake is over for the agent.
    let dialing = async {
        match within(dialer.dial(hub.address, HUB)).await {
            Ok(agent) => within(agent.serve(echo)).await,
            Err(DialError::Handshake { reason, .. }) => reason,
            Err(other) => panic!("{other}"),
        }
    };
    let (said, lost) = tokio::join!(refused(hub), dialing);
    assert!(matches!(lost, LinkError::Protocol(_)), "{lost}");
    let (link, _serving) = hub.serve(Tuning::default(), echo).await;
    let response = within(call(&link, request("/s/1", full("hello")))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "hello");
    said
}

#[tokio::test]
async fn an_agent_without_a_certificate() {
    let hub = Hub::new(Tuning::default());
    let said = agent_refused(&hub, hub.pki.client_tls(None)).await;
    assert!(said.contains("peer sent no certificates"), "{said}");
}

#[tokio::test]
async fn an_agent_whose_certificate_is_another_authority_s() {
    let hub = Hub::new(Tuning::default());
    let said = agent_refused(&hub, hub.pki.client_tls(Some(Pki::new().agent()))).await;
    assert!(
        said.contains("UnknownIssuer") || said.contains("BadSignature"),
        "{said}"
    );
}

#[tokio::test]
async fn an_agent_whose_certificate_has_expired() {
    let hub = Hub::new(Tuning::default());
    let said = agent_refused(&hub, hub.pki.client_tls(Some(hub.pki.expired_agent()))).await;
    assert!(said.contains("expired"), "{said}");
}

#[tokio::test]
async fn an_agent_that_speaks_something_else() {
    let hub = Hub::new(Tuning::default());
    let mut tls = hub.pki.client_tls(Some(hub.pki.agent()));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let (_, dialled) = tokio::join!(refused(&hub), within(bare_dial(tls, hub.address)));
    let said = dialled.err().unwrap().to_string();
    assert!(said.contains("known protocol"), "{said}");
}

#[tokio::test]
async fn a_hub_whose_certificate_is_another_authority_s_or_for_another_name() {
    let hub = Hub::new(Tuning::default());
    let stranger = Pki::new();
    for (tls, name) in [
        (stranger.client_tls(Some(hub.pki.agent())), HUB),
        (hub.pki.client_tls(Some(hub.pki.agent())), "other.test"),
    ] {
        let dialer = Dialer::new(tls, Tuning::default()).unwrap();
        let (_, dialled) = tokio::join!(refused(&hub), within(dialer.dial(hub.address, name)));
        let error = dialled.unwrap_err();
        assert!(matches!(error, DialError::Handshake { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(name) && said.contains(&hub.address.to_string()),
            "{said}"
        );
    }
}

/// The first packet of a handshake, as a real peer sends it.
async fn first_packet(hub: &Hub) -> Vec<u8> {
    let sink = UdpSocket::bind(loopback()).await.unwrap();
    let tls = hub.pki.client_tls(Some(hub.pki.agent()));
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    let address = sink.local_addr().unwrap();
    let mut packet = vec![0; 65_536];
    tokio::select! {
        dialled = dialer.dial(address, HUB) => panic!("{dialled:?}"),
        received = within(sink.recv(&mut packet)) => packet.truncate(received.unwrap()),
    }
    packet
}

#[tokio::test]
async fn a_peer_that_begins_and_never_goes_on_is_forgotten_and_holds_up_nobody() {
    let patient = Tuning {
        idle_timeout: Duration::from_secs(3600),
        ..Tuning::default()
    };
    let hub = Hub::new(patient.clone());
    let packet = first_packet(&hub).await;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    socket.send_to(&packet, hub.address).await.unwrap();
    let handshake = within(hub.listener.accept()).await.unwrap();
    assert_eq!(handshake.remote_address(), socket.local_addr().unwrap());

    let (link, _serving) = hub.serve(patient, echo).await;
    let response = within(call(&link, request("/s/1", full("hello")))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "hello");

    // Its clock is moved on to where the hub's patience ends.
    tokio::time::pause();
    let error = handshake.establish().await.unwrap_err();
    assert!(matches!(error, HandshakeError::Timeout), "{error}");
}

#[tokio::test]
async fn packets_of_no_protocol_are_nothing_to_anybody() {
    let hub = Hub::new(Tuning::default());
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    for len in [0, 1, 20, 1200] {
        for first in [0x00, 0x40, 0xc0, 0xff] {
            let mut packet = pattern(len).to_vec();
            if let Some(byte) = packet.first_mut() {
                *byte = first;
            }
            socket.send_to(&packet, hub.address).await.unwrap();
        }
    }
    let (link, _serving) = hub.serve(Tuning::default(), echo).await;
    let response = within(call(&link, request("/s/1", full("hello")))).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "hello");
}

#[tokio::test]
async fn a_hub_that_does_not_answer_is_said_not_to() {
    let pki = Pki::new();
    let nobody = UdpSocket::bind(loopback()).await.unwrap();
    let address = nobody.local_addr().unwrap();
    let dialer = Dialer::new(pki.client_tls(Some(pki.agent())), Tuning::default()).unwrap();
    tokio::time::pause();
    let error = dialer.dial(address, HUB).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let hub = Hub::new(Tuning::default());
    let error = Listener::bind(hub.address, hub.pki.server_tls(), SECRET, Tuning::default()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&hub.address.to_string()) && said.contains("--agents"),
        "{said}"
    );
}

#[tokio::test]
async fn the_agent_s_certificate_is_the_hub_s_to_see() {
    let hub = Hub::new(Tuning::default());
    let (chain, key) = hub.pki.agent();
    let tls = hub.pki.client_tls(Some((chain.clone(), key)));
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    let (link, agent) = tokio::join!(hub.accept(), within(dialer.dial(hub.address, HUB)));
    assert_eq!(link.peer_certificates(), chain);
    assert_eq!(agent.unwrap().remote_address(), hub.address);
}
