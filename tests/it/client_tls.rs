//! TLS on the clients' port: who is let in, who is not and learns why, and whom that disturbs.

use std::time::Instant;

use adit_certs::{CredentialFiles, Subject};
use adit_hub::{ClientTls, Limits};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::process::{self, HubProcess};
use crate::world::raw::{RawClient, to};
use crate::world::sample::{Sample, a_place};
use crate::world::tls::TlsClient;
use crate::world::upstream::Server;
use crate::world::{Hub, World, expired, soon};

const MUTUAL: [&str; 2] = ["--client-tls", "mutual"];

fn call() -> Request<()> {
    to("site-a", "/a.B/C")
}

async fn mutual(world: &World) -> Hub {
    world.hub_with(|hub| hub.client_tls(ClientTls::Mutual)).await
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let world = World::new();
    let hub = HubProcess::start(&world, &MUTUAL).await;
    let server = Server::echo().await;
    let _agent = hub.agent(&world, "site-a", &["--upstream", &server.url()]);
    let billing = world.client_files("billing");
    for client in [
        TlsClient::new(&billing.ca, Some(&billing)),
        TlsClient::old(&billing.ca, Some(&billing)),
    ] {
        client.http2(hub.clients).await.get(call()).await.succeeded();
    }
    let line = hub
        .process
        .says_times(&["INFO", "a client is connected", "billing"], 2)
        .await;
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn who_is_no_client_is_told_so_and_disturbs_nobody() {
    let (world, other) = (World::new(), World::new());
    let hub = HubProcess::start(&world, &MUTUAL).await;
    let server = Server::echo().await;
    let _agent = hub.agent(&world, "site-a", &["--upstream", &server.url()]);
    let good = world.client_files("billing");
    let ca = &good.ca;
    let client = TlsClient::new(ca, Some(&good)).http2(hub.clients).await;

    world.issue(&Subject::Client("old".parse().unwrap()), expired());
    let old = CredentialFiles::client(world.certs(), &"old".parse().unwrap());
    let foreign = other.client_files("billing");
    let agent = world.agent_files("site-a");
    let hubs = CredentialFiles::hub(world.certs());
    let cases = [
        ("none", None, "CertificateRequired", "no certificates"),
        (
            "an agent's",
            Some(&agent),
            "CertificateUnknown",
            "spiffe://adit/agent/site-a",
        ),
        (
            "another CA's",
            Some(&foreign),
            "UnknownCA",
            "not by this hub's CA",
        ),
        ("expired", Some(&old), "CertificateExpired", "expired"),
        ("the hub's", Some(&hubs), "UnsupportedCertificate", "key usage"),
    ];
    for (what, files, alert, reason) in cases {
        let heard = TlsClient::new(ca, files).refused(hub.clients).await;
        assert!(heard.contains(alert), "{what}: {heard}");
        hub.process
            .says(&["WARN", "closed a client's connection", reason])
            .await;
        let heard = TlsClient::old(ca, files).refused(hub.clients).await;
        assert!(heard.contains(alert), "{what}, TLS 1.2: {heard}");
        client.get(call()).await.succeeded();
    }

    let late = TlsClient::new(ca, Some(&good)).offering(&["http/1.1"]);
    let heard = late.refused(hub.clients).await;
    assert!(heard.contains("NoApplicationProtocol"), "{heard}");
    let heard = TlsClient::new(ca, Some(&good))
        .offering(&[])
        .refused(hub.clients)
        .await;
    assert!(heard.contains("closed after 0 bytes"), "{heard}");
    hub.process.says(&["WARN", "ALPN"]).await;
    // Clients of cleartext: of HTTP/2, and of HTTP/1.1.
    for said in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(hub.clients).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut back = Vec::new();
        soon(stream.read_to_end(&mut back)).await.unwrap();
    }
    hub.process.says_times(&["WARN", "not TLS"], 2).await;
    client.get(call()).await.succeeded();
}

#[tokio::test]
async fn with_the_hubs_certificate_alone_anybody_may_call() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.client_tls(ClientTls::On)).await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let billing = world.client_files("billing");
    for shown in [None, Some(&billing)] {
        let client = TlsClient::new(&billing.ca, shown);
        client.http2(hub.clients).await.get(call()).await.succeeded();
    }
    let other = World::new();
    let heard = TlsClient::new(&other.client_files("billing").ca, None)
        .refused(hub.clients)
        .await;
    assert!(heard.contains("UnknownIssuer"), "{heard}");
}

