//! Arguments, ports and bytes that are wrong: a clear error, and nobody else notices.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::world::process::{self, HubProcess, Process};
use crate::world::raw::RawClient;
use crate::world::sample::{self, Sample};
use crate::world::upstream::Server;
use crate::world::{ANY_PORT, World, soon};

#[tokio::test]
async fn wrong_arguments_are_named_with_the_usage() {
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["Usage: adit"]),
        (&["hubb"], &["hubb", "Usage: adit"]),
        (&["hub", "--agent", "x"], &["--agent", "Usage: adit hub"]),
        (&["hub", "--agents", "localhost"], &["--agents", "localhost"]),
        (&["hub", "--clients", "9090"], &["--clients", "9090"]),
        (&["hub", "--reconnect-grace", "3"], &["--reconnect-grace", "3"]),
        (
            &["hub", "--max-connection-age", "10ms"],
            &["--max-connection-age", "10ms", "1s or more"],
        ),
        (
            &["hub", "--congestion", "vegas"],
            &["vegas", "bbr, cubic or newreno"],
        ),
        (&["hub", "--workers", "0"], &["--workers", "0"]),
        (&["agent"], &["--id", "--hub", "--upstream"]),
        (
            &[
                "agent",
                "--id",
                "Site_7",
                "--hub",
                "h:1",
                "--upstream",
                "http://a:1",
            ],
            &["Site_7", "DNS label"],
        ),
        (
            &["agent", "--id", "a", "--hub", "hub", "--upstream", "http://a:1"],
            &["\"hub\"", "HOST:PORT"],
        ),
        (
            &["agent", "--id", "a", "--hub", "h:1", "--upstream", "ftp://a:1"],
            &["ftp://a:1"],
        ),
        (
            &[
                "agent",
                "--id",
                "a",
                "--hub",
                "h:1",
                "--upstream",
                "https://a:1",
                "--upstream-cert",
                "c",
            ],
            &["--upstream-key"],
        ),
        (&["call"], &["PACKAGE.SERVICE/METHOD"]),
    ];
    for (arguments, words) in cases {
        let stderr = process::fails(arguments, 2).await;
        for word in *words {
            assert!(stderr.contains(word), "{arguments:?}: no {word:?} in {stderr}");
        }
    }
}

#[tokio::test]
async fn two_upstreams_for_the_same_calls_are_refused() {
    let world = World::new();
    world.agent_files("a");
    let base = [
        "agent",
        "--certs",
        world.dir(),
        "--id",
        "a",
        "--hub",
        "127.0.0.1:1",
    ];
    let both = ["--upstream", "http://b:1", "--upstream", "http://c:1"];
    let stderr = process::fails(&[&base[..], &both[..]].concat(), 1).await;
    assert!(
        stderr.contains("http://b:1") && stderr.contains("http://c:1"),
        "{stderr}"
    );
}

