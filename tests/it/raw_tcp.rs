//! Raw TCP through an agent: bytes both ways, each side's end, resets, and what a link's end or a drain does to them.

mod command;
mod refused;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use adit_agent::Carrier;
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::raw::ALPN;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::operator::Operator;
use crate::world::tls::TlsClient;
use crate::world::{ANY_PORT, Agent, Hub, SHORT_GRACE, World, soon};

const ALL: [Carrier; 3] = [Carrier::Quic, Carrier::Tls, Carrier::WebSocket];

/// Twice the window of a call.
const LARGE: usize = 4 << 20;

/// A TCP server beside an agent.
struct Machine {
    listener: TcpListener,
    address: SocketAddr,
}

impl Machine {
    async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn target(&self) -> String {
        self.address.to_string()
    }

    /// The next connection of the agent.
    async fn connection(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }
}

/// A hub, and an agent `site-a` that may connect to one machine.
struct Path {
    world: World,
    hub: Hub,
    agent: Agent,
    machine: Machine,
}

impl Path {
    async fn over(carrier: Carrier) -> Self {
        Self::with(carrier, |hub| hub).await
    }

    async fn with(carrier: Carrier, change: impl FnOnce(adit_hub::Builder) -> adit_hub::Builder) -> Self {
        let (world, machine) = (World::new(), Machine::start().await);
        let hub = world.hub_with(|hub| change(hub.tcp(ANY_PORT))).await;
        let target = machine.target().parse().unwrap();
        let agent = world.agent_with(hub.agents, "site-a", &[], |agent| {
            agent.carrier(carrier).tcp(target)
        });
        Self {
            world,
            hub,
            agent,
            machine,
        }
    }

    /// Both ends of a new connection.
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(self.hub.tcp()).await.unwrap();
        let target = self.machine.target();
        let asked = ask(&mut client, "site-a", &target);
        let (answer, server) = tokio::join!(asked, self.machine.connection());
        assert_eq!(answer, json!({"ok": true}));
        (client, server)
    }
}

/// Says where to, and gives what the hub says to it.
async fn ask<S>(stream: &mut S, agent: &str, target: &str) -> Value
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let line = json!({"agent": agent, "target": target}).to_string() + "\n";
    soon(stream.write_all(line.as_bytes())).await.unwrap();
    soon(stream.flush()).await.unwrap();
    answer(stream).await
}

/// The hub's line, and no byte more.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Value {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(soon(stream.read_u8()).await.unwrap());
    }
    serde_json::from_slice(&line).unwrap()
}

/// Bytes of which none can be missing, doubled or misplaced unseen.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

async fn to_end<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    all
}