#[tokio::test]
async fn a_port_that_others_reach_is_mutual_unless_told() {
    let world = World::new();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let mut hub = world.hub_with(|hub| hub.clients(everywhere)).await;
    hub.clients.set_ip("127.0.0.1".parse().unwrap());
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let billing = world.client_files("billing");
    let client = TlsClient::new(&billing.ca, Some(&billing));
    client.http2(hub.clients).await.get(call()).await.succeeded();
    let heard = TlsClient::new(&billing.ca, None).refused(hub.clients).await;
    assert!(heard.contains("CertificateRequired"), "{heard}");

    for mode in ["off", "on"] {
        let arguments = [
            "hub",
            "--certs",
            world.dir(),
            "--agents",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ];
        let more = ["--clients", "0.0.0.0:0", "--client-tls", mode];
        let said = process::fails(&[&arguments[..], &more[..]].concat(), 1).await;
        for word in [
            "--clients 0.0.0.0:0",
            &format!("--client-tls {mode}"),
            "--insecure-clients",
        ] {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
    let mut insecure = world
        .hub_with(|hub| {
            hub.clients(everywhere)
                .client_tls(ClientTls::Off)
                .insecure_clients(true)
        })
        .await;
    insecure.clients.set_ip("127.0.0.1".parse().unwrap());
    let _agent = world.agent(&insecure, "site-a", &server.url());
    let client = RawClient::connect(insecure.clients).await;
    client.get(call()).await.succeeded();
}

#[tokio::test]
async fn slow_handshakes_hold_up_nobody_and_are_cut_off() {
    let world = World::new();
    let hub = mutual(&world).await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut slow = Vec::new();
    // Nothing, and the beginning of a ClientHello.
    for begin in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        for _ in 0..200 {
            let mut stream = TcpStream::connect(hub.clients).await.unwrap();
            stream.write_all(begin).await.unwrap();
            slow.push(stream);
        }
    }
    let billing = world.client_files("billing");
    let client = TlsClient::new(&billing.ca, Some(&billing));
    // One that has shaken hands and says nothing more.
    let mut mute = client.connect(hub.clients).await.unwrap();
    let begun = Instant::now();
    client.http2(hub.clients).await.get(call()).await.succeeded();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());

    let mut back = Vec::new();
    for mut stream in slow {
        let _ = soon(stream.read_to_end(&mut back)).await;
    }
    let _ = soon(mute.read_to_end(&mut back)).await;
    client.http2(hub.clients).await.get(call()).await.succeeded();
}

#[tokio::test]
async fn past_the_limit_of_handshakes_connections_are_closed() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.client_tls(ClientTls::Mutual).limits(Limits {
                handshakes: 2,
                ..Limits::default()
            })
        })
        .await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(TcpStream::connect(hub.clients).await.unwrap());
    }
    let mut third = TcpStream::connect(hub.clients).await.unwrap();
    let begun = Instant::now();
    assert_eq!(soon(third.read(&mut [0])).await.unwrap(), 0);
    assert!(begun.elapsed().as_secs() < 5, "it is closed at once");
    drop(slow);
    let billing = world.client_files("billing");
    let client = TlsClient::new(&billing.ca, Some(&billing));
    soon(async { while client.connect(hub.clients).await.is_err() {} }).await;
}

#[tokio::test]
async fn the_command_calls_with_a_clients_certificate() {
    let world = World::new();
    let hub = HubProcess::start(&world, &MUTUAL).await;
    let sample = Sample::start().await;
    let _agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
    hub.has("site-a").await;
    world.client_files("billing");
    let url = format!("https://{}", hub.clients);
    let point = a_place().location.unwrap();
    let data = format!(
        r#"{{"latitude": {}, "longitude": {}}}"#,
        point.latitude, point.longitude
    );
    let base = ["call", "--hub", &url, "--agent", "site-a", "--certs", world.dir()];
    let method = ["routeguide.RouteGuide/GetFeature", "-d", &data];
    let named = [&base[..], &["--name", "billing"], &method].concat();
    let output = process::output(&named).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(&a_place().name));
    hub.process.says(&["a client is connected", "billing"]).await;

    // Without a name, and with the files of an agent in a client's place.
    let said = process::fails(&[&base[..], &method].concat(), 64 + 14).await;
    assert!(said.contains("--name NAME"), "{said}");
    world.agent_files("site-a");
    let said = process::fails(&[&base[..], &["--name", "nobody"], &method].concat(), 1).await;
    assert!(said.contains("client-nobody"), "{said}");
}
