//! `adit connect --tcp`: a local port that is a target beside an agent.

use super::*;
use crate::world::process::{self, HubProcess, Process};

/// The command, and where it listens.
async fn open(target: &str, via: SocketAddr, arguments: &[&str]) -> (Process, SocketAddr) {
    let via = via.to_string();
    let mut all = vec!["connect", "site-a", "--tcp", target, "--via", &via];
    all.extend(["--listen", "127.0.0.1:0"]);
    all.extend(arguments);
    let process = Process::start(&all);
    let line = process.says(&["the port is open", target, &via]).await;
    let address = line.split(' ').find_map(|field| field.strip_prefix("listen="));
    (process, address.unwrap().parse().unwrap())
}

/// Both ends of a connection through a port.
async fn through(port: SocketAddr, machine: &Machine) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(port).await.unwrap();
    (client, machine.connection().await)
}

/// Comes to a port that resets what it accepts, and may do so while its client still connects, or writes.
async fn comes_to_nothing(port: SocketAddr) {
    let coming = async {
        let mut client = TcpStream::connect(port).await?;
        client.write_all(b"hello").await?;
        tokio::io::copy(&mut client, &mut tokio::io::sink()).await
    };
    let error = soon(coming).await.expect_err("it ends in order");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn a_port_is_the_target_in_cleartext_and_with_certificates() {
    let world = World::new();
    let machine = Machine::start().await;
    let target = machine.target();
    world.client_files("billing");
    let trusted = ["--certs", world.dir(), "--name", "billing"];
    for (hub_tls, client_arguments) in [("off", &[][..]), ("mutual", &trusted[..]), ("on", &trusted[..2])] {
        let mut hub = HubProcess::start(&world, &["--tcp", "127.0.0.1:0", "--client-tls", hub_tls]).await;
        let agent = hub.agent(&world, "site-a", &["--tcp", &target]);
        hub.has("site-a").await;
        let (mut port, address) = open(&target, hub.tcp(), client_arguments).await;
        let (mut client, mut server) = through(address, &machine).await;
        agent.says(&["connected to a target", &target]).await;
        let (up, down) = (bytes(LARGE, 5), bytes(LARGE, 6));
        let (mut client_read, mut client_write) = client.split();
        let (mut server_read, mut server_write) = server.split();
        let sending = async {
            client_write.write_all(&up).await.unwrap();
            client_write.shutdown().await.unwrap();
            // The answer comes only once the question has ended.
            to_end(&mut client_read).await
        };
        let serving = async {
            let all = to_end(&mut server_read).await;
            server_write.write_all(&down).await.unwrap();
            server_write.shutdown().await.unwrap();
            all
        };
        let (at_client, at_server) = soon(async { tokio::join!(sending, serving) }).await;
        assert!(at_client == down && at_server == up, "other bytes");
        let length = LARGE.to_string();
        hub.process
            .says(&[
                "a raw TCP connection ended",
                &format!("sent={length}"),
                &format!("received={length}"),
            ])
            .await;

        // Resets cross.
        let (client, mut server) = through(address, &machine).await;
        abort(client);
        is_reset(&mut server).await;
        let (mut client, server) = through(address, &machine).await;
        abort(server);
        is_reset(&mut client).await;
        if !client_arguments.is_empty() {
            continue;
        }
        // And the hub's end is one.
        let (mut client, mut server) = through(address, &machine).await;
        hub.process.kill().await;
        is_reset(&mut client).await;
        is_reset(&mut server).await;
        comes_to_nothing(address).await;
        port.says(&["WARN", "cannot connect to the hub", "--tcp port"])
            .await;
        assert_eq!(port.terminate().await.code(), Some(0));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_once_for_each_connection_which_is_reset() {
    let world = World::new();
    let machine = Machine::start().await;
    let hub = HubProcess::start(&world, &["--tcp", "127.0.0.1:0", "--reconnect-grace", "10ms"]).await;
    let secure = HubProcess::start(&world, &["--tcp", "127.0.0.1:0", "--client-tls", "mutual"]).await;
    let _agent = hub.agent(&world, "site-a", &["--tcp", &machine.target()]);
    hub.has("site-a").await;
    let nowhere = "db.internal:5432";
    let ca = ["--certs", world.dir()];
    for (target, via, arguments, words) in [
        (
            nowhere,
            hub.tcp(),
            &[][..],
            &["refuses it: denied", "--tcp db.internal:5432"][..],
        ),
        (
            nowhere,
            secure.tcp(),
            &[],
            &["ended the connection", "--certs", "--name"],
        ),
        (nowhere, secure.tcp(), &ca, &["CertificateRequired", "--name"]),
        (nowhere, hub.tcp(), &ca, &["TLS with the hub", "does it have TLS"]),
        (nowhere, hub.clients, &[], &["is --via the hub's --tcp port?"]),
        (
            nowhere,
            secure.clients,
            &ca,
            &["TLS with the hub", "NoApplicationProtocol", "--via"],
        ),
    ] {
        let (port, address) = open(target, via, arguments).await;
        for times in [1, 2] {
            comes_to_nothing(address).await;
            let said = port.says_times(&["WARN", "a connection is reset"], times).await;
            for word in words {
                assert!(said.contains(word), "no {word:?} in {said}");
            }
            assert_eq!(port.said(&["a connection is reset"]), times);
        }
    }
}

#[tokio::test]
async fn a_port_that_drains_lets_connections_end() {
    let path = Path::over(Carrier::Quic).await;
    let target = path.machine.target();
    let (mut port, address) = open(&target, path.hub.tcp(), &[]).await;
    let (mut client, mut server) = through(address, &path.machine).await;
    port.signal("TERM").await;
    port.says(&["draining"]).await;
    client.write_all(b"still").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(to_end(&mut server).await, b"still");
    assert!(port.runs());
    server.write_all(b"there").await.unwrap();
    drop(server);
    assert_eq!(to_end(&mut client).await, b"there");
    assert_eq!(port.ended().await.code(), Some(0));

    let (mut port, address) = open(&target, path.hub.tcp(), &["--drain-timeout", "50ms"]).await;
    let (mut client, mut server) = through(address, &path.machine).await;
    assert_eq!(port.terminate().await.code(), Some(0));
    is_reset(&mut client).await;
    is_reset(&mut server).await;
}

#[tokio::test]
async fn wrong_arguments_are_refused_before_a_port_is_opened() {
    let base = ["connect", "site-a", "--listen", "0"];
    for (arguments, code, word) in [
        (&["--tcp", "db:5432"][..], 2, "--via"),
        (&["--via", "hub:9092"], 2, "--tcp"),
        (&["--tcp", "db", "--via", "hub:9092"], 2, "it has no port"),
        (&["--tcp", "db:5432", "--via", "http://hub:9092"], 2, "HOST:PORT"),
        (
            &[
                "--tcp",
                "db:5432",
                "--via",
                "hub:9092",
                "--hub",
                "http://hub:9090",
            ],
            2,
            "cannot be used with",
        ),
        (
            &["--tcp", "db:5432", "--via", "hub:9092", "--certs", "/nowhere"],
            1,
            "/nowhere/ca.pem",
        ),
    ] {
        let error = process::fails(&[&base[..], arguments].concat(), code).await;
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
    let open = [
        "connect",
        "site-a",
        "--listen",
        "0.0.0.0:0",
        "--tcp",
        "db:5432",
        "--via",
        "hub:9092",
    ];
    let error = process::fails(&open, 1).await;
    assert!(error.contains("--insecure-clients"), "{error}");
}