/// Waits for the end of a connection, which has to be a reset.
async fn is_reset<S: AsyncRead + Unpin>(stream: &mut S) {
    let ended = soon(tokio::io::copy(stream, &mut tokio::io::sink())).await;
    let error = ended.expect_err("it ends in order");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// Has the system reset a connection.
fn abort(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

fn in_flight(count: u32) -> impl Fn(&[Link]) -> bool {
    move |links| links.iter().map(|link| link.calls_in_flight).sum::<u32>() == count
}

#[tokio::test]
async fn large_transfers_both_ways_lose_no_byte_whoever_ends_first_and_reads_slowly() {
    for carrier in ALL {
        let path = Path::over(carrier).await;
        for client_is_slow in [true, false] {
            let (client, server) = path.connection().await;
            let (slow, fast) = match client_is_slow {
                true => (client, server),
                false => (server, client),
            };
            let (up, down) = (bytes(LARGE, 1), bytes(LARGE, 2));
            // One side has sent all and said so long before the other has read half.
            let (mut slow_read, mut slow_write) = slow.into_split();
            let (mut fast_read, mut fast_write) = fast.into_split();
            let sending = async {
                fast_write.write_all(&down).await.unwrap();
                fast_write.shutdown().await.unwrap();
            };
            let reading = async {
                let mut all = Vec::new();
                let mut piece = vec![0; 100_000];
                loop {
                    let length = slow_read.read(&mut piece).await.unwrap();
                    if length == 0 {
                        return all;
                    }
                    all.extend_from_slice(&piece[..length]);
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            };
            let back = async {
                slow_write.write_all(&up).await.unwrap();
                slow_write.shutdown().await.unwrap();
            };
            let came_back = async {
                let mut all = Vec::new();
                fast_read.read_to_end(&mut all).await.unwrap();
                all
            };
            let ((), (), at_slow, at_fast) =
                soon(async { tokio::join!(sending, back, reading, came_back) }).await;
            assert!(at_slow == down && at_fast == up, "{carrier}: other bytes");
        }
    }
}

#[tokio::test]
async fn each_side_ends_on_its_own_and_what_is_said_before_the_answer_is_not_lost() {
    for carrier in ALL {
        let path = Path::over(carrier).await;
        // The client says all it has with its line, and has ended before there is an agent's answer.
        let mut client = TcpStream::connect(path.hub.tcp()).await.unwrap();
        let line = json!({"agent": "site-a", "target": path.machine.target()}).to_string();
        let said = format!("{line}\nall that I have");
        client.write_all(said.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = path.machine.connection().await;
        assert_eq!(to_end(&mut server).await, b"all that I have");
        server.write_all(b"and the answer").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(answer(&mut client).await, json!({"ok": true}));
        assert_eq!(to_end(&mut client).await, b"and the answer", "{carrier}");

        // The server greets and ends first, and hears on.
        let (mut client, mut server) = path.connection().await;
        server.write_all(b"welcome").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(to_end(&mut client).await, b"welcome");
        client.write_all(b"thank ").await.unwrap();
        client.write_all(b"you").await.unwrap();
        drop(client);
        assert_eq!(to_end(&mut server).await, b"thank you", "{carrier}");
    }
}

#[tokio::test]
async fn a_reset_of_either_side_is_one_to_the_other() {
    for carrier in ALL {
        let path = Path::over(carrier).await;
        for client_ended in [false, true] {
            let (mut client, mut server) = path.connection().await;
            if client_ended {
                client.shutdown().await.unwrap();
                assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap(), 0);
            }
            abort(client);
            if client_ended {
                // Nothing is left to be read, and the next write finds out.
                wait_for_reset(&mut server).await;
            } else {
                is_reset(&mut server).await;
            }

            let (mut client, mut server) = path.connection().await;
            if client_ended {
                client.shutdown().await.unwrap();
                assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap(), 0);
            }
            server.write_all(b"some").await.unwrap();
            let mut some = [0; 4];
            soon(client.read_exact(&mut some)).await.unwrap();
            abort(server);
            is_reset(&mut client).await;
        }
    }
}

/// Writes until the system says that the connection is no more.
async fn wait_for_reset(stream: &mut TcpStream) {
    let written = async {
        loop {
            if stream.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(written).await;
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_other_side_back_and_nobody_else() {
    let path = Path::over(Carrier::Quic).await;
    let (mut stopped, server) = path.connection().await;
    // As much as there is room for on the way, and it is not without end.
    let mut sent = 0;
    let piece = vec![0; 1 << 20];
    loop {
        let written = tokio::time::timeout(Duration::from_secs(1), async {
            server.writable().await.unwrap();
            server.try_write(&piece)
        });
        match written.await {
            Ok(Ok(length)) => sent += length,
            Ok(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            Err(_) => break,
        }
        assert!(sent < 64 << 20, "nothing holds it back");
    }
    let (mut client, mut beside) = path.connection().await;
    beside.write_all(b"quick").await.unwrap();
    beside.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(to_end(&mut client).await, b"quick");
    // All of it comes once it is read.
    drop(server);
    stopped.shutdown().await.unwrap();
    assert_eq!(to_end(&mut stopped).await.len(), sent);
}

#[tokio::test]
async fn a_link_that_ends_in_mid_transfer_is_a_reset_on_both_sides_and_no_end() {
    for carrier in ALL {
        let path = Path::over(carrier).await;
        let (mut client, mut server) = path.connection().await;
        // Each has something under way that is whole by itself.
        server.write_all(b"a whole line\n").await.unwrap();
        let mut line = [0; 13];
        soon(client.read_exact(&mut line)).await.unwrap();
        client.write_all(b"a whole line\n").await.unwrap();
        soon(server.read_exact(&mut line)).await.unwrap();
        let mut operator = Operator::of(&path.hub).await;
        let kicked = operator
            .kick(Some(Whom::Agent("site-a".to_owned())), "a test")
            .await;
        assert_eq!(kicked.unwrap(), 1);
        is_reset(&mut client).await;
        is_reset(&mut server).await;

        // And so is the agent's end.
        let (mut client, mut server) = path.connection().await;
        path.agent.stop().await;
        is_reset(&mut client).await;
        is_reset(&mut server).await;
    }
}

#[tokio::test]
async fn a_connection_is_shown_as_a_call() {
    let path = Path::over(Carrier::Quic).await;
    let mut operator = Operator::of(&path.hub).await;
    let connections = [path.connection().await, path.connection().await];
    let links = operator.sees(in_flight(2)).await;
    assert_eq!((links.len(), links[0].calls), (1, 2));
    let status = operator.hub.get_status(adit_proto::hub::v1::GetStatusRequest {});
    let status = soon(status).await.unwrap().into_inner();
    assert_eq!((status.clients, status.calls_in_flight), (2, 2));
    for (client, server) in connections {
        drop(client);
        drop(server);
    }
    operator.sees(in_flight(0)).await;
    let gone = async {
        loop {
            let status = operator.hub.get_status(adit_proto::hub::v1::GetStatusRequest {});
            if status.await.unwrap().into_inner().clients == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn an_agent_that_drains_lets_connections_end_and_takes_no_more() {
    for carrier in ALL {
        let path = Path::with(carrier, |hub| hub.reconnect_grace(SHORT_GRACE)).await;
        let mut operator = Operator::of(&path.hub).await;
        operator.sees(|links| links.len() == 1).await;
        let (mut client, mut server) = path.connection().await;
        let (hub, target) = (path.hub.tcp(), path.machine.target());
        let draining = tokio::spawn(path.agent.drain());
        let drains = |links: &[Link]| {
            let state = adit_proto::hub::v1::link::State::Draining;
            links.iter().all(|link| link.state() == state)
        };
        operator.sees(drains).await;
        let mut late = TcpStream::connect(hub).await.unwrap();
        let answer = ask(&mut late, "site-a", &target).await;
        assert_eq!(answer["reason"], "draining", "{answer}");
        client.write_all(b"still").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(to_end(&mut server).await, b"still");
        assert!(!draining.is_finished());
        server.write_all(b"there").await.unwrap();
        drop(server);
        assert_eq!(to_end(&mut client).await, b"there", "{carrier}");
        soon(draining).await.unwrap();
    }
}

#[tokio::test]
async fn a_hub_that_drains_lets_connections_end_within_the_drain_timeout() {
    let path = Path::over(Carrier::Quic).await;
    let (mut client, mut server) = path.connection().await;
    path.hub.drain();
    let closed = async {
        while TcpStream::connect(path.hub.tcp()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(closed).await;
    client.write_all(b"still").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(to_end(&mut server).await, b"still");
    server.write_all(b"there").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(to_end(&mut client).await, b"there");
    path.hub.ended().await;

    let moment = Duration::from_millis(200);
    let path = Path::with(Carrier::Quic, |hub| hub.drain_timeout(moment)).await;
    let (mut client, mut server) = path.connection().await;
    // One that has not said yet where to must not hold the hub up either.
    let silent = TcpStream::connect(path.hub.tcp()).await.unwrap();
    path.hub.drain();
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    path.hub.ended().await;
    drop(silent);
}

#[tokio::test]
async fn a_client_with_a_certificate_gets_the_same_over_tls() {
    let path = Path::with(Carrier::Quic, |hub| hub.client_tls(adit_hub::ClientTls::Mutual)).await;
    let files = path.world.client_files("billing");
    let target = path.machine.target();
    let protocols = [vec![], vec![std::str::from_utf8(ALPN).unwrap()]];
    for protocols in &protocols {
        for client in [
            TlsClient::new(&files.ca, Some(&files)),
            TlsClient::old(&files.ca, Some(&files)),
        ] {
            let client = client.offering(protocols);
            let mut stream = client.connect(path.hub.tcp()).await.unwrap();
            let (answer, mut server) =
                tokio::join!(ask(&mut stream, "site-a", &target), path.machine.connection());
            assert_eq!(answer, json!({"ok": true}));
            let (up, down) = (bytes(LARGE, 3), bytes(LARGE, 4));
            let (mut read, mut write) = tokio::io::split(stream);
            let (mut server_read, mut server_write) = server.split();
            let client = async {
                let writing = async {
                    write.write_all(&up).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                tokio::join!(writing, to_end(&mut read)).1
            };
            let serving = async {
                let writing = async {
                    server_write.write_all(&down).await.unwrap();
                    server_write.shutdown().await.unwrap();
                };
                tokio::join!(writing, to_end(&mut server_read)).1
            };
            let (at_client, at_server) = soon(async { tokio::join!(client, serving) }).await;
            assert!(at_client == down && at_server == up, "other bytes");
        }
    }
    // An end that TLS does not say is no end: anybody on the way could have made it.
    let client = TlsClient::new(&files.ca, Some(&files)).offering(&[]);
    let mut stream = client.connect(path.hub.tcp()).await.unwrap();
    let (answer, mut server) = tokio::join!(ask(&mut stream, "site-a", &target), path.machine.connection());
    assert_eq!(answer, json!({"ok": true}));
    stream.get_mut().0.shutdown().await.unwrap();
    is_reset(&mut server).await;
    // Clients without a certificate, and of gRPC.
    let heard = TlsClient::new(&files.ca, None)
        .offering(&[])
        .refused(path.hub.tcp())
        .await;
    assert!(heard.contains("CertificateRequired"), "{heard}");
    let heard = TlsClient::new(&files.ca, Some(&files))
        .refused(path.hub.tcp())
        .await;
    assert!(heard.contains("NoApplicationProtocol"), "{heard}");
}
