//! Links in virtual time: real QUIC connections, and a bottleneck that they share.
//!
//! Nothing sleeps, and nothing depends on the machine: the same seed loses the same packets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn::congestion::ControllerFactory;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, StreamId, Transmit, WriteError,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::quic::tests::support::{HUB, Pki};
use crate::quic::{ALPN, config};

/// Bytes of a small call.
pub(super) const CALL: usize = 1024;

/// Datagrams that a sender hands over at a time.
const BATCH: usize = 10;

/// What the bottleneck is like. It may change as time goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bytes a second, towards the receivers.
    pub(super) rate: u64,
    /// There and back.
    pub(super) round_trip: Duration,
    /// Of each packet, either way: 0 to 1.
    pub(super) loss: f64,
    /// Bytes that wait at the most.
    pub(super) queue: u64,
}

/// What a sender sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// One stream, as much as the link takes, from and until then.
    pub(super) bulk: Option<(Duration, Duration)>,
    /// Calls a second, evenly, of [`CALL`] bytes each way.
    pub(super) calls: u32,
}

/// What has become of one sender's load.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// When bytes of bulk arrived, and how many.
    bulk: Vec<(Duration, u64)>,
    /// When a call was to be made, and how long it took until its answer was there.
    calls: Vec<(Duration, Duration)>,
}

/// Senders at one end of a bottleneck, and their receivers at the other.
pub(super) struct Simulation {
    start: Instant,
    now: Duration,
    path: Path,
    rng: StdRng,
    /// When the bottleneck has sent what waits in it.
    busy_until: Duration,
    /// On their way: when they arrive, their order, whose they are, and whether towards the receiver.
    flying: BinaryHeap<Reverse<(Duration, u64, usize, bool)>>,
    datagrams: HashMap<u64, BytesMut>,
    order: u64,
    pairs: Vec<Pair>,
}

struct Pair {
    sender: Host,
    receiver: Host,
    load: Load,
    bulk: Option<StreamId>,
    next_call: Duration,
    /// Calls that wait to be written, and calls under way.
    unwritten: VecDeque<(StreamId, usize)>,
    calls: BTreeMap<StreamId, Call>,
    seen: Seen,
}

/// A call under way.
struct Call {
    /// When it was to be made.
    begun: Duration,
    /// The receiver has it, and has answered.
    arrived: bool,
}

struct Host {
    address: SocketAddr,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    ready: bool,
}

impl Seen {
    /// Bytes of bulk a second, in a span of time.
    pub(super) fn bulk_rate(&self, from: Duration, until: Duration) -> f64 {
        let bytes: u64 = self
            .bulk
            .iter()
            .filter(|(at, _)| (from..until).contains(at))
            .map(|(_, bytes)| bytes)
            .sum();
        bytes as f64 / (until - from).as_secs_f64()
    }

    /// A quantile of the time that calls took which were to be made in a span of time.
    pub(super) fn call_time(&self, quantile: f64, from: Duration, until: Duration) -> Duration {
        let calls = self.calls.iter().filter(|(at, _)| (from..until).contains(at));
        let mut times: Vec<_> = calls.map(|&(_, took)| took).collect();
        times.sort_unstable();
        assert!(!times.is_empty(), "no calls");
        #[expect(clippy::cast_possible_truncation, reason = "it is a position in a list")]
        let position = ((times.len() - 1) as f64 * quantile).round() as usize;
        times[position]
    }

    /// How many calls arrived that were to be made in a span of time.
    pub(super) fn calls(&self, from: Duration, until: Duration) -> usize {
        self.calls
            .iter()
            .filter(|(at, _)| (from..until).contains(at))
            .count()
    }
}

