#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConnection, Connection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection};

use super::*;
use crate::test_fixtures::{AnyCa, Folder, billing, days, dns, hub, server, uri};
use crate::{CredentialFiles, Identity, Role, Subject, load_certified_key};

/// Both ends after a handshake in memory.
struct Handshake {
    client: Connection,
    server: Connection,
}

fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Handshake, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = Connection::Client(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::Server(ServerConnection::new(Arc::new(server)).unwrap());
    // Enough flights for a full handshake and what follows it.
    for _ in 0..4 {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Handshake { client, server })
}

fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    while from.wants_write() {
        let mut flight = Vec::new();
        from.write_tls(&mut flight).unwrap();
        let mut flight = flight.as_slice();
        while !flight.is_empty() {
            to.read_tls(&mut flight).unwrap();
            to.process_new_packets()?;
        }
    }
    Ok(())
}

struct Pair {
    folder: Folder,
    agent: Credentials,
    hub: Credentials,
}

fn pair() -> Pair {
    let folder = Folder::new();
    let agent = Credentials::load(&folder.agent(), Role::Agent).unwrap();
    let hub = Credentials::load(&folder.issue(&hub(), days(1)), Role::Hub).unwrap();
    Pair { folder, agent, hub }
}

#[test]
fn agent_and_hub_prove_themselves_to_each_other() {
    let Pair { agent, hub, .. } = pair();
    for name in ["hub.example", "127.0.0.1"] {
        let done = handshake(agent.client_config().unwrap(), hub.server_config().unwrap(), name).unwrap();
        assert_eq!(done.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let identity =
            |end: &Connection| Identity::from_certificate(&end.peer_certificates().unwrap()[0]).unwrap();
        assert_eq!(Some(&identity(&done.server)), agent.identity());
        assert_eq!(Some(&identity(&done.client)), hub.identity());
        assert_eq!(done.server.alpn_protocol(), None);
    }
    let wrong_name = handshake(
        agent.client_config().unwrap(),
        hub.server_config().unwrap(),
        "other.example",
    );
    assert!(wrong_name.is_err());
}

#[test]
fn nobody_without_a_certificate_of_the_ca_gets_in() {
    let Pair { folder, agent, hub } = pair();
    let anonymous = hub.trust_store().client_config().unwrap();
    let error = handshake(anonymous, hub.server_config().unwrap(), "hub.example")
        .err()
        .unwrap();
    assert_eq!(error, rustls::Error::NoCertificatesPresented);

    let stranger = AnyCa::new();
    let files = stranger.files(|_| {});
    let cert = load_certified_key(&files.cert, &files.key).unwrap();
    let config = client(hub.trust_store(), Some(Arc::new(cert)), &[&TLS13]).unwrap();
    assert!(handshake(config, hub.server_config().unwrap(), "hub.example").is_err());

    // A server's certificate is not good for a client, even from the right CA.
    let files = folder.issue(&server(), days(1));
    let cert = load_certified_key(&files.cert, &files.key).unwrap();
    let config = client(hub.trust_store(), Some(Arc::new(cert)), &[&TLS13]).unwrap();
    let error = handshake(config, hub.server_config().unwrap(), "hub.example")
        .err()
        .unwrap();
    assert!(error.to_string().contains("extended key usage"), "{error}");

    // And an agent does not talk to a hub of another CA, nor to an agent that poses as one.
    let other = pair();
    assert!(
        handshake(
            agent.client_config().unwrap(),
            other.hub.server_config().unwrap(),
            "hub.example"
        )
        .is_err()
    );
    assert!(
        handshake(
            agent.client_config().unwrap(),
            agent.server_config().unwrap(),
            "hub.example"
        )
        .is_err()
    );
}

#[test]
fn a_session_is_never_resumed() {
    let Pair { agent, hub, .. } = pair();
    let mut eager = agent.client_config().unwrap();
    eager.resumption = Resumption::in_memory_sessions(8);
    let server = hub.server_config().unwrap();
    assert!(!server.ticketer.enabled());
    for _ in 0..3 {
        let done = handshake(eager.clone(), server.clone(), "hub.example").unwrap();
        assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
        let Connection::Client(client) = &done.client else {
            unreachable!("made as a client")
        };
        assert_eq!(client.tls13_tickets_received(), 0);
    }
    // Nor does our client resume with a server that offers it.
    let mut generous = server;
    generous.send_tls13_tickets = 2;
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    let shared = agent.client_config().unwrap();
    for _ in 0..3 {
        let done = handshake(shared.clone(), generous.clone(), "hub.example").unwrap();
        assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
    }
    // Two ends that both want to would have done it, so the above means something.
    handshake(eager.clone(), generous.clone(), "hub.example").unwrap();
    let done = handshake(eager, generous, "hub.example").unwrap();
    assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn what_is_recorded_today_is_kept_from_a_quantum_computer_and_older_peers_get_in() {
    let Pair { agent, hub, .. } = pair();
    let exchange = |client, server| {
        let done = handshake(client, server, "hub.example").unwrap();
        done.server.negotiated_key_exchange_group().unwrap().name()
    };
    let (client, server) = (agent.client_config().unwrap(), hub.server_config().unwrap());
    assert_eq!(
        exchange(client.clone(), server.clone()),
        NamedGroup::X25519MLKEM768
    );

    let mut older = aws_lc_rs::default_provider();
    older.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let older = Arc::new(older);
    let older_client = ClientConfig::builder_with_provider(Arc::clone(&older))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(agent.trust_store().roots().clone())
        .with_client_cert_resolver(Arc::clone(&client.client_auth_cert_resolver));
    assert_eq!(exchange(older_client, server.clone()), NamedGroup::X25519);
    let verifier = WebPkiClientVerifier::builder_with_provider(hub.trust_store().roots().clone(), provider());
    let older_server = ServerConfig::builder_with_provider(older)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(Arc::clone(&server.cert_resolver));
    assert_eq!(exchange(client, older_server), NamedGroup::X25519);
}

#[test]
fn only_upstreams_may_speak_an_older_version() {
    let Pair { folder, agent, .. } = pair();
    let files = folder.issue(&server(), days(1));
    let key: PrivateKeyDer<'static> = crate::pem_file::private_key(&files.key).unwrap();
    let chain = crate::pem_file::certificates(&files.cert, crate::FileKind::Certificate).unwrap();
    let older = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let upstream = upstream_config(agent.trust_store(), None).unwrap();
    let done = handshake(upstream, older.clone(), "localhost").unwrap();
    assert_eq!(done.client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(handshake(agent.client_config().unwrap(), older.clone(), "localhost").is_err());
    assert!(handshake(agent.trust_store().client_config().unwrap(), older, "localhost").is_err());
}

#[test]
fn an_upstream_may_demand_a_certificate() {
    let Pair { folder, agent, .. } = pair();
    let upstream = Credentials::load(&folder.issue(&server(), days(1)), Role::Server).unwrap();
    let files = folder.agent();
    let certificate = load_certified_key(&files.cert, &files.key).unwrap();
    let config = upstream_config(agent.trust_store(), Some(certificate)).unwrap();
    let done = handshake(config, upstream.server_config().unwrap(), "localhost").unwrap();
    assert_eq!(done.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let config = upstream_config(agent.trust_store(), None).unwrap();
    assert!(handshake(config, upstream.server_config().unwrap(), "localhost").is_err());
}

/// A client that shows `files` to the clients' port.
fn as_client(hub: &Credentials, files: &CredentialFiles) -> Result<Handshake, rustls::Error> {
    let cert = load_certified_key(&files.cert, &files.key).unwrap();
    let config = client(hub.trust_store(), Some(Arc::new(cert)), &[&TLS13, &TLS12]).unwrap();
    handshake(config, hub.clients_config(&adit()).unwrap(), "hub.example")
}

fn adit() -> TrustDomain {
    "adit".parse().unwrap()
}

#[test]
fn the_clients_port_takes_clients_of_its_trust_domain_alone() {
    let folder = Folder::new();
    let good = folder.issue(&Subject::Client(billing()), days(1));
    let trusting = Credentials::load(&folder.issue(&hub(), days(1)), Role::Hub).unwrap();
    let done = as_client(&trusting, &good).unwrap();
    let shown = Identity::from_certificate(&done.server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(shown.client_name(), Some(&billing()));
    let said = as_client(&trusting, &folder.agent()).err().unwrap().to_string();
    for word in ["spiffe://adit/agent/site-7", "adit certs client"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }

    // A CA that vouches for anything.
    let any = AnyCa::new();
    let hubs = any.files(|params| {
        params.subject_alt_names = vec![uri("spiffe://adit/hub"), dns("hub.example")];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let trusting = Credentials::load(&hubs, Role::Hub).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["spiffe://adit/client/billing"], ""),
        (&["spiffe://other/client/billing"], "trust domain is adit"),
        (&[], "no SPIFFE id"),
        (&["spiffe://adit/client/a", "spiffe://adit/client/b"], "2 URIs"),
        (&["spiffe://adit/hub"], "spiffe://adit/hub"),
    ];
    for (uris, refusal) in cases {
        let files =
            any.files(|params| params.subject_alt_names = uris.iter().map(|name| uri(name)).collect());
        match as_client(&trusting, &files) {
            Ok(_) => assert!(refusal.is_empty(), "{uris:?} is let in"),
            Err(error) => {
                let said = error.to_string();
                assert!(!refusal.is_empty() && said.contains(refusal), "{uris:?}: {said}");
            }
        }
    }
}

#[test]
fn clients_may_speak_an_older_version_and_resume_nothing() {
    let folder = Folder::new();
    let files = folder.issue(&Subject::Client(billing()), days(1));
    let cert = Arc::new(load_certified_key(&files.cert, &files.key).unwrap());
    let hub = Credentials::load(&folder.issue(&hub(), days(1)), Role::Hub).unwrap();
    let mutual = hub.clients_config(&adit()).unwrap();
    let anybody = hub.anybody_config().unwrap();
    for (versions, version) in [
        ([&TLS12], ProtocolVersion::TLSv1_2),
        ([&TLS13], ProtocolVersion::TLSv1_3),
    ] {
        for (server, cert) in [(&mutual, Some(cert.clone())), (&anybody, None)] {
            let mut eager = client(hub.trust_store(), cert, &versions).unwrap();
            eager.resumption = Resumption::in_memory_sessions(8);
            for _ in 0..2 {
                let done = handshake(eager.clone(), server.clone(), "hub.example").unwrap();
                assert_eq!(done.client.protocol_version(), Some(version));
                assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
            }
        }
        let nobody = client(hub.trust_store(), None, &versions).unwrap();
        let error = handshake(nobody, mutual.clone(), "hub.example").err().unwrap();
        assert_eq!(error, rustls::Error::NoCertificatesPresented);
    }
}
