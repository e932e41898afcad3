//! What stopped readers cost: measured at the process of a hub, beside live calls on the same link.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::RecvStream;
use h2::client::Builder;

use crate::world::process::{HubProcess, Process};
use crate::world::raw::{RawClient, Reply, message, to};
use crate::world::upstream::{Exchange, Server, echo, head, send_all, status};
use crate::world::{Agent, PATIENCE, World, soon};

const MIB: usize = 1 << 20;

/// Received bytes of one call that nobody has read, and bytes that wait for its client (docs/limits.md).
const CALL: usize = 2 * MIB + (64 << 10);

/// What each reader is owed: more than all windows for a call together.
const OWED: usize = 4 * MIB;

/// What a live call is answered with: more than a window's quarter, so that it needs credit of the link.
const LIVE: usize = MIB;

/// Live calls that are timed, one after the other.
const CALLS: usize = 20;

/// Memory of a hub that is none of its calls' bytes: their states, and what lies idle in the allocator.
const BESIDE: usize = 96 * MIB;

/// How long it may take to send half a gigabyte to readers that stop, on a machine that does much else.
const FILLING: Duration = PATIENCE.saturating_mul(4);

/// A hub as a process, an agent before an upstream that counts what it could send on each call, and stopped readers.
struct Path {
    hub: HubProcess,
    sent: Arc<Sent>,
    _server: Server,
    _agent: Agent,
    _world: World,
}

/// What the upstream has sent to those that do not read.
#[derive(Debug, Default)]
struct Sent {
    /// Calls that have been sent a whole stream window.
    filled: AtomicUsize,
    /// Calls that were given up.
    given_up: AtomicUsize,
}