impl Simulation {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        Self {
            start: Instant::now(),
            now: Duration::ZERO,
            path,
            rng: StdRng::seed_from_u64(seed),
            busy_until: Duration::ZERO,
            flying: BinaryHeap::new(),
            datagrams: HashMap::new(),
            order: 0,
            pairs: Vec::new(),
        }
    }

    /// Adds a sender with this controller and load.
    pub(super) fn sender(
        &mut self,
        pki: &Pki,
        controller: Arc<dyn ControllerFactory + Send + Sync>,
        load: Load,
    ) -> usize {
        let mut transport = TransportConfig::default();
        transport
            .congestion_controller_factory(controller)
            .send_window(16 << 20)
            .stream_receive_window(VarInt::from_u32(2 << 20))
            .receive_window(VarInt::from_u32(16 << 20))
            .max_concurrent_bidi_streams(VarInt::from_u32(1 << 20))
            .max_concurrent_uni_streams(VarInt::from_u32(1 << 20))
            .max_idle_timeout(None)
            .initial_rtt(Duration::from_millis(100))
            .ack_frequency_config(Some(config::ack_frequency()))
            .mtu_discovery_config(None)
            .initial_mtu(1452);
        let transport = Arc::new(transport);
        let (mut client_tls, mut server_tls) = (pki.client_tls(Some(pki.agent())), pki.server_tls());
        client_tls.alpn_protocols = vec![ALPN.to_vec()];
        server_tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server_tls).unwrap()));
        server.transport_config(Arc::clone(&transport));
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls).unwrap()));
        client.transport_config(transport);
        let index = self.pairs.len();
        let seed = |end: u8| {
            let mut seed = [end; 32];
            seed[0] = u8::try_from(index).unwrap();
            Some(seed)
        };
        let address =
            |end: u8| SocketAddr::from((Ipv4Addr::new(10, 0, end, u8::try_from(index).unwrap()), 4433));
        let mut sender = Host {
            address: address(1),
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, seed(1)),
            connection: None,
            ready: false,
        };
        let receiver = Host {
            address: address(2),
            endpoint: Endpoint::new(
                Arc::new(EndpointConfig::default()),
                Some(Arc::new(server)),
                true,
                seed(2),
            ),
            connection: None,
            ready: false,
        };
        let now = self.start + self.now;
        sender.connection = Some(
            sender
                .endpoint
                .connect(now, client, receiver.address, HUB)
                .unwrap(),
        );
        self.pairs.push(Pair {
            sender,
            receiver,
            load,
            bulk: None,
            next_call: Duration::from_secs(1),
            unwritten: VecDeque::new(),
            calls: BTreeMap::new(),
            seen: Seen::default(),
        });
        index
    }

    /// Changes the bottleneck from now on.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Path)) {
        change(&mut self.path);
    }

    /// Has a sender send bulk once more, from and until then.
    pub(super) fn resume(&mut self, sender: usize, from: Duration, until: Duration) {
        self.pairs[sender].load.bulk = Some((from, until));
    }

    /// What the bottleneck is like now.
    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// What a sender's load has come to so far.
    pub(super) fn seen(&self, sender: usize) -> &Seen {
        &self.pairs[sender].seen
    }

    /// Lets time go by.
    pub(super) fn run_until(&mut self, end: Duration) {
        loop {
            for index in 0..self.pairs.len() {
                self.offer(index);
                self.drive(index);
            }
            let Some(next) = self.next().filter(|&next| next < end) else {
                self.now = end;
                return;
            };
            self.now = next.max(self.now);
            while let Some(&Reverse((at, order, index, towards))) = self.flying.peek() {
                if at > self.now {
                    break;
                }
                self.flying.pop();
                let datagram = self.datagrams.remove(&order).unwrap();
                self.arrive(index, towards, datagram);
            }
            let now = self.start + self.now;
            for pair in &mut self.pairs {
                for host in [&mut pair.sender, &mut pair.receiver] {
                    if let Some((_, connection)) = &mut host.connection
                        && connection.poll_timeout().is_some_and(|at| at <= now)
                    {
                        connection.handle_timeout(now);
                    }
                }
            }
        }
    }

    /// When something happens next.
    fn next(&mut self) -> Option<Duration> {
        let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
        let (start, now) = (self.start, self.now);
        let timers = self.pairs.iter_mut().flat_map(|pair| {
            let call = (pair.load.calls > 0 && pair.sender.ready).then_some(pair.next_call);
            let bulk = pair.load.bulk.map(|(from, _)| from).filter(|&from| from > now);
            let timeouts = [&mut pair.sender, &mut pair.receiver].map(|host| {
                let (_, connection) = host.connection.as_mut()?;
                connection
                    .poll_timeout()
                    .map(|at| at.saturating_duration_since(start))
            });
            [call, bulk.filter(|_| pair.sender.ready), timeouts[0], timeouts[1]]
        });
        timers.flatten().chain(arrival).min()
    }

    /// Writes what a sender's load has at this time.
    fn offer(&mut self, index: usize) {
        let (now, pair) = (self.now, &mut self.pairs[index]);
        let Some((_, connection)) = pair.sender.connection.as_mut().filter(|_| pair.sender.ready) else {
            return;
        };
        while pair.load.calls > 0 && pair.next_call <= now {
            let id = connection.streams().open(Dir::Bi).unwrap();
            let call = Call {
                begun: pair.next_call,
                arrived: false,
            };
            pair.calls.insert(id, call);
            pair.unwritten.push_back((id, CALL));
            pair.next_call += Duration::from_secs(1) / pair.load.calls;
        }
        while let Some((id, left)) = pair.unwritten.front_mut() {
            let mut stream = connection.send_stream(*id);
            match stream.write(&[0; CALL][..*left]) {
                Ok(written) => *left -= written,
                Err(WriteError::Blocked) => break,
                Err(error) => panic!("{error}"),
            }
            if *left == 0 {
                stream.finish().unwrap();
                pair.unwritten.pop_front();
            }
        }
        let Some((from, until)) = pair.load.bulk else {
            return;
        };
        if !(from..until).contains(&now) {
            return;
        }
        let id = *pair.bulk.get_or_insert_with(|| {
            let id = connection.streams().open(Dir::Uni).unwrap();
            // As a stream has it that has sent much.
            connection.send_stream(id).set_priority(-1).unwrap();
            id
        });
        // As far ahead as what follows could need, and no further: the sender's own queue is not the link's.
        while connection
            .send_stream(id)
            .write(&[0; 16 << 10])
            .is_ok_and(|written| written == 16 << 10)
        {}
    }

    /// Has both ends of a pair do what they can at this time.
    fn drive(&mut self, index: usize) {
        let now = self.start + self.now;
        for towards in [true, false] {
            let mut departing = Vec::new();
            let pair = &mut self.pairs[index];
            let host = if towards {
                &mut pair.sender
            } else {
                &mut pair.receiver
            };
            let Some((handle, connection)) = &mut host.connection else {
                continue;
            };
            let mut batch = Vec::new();
            loop {
                while let Some(event) = connection.poll_endpoint_events() {
                    if let Some(event) = host.endpoint.handle_event(*handle, event) {
                        connection.handle_event(event);
                    }
                }
                while let Some(event) = connection.poll() {
                    match event {
                        Event::Connected => host.ready = true,
                        Event::ConnectionLost { reason } => panic!("{reason}"),
                        _ => {}
                    }
                }
                batch.clear();
                let Some(transmit) = connection.poll_transmit(now, BATCH, &mut batch) else {
                    break;
                };
                departing.extend(datagrams(&transmit, &batch));
            }
            for datagram in departing {
                self.depart(index, towards, datagram);
            }
        }
    }

    fn depart(&mut self, index: usize, towards: bool, datagram: BytesMut) {
        let one_way = self.path.round_trip / 2;
        let arrives = if towards {
            let size = datagram.len() as u64 + 28;
            let waiting = self.busy_until.saturating_sub(self.now).as_secs_f64() * self.path.rate as f64;
            if waiting + size as f64 > self.path.queue as f64 {
                return;
            }
            self.busy_until =
                self.busy_until.max(self.now) + Duration::from_secs_f64(size as f64 / self.path.rate as f64);
            if self.rng.random_bool(self.path.loss) {
                return;
            }
            self.busy_until + one_way
        } else {
            if self.rng.random_bool(self.path.loss) {
                return;
            }
            self.now + one_way
        };
        self.order += 1;
        self.datagrams.insert(self.order, datagram);
        self.flying.push(Reverse((arrives, self.order, index, towards)));
    }

    fn arrive(&mut self, index: usize, towards: bool, datagram: BytesMut) {
        let now = self.start + self.now;
        let pair = &mut self.pairs[index];
        let (host, from) = if towards {
            (&mut pair.receiver, pair.sender.address)
        } else {
            (&mut pair.sender, pair.receiver.address)
        };
        let mut answer = Vec::new();
        match host.endpoint.handle(now, from, None, None, datagram, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut host.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = host.endpoint.accept(incoming, now, &mut answer, None);
                host.connection = Some(accepted.map_err(|error| error.cause).unwrap());
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        if towards {
            pair.receive(self.now);
        } else {
            pair.hear(self.now);
        }
    }
}