#[tokio::test]
async fn ports_that_are_taken_are_named_with_their_flag() {
    let world = World::new();
    let tcp = TcpListener::bind(ANY_PORT).await.unwrap();
    let tcp = tcp.local_addr().map(|address| (address, tcp)).unwrap();
    let udp = UdpSocket::bind(ANY_PORT).await.unwrap();
    let udp = udp.local_addr().map(|address| (address, udp)).unwrap();
    for (flag, taken) in [("--clients", tcp.0), ("--admin", tcp.0), ("--agents", udp.0)] {
        let taken = taken.to_string();
        let mut arguments = vec!["hub", "--certs", world.dir()];
        for other in ["--clients", "--admin", "--agents"] {
            let address = if other == flag { &taken } else { "127.0.0.1:0" };
            arguments.extend([other, address]);
        }
        let stderr = process::fails(&arguments, 1).await;
        for word in [flag, &taken, "in use"] {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
    }
}

#[tokio::test]
async fn an_agent_whose_hub_is_out_of_reach_says_so_and_goes_on() {
    let world = World::new();
    world.agent_files("site-a");
    // Nothing answers there: a datagram socket that nobody reads.
    let nobody = UdpSocket::bind(ANY_PORT).await.unwrap();
    let hub = nobody.local_addr().unwrap().to_string();
    let start = |hub: &str| {
        let arguments = ["agent", "--certs", world.dir(), "--id", "site-a", "--hub", hub];
        Process::start(&[&arguments[..], &["--upstream", "http://127.0.0.1:1"]].concat())
    };
    let mut silent = start(&hub);
    let mut unknown = start("no-such-hub.invalid:4433");
    unknown
        .says_times(&["cannot reach the hub", "no-such-hub.invalid"], 2)
        .await;
    silent
        .says(&["cannot reach the hub", &hub, "is the hub running there"])
        .await;
    for agent in [&mut silent, &mut unknown] {
        assert!(agent.runs());
        let begun = Instant::now();
        assert_eq!(agent.terminate().await.code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

/// What comes back until the other end closes the connection, and whether it did so in order.
async fn says(hub: SocketAddr, bytes: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(hub).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    let end = soon(stream.read_to_end(&mut back)).await;
    (back, end.map(drop))
}

#[tokio::test]
async fn an_http1_client_is_told_what_the_port_speaks() {
    let world = World::new();
    let hub = world.hub().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: hub\r\n\r\n", "x".repeat(2000));
    let requests = [
        "GET / HTTP/1.1\r\nhost: hub\r\n\r\n",
        "POST /a.B/C HTTP/1.1\r\nhost: hub\r\ncontent-length: 1\r\n\r\nx",
        "PUT / HTTP/1.0\r\n\r\n",
        &long,
    ];
    for request in requests {
        let (answer, end) = says(hub.clients, request.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 505 "), "{head}");
        assert!(body.contains("gRPC") && body.contains("HTTP/2"), "{body}");
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{length}? {head}");
        end.expect("the connection ends in order, or a client may lose the answer");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http2_are_cut_off() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/C").await.succeeded();

    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 500]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let cases: &[(&str, Vec<u8>)] = &[
        ("TLS", tls_hello),
        ("zeros", vec![0; 4096]),
        ("almost", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n\n garbage".to_vec()),
        ("frames", [&preface[..], &[0xff; 64]].concat()),
    ];
    for (name, bytes) in cases {
        let (back, _) = says(hub.clients, bytes).await;
        assert!(!back.starts_with(b"HTTP/1.1 200"), "{name}: {back:?}");
        client.get_at("site-a", "/a.B/C").await.succeeded();
    }
    // Garbage at the agents' port is no reason to answer, or to stop.
    let udp = UdpSocket::bind(ANY_PORT).await.unwrap();
    for datagram in [&[0_u8; 1200][..], &[0xff; 1200], b"GET / HTTP/1.1", &[]] {
        udp.send_to(datagram, hub.agents).await.unwrap();
    }
    client.get_at("site-a", "/a.B/C").await.succeeded();
    let _late = world.agent(&hub, "site-b", &server.url());
    client.get_at("site-b", "/a.B/C").await.succeeded();
}

#[tokio::test]
async fn who_speaks_no_good_http2_has_a_line_in_the_log() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    says(hub.clients, b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n")
        .await
        .1
        .unwrap();
    let closed = ["WARN", "closed a client's connection", "peer=127.0.0.1:"];
    hub.process
        .says(&[&closed[..], &["does not speak HTTP/2"]].concat())
        .await;
    // DATA on no stream (RFC 9113 §6.1).
    says(
        hub.clients,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    )
    .await
    .1
    .unwrap();
    hub.process
        .says(&[&closed[..], &["breaks the rules of HTTP/2", "PROTOCOL_ERROR"]].concat())
        .await;
    assert_eq!(hub.process.said(&["WARN"]), 2);
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_nobody() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let mut silent = Vec::new();
    for begin in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(hub.clients).await.unwrap();
            stream.write_all(begin).await.unwrap();
            silent.push(stream);
        }
    }
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/C").await.succeeded();
    // They were not cut off either: a client may be slow.
    let mut slow = silent.pop().unwrap();
    slow.write_all(b"\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut header = [0; 9];
    soon(slow.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[3], 4, "no SETTINGS frame came: {header:?}");
}

#[tokio::test]
async fn every_setting_may_come_from_the_environment() {
    let world = World::new();
    let sample = Sample::start().await;
    let hub = Process::start_with(
        &["hub"],
        &[
            ("ADIT_HUB_CERTS", world.dir()),
            ("ADIT_HUB_AGENTS", "127.0.0.1:0,127.0.0.2:0"),
            ("ADIT_HUB_CLIENTS", "127.0.0.1:0"),
            ("ADIT_HUB_ADMIN", "127.0.0.1:0"),
            ("ADIT_HUB_RECONNECT_GRACE", "20s"),
            ("ADIT_HUB_CONGESTION", "cubic"),
            ("ADIT_HUB_WORKERS", "1"),
        ],
    );
    let line = hub.says(&["the hub listens", "congestion=cubic"]).await;
    let field = |name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split([' ', ',', ']']).next().unwrap().to_owned()
    };
    let (agents, clients) = (field("agents=["), field("clients="));
    assert!(line.contains("127.0.0.2:"), "two ports for agents: {line}");
    world.agent_files("site-a");
    let agent = Process::start_with(
        &["agent"],
        &[
            ("ADIT_AGENT_CERTS", world.dir()),
            ("ADIT_AGENT_ID", "site-a"),
            ("ADIT_AGENT_HUB", &agents),
            ("ADIT_AGENT_UPSTREAM", &sample.url()),
            ("ADIT_AGENT_CONGESTION", "newreno"),
            ("ADIT_AGENT_WORKERS", "1"),
        ],
    );
    agent.says(&["the agent starts", "congestion=newreno"]).await;
    sample::four_kinds(clients.parse().unwrap(), Some("site-a")).await;
    // The command line has the last word.
    let refused = Process::start_with(
        &["hub", "--congestion", "vegas"],
        &[("ADIT_HUB_CONGESTION", "bbr")],
    );
    refused.says(&["vegas"]).await;
}

#[tokio::test]
async fn what_a_hub_logs_names_its_agents_and_no_secret() {
    let world = World::new();
    let sample = Sample::start().await;
    let hub = HubProcess::start(&world, &[]).await;
    let agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
    hub.has("site-a").await;
    agent.says(&["the hub takes calls for this agent"]).await;
    assert_eq!(
        hub.process.said(&["PRIVATE KEY"]) + agent.said(&["PRIVATE KEY"]),
        0
    );
    assert_eq!(hub.process.said(&["WARN"]), 0);
}