impl Path {
    async fn start(arguments: &[&str]) -> Self {
        let sent = Arc::<Sent>::default();
        let flood = Bytes::from(vec![7; OWED]);
        let server = Server::start({
            let sent = Arc::clone(&sent);
            move |exchange| flood_or_echo(exchange, flood.clone(), Arc::clone(&sent))
        })
        .await;
        let world = World::new();
        let hub = HubProcess::start(&world, arguments).await;
        let agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B")
        });
        hub.has("site-a").await;
        Self {
            hub,
            sent,
            _server: server,
            _agent: agent,
            _world: world,
        }
    }

    /// Readers that stop before their first byte, on a connection of their own.
    async fn stop_reading(&self, readers: usize) -> (RawClient, Vec<RecvStream>) {
        let client = RawClient::connect_with(self.hub.clients, &Builder::new()).await;
        let begun = join_all((0..readers).map(|_| async {
            let (response, _) = client.send(to("site-a", "/a.B/Flood"), true).await;
            response.await.unwrap().into_body()
        }));
        let stopped = tokio::time::timeout(FILLING, begun).await;
        (client, stopped.expect("they are answered in time"))
    }

    /// Waits until so many of them have all that the hub takes for one, or have been given up.
    async fn have_filled(&self, readers: usize, hub: &Process) -> usize {
        let mut most = 0;
        let begun = Instant::now();
        loop {
            most = most.max(hub.memory());
            let (filled, given_up) = (&self.sent.filled, &self.sent.given_up);
            if filled.load(Ordering::Relaxed) + given_up.load(Ordering::Relaxed) >= readers {
                return most;
            }
            assert!(begun.elapsed() < FILLING, "{:?}", self.sent);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes live calls, and says how long the one in the middle took.
    async fn live(&self, client: &RawClient) -> Duration {
        let data = message(&vec![5; LIVE]);
        let mut took = Vec::new();
        for _ in 0..CALLS {
            let begun = Instant::now();
            let (response, mut send) = client.send(to("site-a", "/a.B/Echo"), false).await;
            let upload = async {
                assert!(send_all(&mut send, data.clone()).await);
                send.send_data(Bytes::new(), true).unwrap();
            };
            let download = async { Reply::read(response.await.unwrap().into_parts()).await };
            let (reply, ()) = soon(async { tokio::join!(download, upload) }).await;
            assert_eq!(reply.unwrap().succeeded().len(), LIVE);
            took.push(begun.elapsed());
        }
        took.sort();
        took[CALLS / 2]
    }
}

async fn flood_or_echo(mut exchange: Exchange, mut flood: Bytes, sent: Arc<Sent>) {
    if exchange.request.uri().path() != "/a.B/Flood" {
        return echo(exchange).await;
    }
    let mut send = exchange.respond.send_response(head(), false).unwrap();
    let window = flood.split_to(2 * MIB);
    let filled = send_all(&mut send, window).await;
    if filled {
        sent.filled.fetch_add(1, Ordering::Relaxed);
        if send_all(&mut send, flood).await {
            let _ = send.send_trailers(status("0"));
            return;
        }
        sent.filled.fetch_sub(1, Ordering::Relaxed);
    }
    sent.given_up.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test]
async fn two_hundred_cost_a_hub_what_their_windows_hold_and_live_calls_nothing() {
    const READERS: usize = 200;
    let path = Path::start(&[]).await;
    let client = RawClient::connect(path.hub.clients).await;
    let before = path.live(&client).await;
    let empty = path.hub.process.memory();

    let (_client, stopped) = path.stop_reading(READERS).await;
    let most = path.have_filled(READERS, &path.hub.process).await;
    assert_eq!(path.sent.given_up.load(Ordering::Relaxed), 0);
    let beside = path.live(&client).await;
    let most = most.max(path.hub.process.memory()) - empty;
    println!(
        "{READERS} stopped readers: {} MiB more, {} KiB each; a live call of 1 MiB: {before:?} before, {beside:?} beside them",
        most / MIB,
        most / READERS / 1024,
    );
    // As much is really held, or this measures nothing.
    assert!(most > READERS * MIB, "{} MiB", most / MIB);
    assert!(most < READERS * CALL + BESIDE, "{} MiB", most / MIB);
    assert_eq!(path.sent.filled.load(Ordering::Relaxed), READERS);
    drop(stopped);
}

#[tokio::test]
async fn a_link_s_memory_is_a_ceiling_and_live_calls_go_on_at_it() {
    const READERS: usize = 80;
    const CEILING: usize = 32 * MIB;
    let path = Path::start(&["--link-memory", "32MiB"]).await;
    let client = RawClient::connect(path.hub.clients).await;
    let before = path.live(&client).await;
    let empty = path.hub.process.memory();

    let (_client, stopped) = path.stop_reading(READERS).await;
    let most = path.have_filled(READERS, &path.hub.process).await;
    let beside = path.live(&client).await;
    let most = most.max(path.hub.process.memory()) - empty;
    println!(
        "{READERS} stopped readers below a ceiling of 32 MiB: {} MiB more; a live call of 1 MiB: {before:?} before, {beside:?} beside them",
        most / MIB,
    );
    let bound = CEILING + READERS * (CALL - 2 * MIB) + BESIDE;
    assert!(most < bound, "{} MiB", most / MIB);
    assert!(READERS * CALL > bound, "the ceiling makes no difference");

    // Those that were given up learn why, and the others have lost nothing.
    let ends = join_all(stopped.into_iter().map(|mut body| async move {
        let mut read = 0;
        while let Some(data) = soon(body.data()).await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
        }
        let trailers = soon(body.trailers()).await.unwrap().unwrap();
        if trailers["grpc-status"] == "0" {
            assert_eq!(read, OWED);
            return false;
        }
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["adit-error"], "slow-reader");
        assert_eq!(trailers["adit-delivered"], "maybe");
        true
    }));
    let given_up = ends.await.into_iter().filter(|&given_up| given_up).count();
    // A ceiling of 32 MiB has room for 16 windows, and a little less for what is granted ahead.
    assert!(
        (READERS - 16..READERS).contains(&given_up),
        "{given_up} were given up"
    );
}