impl Pair {
    /// The receiver reads whatever has arrived, and answers calls.
    fn receive(&mut self, now: Duration) {
        let Some((_, connection)) = &mut self.receiver.connection else {
            return;
        };
        while connection.streams().accept(Dir::Uni).is_some()
            || connection.streams().accept(Dir::Bi).is_some()
        {}
        if let Some(bulk) = self.bulk {
            let (bytes, _) = read(connection, bulk);
            self.seen.bulk.push((now, bytes));
        }
        for (&id, call) in &mut self.calls {
            if !call.arrived && read(connection, id).1 {
                call.arrived = true;
                let mut stream = connection.send_stream(id);
                assert_eq!(stream.write(&[0; CALL]), Ok(CALL));
                stream.finish().unwrap();
            }
        }
    }

    /// The sender reads whatever has arrived.
    fn hear(&mut self, now: Duration) {
        let Some((_, connection)) = &mut self.sender.connection else {
            return;
        };
        let seen = &mut self.seen.calls;
        self.calls.retain(|&id, call| {
            let ended = call.arrived && read(connection, id).1;
            if ended {
                seen.push((call.begun, now.saturating_sub(call.begun)));
            }
            !ended
        });
    }
}

/// Reads what a stream has: how many bytes, and whether that was its end.
fn read(connection: &mut Connection, id: StreamId) -> (u64, bool) {
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else {
        return (0, false);
    };
    let mut bytes = 0;
    let ended = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(chunk)) => bytes += chunk.bytes.len() as u64,
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let _ = chunks.finalize();
    (bytes, ended)
}

/// The datagrams of one batch.
fn datagrams(transmit: &Transmit, batch: &[u8]) -> Vec<BytesMut> {
    let batch = &batch[..transmit.size];
    let size = transmit.segment_size.unwrap_or(batch.len());
    batch.chunks(size).map(BytesMut::from).collect()
}
