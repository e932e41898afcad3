//! What the hub's port for raw TCP answers to whom it gives no connection, and what that costs.

use adit_hub::Limits;
use adit_proto::failure::Reason;
use tonic::Code;

use super::*;
use crate::world::process::{self, HubProcess};
use crate::world::raw::RawClient;
use crate::world::sample;

/// What is answered to these bytes, and that the connection ends in order after it.
async fn told(hub: SocketAddr, said: &[u8]) -> Value {
    let mut stream = TcpStream::connect(hub).await.unwrap();
    stream.write_all(said).await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(to_end(&mut stream).await.is_empty());
    answer
}

#[track_caller]
fn is(answer: &Value, reason: Reason, code: Code, words: &[&str]) {
    assert_eq!(answer["ok"], json!(false), "{answer}");
    assert_eq!(answer["reason"], json!(reason.as_str()), "{answer}");
    assert_eq!(answer["code"], json!(code as i32), "{answer}");
    let message = answer["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
}

fn line(agent: &str, target: &str) -> Vec<u8> {
    (json!({"agent": agent, "target": target}).to_string() + "\n").into_bytes()
}

#[tokio::test]
async fn each_refusal_says_what_is_wrong_and_what_to_do() {
    let path = Path::with(Carrier::Quic, |hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let dead = Machine::start().await;
    let dead_target = dead.target().parse().unwrap();
    let _second = path
        .world
        .agent_with(path.hub.agents, "site-b", &[], |agent| agent.tcp(dead_target));
    let mut operator = Operator::of(&path.hub).await;
    operator.sees(|links| links.len() == 2).await;
    let hub = path.hub.tcp();
    let target = path.machine.target();
    let name = format!("localhost:{}", path.machine.address.port());
    let answer = told(hub, &line("site-a", &name)).await;
    is(&answer, Reason::Denied, Code::PermissionDenied, &[&name, "--tcp"]);
    let answer = told(hub, &line("site-b", &target)).await;
    is(&answer, Reason::Denied, Code::PermissionDenied, &[&target]);
    let answer = told(hub, &line("site-c", &target)).await;
    is(
        &answer,
        Reason::AgentOffline,
        Code::Unavailable,
        &["site-c", "not connected"],
    );
    let dead = {
        let target = dead.target();
        drop(dead);
        target
    };
    let answer = told(hub, &line("site-b", &dead)).await;
    is(
        &answer,
        Reason::UpstreamRefused,
        Code::Unavailable,
        &[&dead, "refused"],
    );

    let bad = Code::InvalidArgument;
    let long = [&b"{\"agent\":\""[..], &vec![b'a'; 20 << 10]].concat();
    for (said, words) in [
        (&b"\n"[..], &["not JSON", "{\"agent\""][..]),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &["no object of JSON"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["no object of JSON"]),
        (b"\x16\x03\x01\x02\x00", &["no TLS"]),
        (b"{\"agent\":\"site-a\"}\n", &["something else", "\"target\""]),
        (b"{\"agent\":1,\"target\":\"a:1\"}\n", &["something else"]),
        (
            b"{\"agent\":\"site-a\",\"target\":\"a:1\",\"more\":1}\n",
            &["something else"],
        ),
        (
            b"{\"agent\":\"Site A\",\"target\":\"a:1\"}\n",
            &["\"agent\"", "Site A"],
        ),
        (
            b"{\"agent\":\"site-a\",\"target\":\"a\"}\n",
            &["\"target\"", "HOST:PORT"],
        ),
        (&long, &["longer than 16384"]),
    ] {
        is(&told(hub, said).await, Reason::NoRoute, bad, words);
    }
    let with_token = |token: &str| {
        (json!({"agent": "site-a", "target": target, "token": token}).to_string() + "\n").into_bytes()
    };
    let (unknown, unauthenticated) = (Reason::Unauthenticated, Code::Unauthenticated);
    let answer = told(hub, &with_token("secret")).await;
    is(&answer, unknown, unauthenticated, &["leave \"token\" out"]);
    assert!(!answer.to_string().contains("secret"));
    let answer = told(hub, &with_token(&"t".repeat(8193))).await;
    is(&answer, unknown, unauthenticated, &["8193", "8192 are the limit"]);
    // None of it has come near the machine, and the port is well.
    let (client, _server) = path.connection().await;
    drop(client);
    // Neither gRPC's clients nor their calls get at it.
    let client = RawClient::connect(path.hub.clients).await;
    let reply = client.get_at("site-a", "/adit.tunnel.v1.Agent/Dial").await;
    reply.failed(Reason::Denied, Code::PermissionDenied, "no");
}

#[tokio::test]
async fn an_agent_that_is_not_connected_is_waited_for() {
    let path = Path::over(Carrier::Quic).await;
    let machine = Machine::start().await;
    let mut client = TcpStream::connect(path.hub.tcp()).await.unwrap();
    client
        .write_all(&line("site-b", &machine.target()))
        .await
        .unwrap();
    let mut operator = Operator::of(&path.hub).await;
    let waits = async {
        loop {
            let status = operator.hub.get_status(adit_proto::hub::v1::GetStatusRequest {});
            if status.await.unwrap().into_inner().calls_waiting == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(waits).await;
    let target = machine.target().parse().unwrap();
    let _agent = path
        .world
        .agent_with(path.hub.agents, "site-b", &[], |agent| agent.tcp(target));
    assert_eq!(answer(&mut client).await, json!({"ok": true}));
    drop(machine.connection().await);
}

#[tokio::test]
async fn an_agent_of_an_operators_drain_takes_none() {
    let path = Path::with(Carrier::Quic, |hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let mut operator = Operator::of(&path.hub).await;
    operator.sees(|links| links.len() == 1).await;
    let (_client, _server) = path.connection().await;
    assert_eq!(operator.drain("site-a", "").await.unwrap(), 1);
    let answer = told(path.hub.tcp(), &line("site-a", &path.machine.target())).await;
    is(&answer, Reason::Draining, Code::Unavailable, &["site-a"]);
}

#[tokio::test]
async fn what_one_client_may_have_it_may_have_on_both_ports_together() {
    let limits = Limits {
        connections_per_client: 2,
        ..Limits::default()
    };
    let path = Path::with(Carrier::Quic, |hub| hub.limits(limits)).await;
    let (client, server) = path.connection().await;
    let _grpc = RawClient::connect(path.hub.clients).await;
    let answer = told(path.hub.tcp(), b"").await;
    is(
        &answer,
        Reason::AgentBusy,
        Code::ResourceExhausted,
        &["2 connections"],
    );
    drop((client, server));
    let again = async {
        loop {
            let mut client = TcpStream::connect(path.hub.tcp()).await.unwrap();
            if ask(&mut client, "site-a", &path.machine.target()).await == json!({"ok": true}) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(again).await;

    let limits = Limits {
        calls_per_client: 1,
        ..Limits::default()
    };
    let path = Path::with(Carrier::Quic, |hub| hub.limits(limits)).await;
    let (_client, _server) = path.connection().await;
    let answer = told(path.hub.tcp(), &line("site-a", &path.machine.target())).await;
    is(&answer, Reason::AgentBusy, Code::ResourceExhausted, &["1 calls"]);
}

#[tokio::test]
async fn clients_that_leave_or_say_nothing_leave_nothing_behind() {
    let path = Path::over(Carrier::Quic).await;
    for said in [
        "",
        "{\"agent\"",
        "{\"agent\":\"site-z\",\"target\":\"a:1\"}\nmore",
    ] {
        let mut client = TcpStream::connect(path.hub.tcp()).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        abort(client);
    }
    // One that has gone while its target still reads, and never ends.
    let (client, server) = path.connection().await;
    abort(client);
    let mut operator = Operator::of(&path.hub).await;
    operator.sees(in_flight(0)).await;
    let gone = async {
        loop {
            let status = operator.hub.get_status(adit_proto::hub::v1::GetStatusRequest {});
            let status = status.await.unwrap().into_inner();
            if (status.clients, status.calls_in_flight) == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(gone).await;
    drop(server);
}

#[tokio::test]
async fn an_agent_for_raw_tcp_alone_has_no_service() {
    let path = Path::with(Carrier::Quic, |hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let mut operator = Operator::of(&path.hub).await;
    let links = operator.sees(|links| links.len() == 1).await;
    assert!(
        links[0].services_known && links[0].service_count == 0,
        "{links:?}"
    );
    let client = RawClient::connect(path.hub.clients).await;
    let reply = client.get_at("site-a", "/a.B/C").await;
    let said = reply.failed(Reason::NoRoute, Code::Unimplemented, "no");
    assert!(said.contains("--upstream"), "{said}");
}

#[tokio::test]
async fn a_port_that_others_reach_needs_certificates_as_that_of_clients_does() {
    let world = World::new();
    let base = [
        "hub",
        "--certs",
        world.dir(),
        "--admin",
        "127.0.0.1:0",
        "--clients",
        "127.0.0.1:0",
    ];
    let arguments = [
        "--agents",
        "127.0.0.1:0",
        "--tcp",
        "0.0.0.0:0",
        "--client-tls",
        "off",
    ];
    let error = process::fails(&[&base[..], &arguments].concat(), 1).await;
    for word in [
        "--tcp 0.0.0.0:0 with --client-tls off",
        "--client-tls mutual",
        "--insecure-clients",
    ] {
        assert!(error.contains(word), "{error}");
    }
    let check = ["--tcp", "0.0.0.0:9092", "--check-config"];
    let output = process::output(&[&base[..], &check].concat()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("for raw TCP to 0.0.0.0:9092"), "{said}");
    // Without a word about TLS, certificates are asked for there.
    let hub = HubProcess::start(&world, &["--tcp", "0.0.0.0:0"]).await;
    let files = world.client_files("billing");
    let at = SocketAddr::from(([127, 0, 0, 1], hub.tcp().port()));
    let client = TlsClient::new(&files.ca, Some(&files)).offering(&[]);
    let mut stream = client.connect(at).await.unwrap();
    stream.write_all(b"\n").await.unwrap();
    let mut told = String::new();
    // The hub has no more to say, and says so.
    soon(stream.read_to_string(&mut told)).await.unwrap();
    assert!(told.contains("not JSON"), "{told}");
    let heard = TlsClient::new(&files.ca, None).offering(&[]).refused(at).await;
    assert!(heard.contains("CertificateRequired"), "{heard}");
    // No secret is in the log.
    let mut stream = client.connect(at).await.unwrap();
    let said = json!({"agent": "site-a", "target": "a:1", "token": "verysecret"}).to_string() + "\n";
    stream.write_all(said.as_bytes()).await.unwrap();
    hub.process
        .says(&["WARN", "refused a raw TCP connection", "unauthenticated"])
        .await;
    assert_eq!(hub.process.said(&["verysecret"]), 0);
    // gRPC goes on beside it.
    let sample = sample::Sample::start().await;
    let _agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
    sample::four_kinds(hub.clients, Some("site-a")).await;
}
