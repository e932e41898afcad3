//! Every setting of a link that costs memory or time, with its default and what it costs.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::coding::Codings;
use crate::quic::readers::BufferMemory;

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// Settings of one end of a link. [`Tuning::default`] is meant for both ends on any network.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Bytes that the peer may send on one stream before this end has read them. 2 MiB fills 100 Mbit/s at 40 ms
    /// with a lost packet's extra round trips; it is also what one call with a stalled reader costs in memory.
    pub stream_window: u32,
    /// The same over all streams of a link, as it starts: eight stream windows, and not fewer, or the stalled readers
    /// that it is not raised for would hold all of it. It is raised by a little more than a stream window for each of the
    /// others, so that these never spend a live call's credit.
    pub link_window: u32,
    /// What [`link_window`](Self::link_window) may be raised to: the most memory that received bytes can hold on one
    /// link. When the peer says that all of it is used up, the call stalled longest is given up.
    pub link_memory: u32,
    /// What all links together may raise their windows by: the memory of received bytes of the whole process, beside
    /// what each link has at the least. Clones of these settings share one ceiling.
    pub buffer_memory: Arc<BufferMemory>,
    /// Bytes written and not yet acknowledged, over all streams of a link: memory of the sender.
    pub send_window: u32,
    /// Calls at once on one link. The agent grants the hub that many bidirectional streams; a stream costs about
    /// 1 KiB beside what its window holds.
    pub max_calls: u32,
    /// The longest header section (RFC 9114 §4.2.2: names, values and 32 bytes a field) that this end takes.
    /// A longer one fails its call and no other.
    pub max_header_section: u32,
    /// A link from which nothing came for this long is lost.
    pub idle_timeout: Duration,
    /// How often an idle agent sends a packet. Only the agent does: an expired NAT mapping opens from inside only.
    pub keep_alive: Duration,
    /// The round-trip time assumed until one is measured; three of them pass before a lost handshake packet is
    /// sent again. RFC 9002 §6.2.2 recommends 333 ms, which makes that wait a second.
    pub initial_rtt: Duration,
    /// The largest UDP payload that path MTU discovery tries: 1,452 is Ethernet's 1,500 less IPv6 and UDP.
    /// Starts at 1,200, so a smaller path works as well.
    pub max_udp_payload: u16,
    /// Hand the kernel several packets in one call (UDP GSO). Turn off where a network card drops them.
    pub segmentation_offload: bool,
    /// Bytes asked of the kernel for each of a UDP socket's two buffers. What was granted is logged.
    pub socket_buffer: u32,
    /// How a sender decides how much may be under way.
    pub congestion: Congestion,
    /// Codings that this end can compress and decompress calls with, where both ends agree to. With
    /// zstd one call costs up to 300 KiB for each direction, at either end.
    pub codings: Codings,
    /// Where each link over QUIC has a file of what QUIC does on it. A file is written at each packet.
    #[cfg(feature = "qlog")]
    pub qlog: Option<Arc<crate::qlog::QlogFolder>>,
}

/// A congestion controller. It decides what a lossy link carries more than anything else does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Models bandwidth and round-trip time, keeps the queue below a quarter of a round trip, and does not take a random loss
    /// for congestion.
    #[default]
    Bounded,
    /// Models them as well (quinn's BBRv1): its queue is a round trip long, and longer where the link becomes slower.
    Bbr,
    /// RFC 9438. Collapses at about 1 % random loss.
    Cubic,
    /// RFC 9002 §7. Collapses at about 1 % random loss.
    NewReno,
}

/// A name that is no congestion controller.
#[derive(Debug, thiserror::Error)]
#[error("unknown congestion controller {0:?}: use bounded, bbr, cubic or newreno")]
pub struct UnknownCongestion(String);

impl Default for Tuning {
    fn default() -> Self {
        Self {
            stream_window: 2 * MIB,
            link_window: 16 * MIB,
            link_memory: 512 * MIB,
            buffer_memory: BufferMemory::new(2 << 30),
            send_window: 16 * MIB,
            max_calls: 4096,
            max_header_section: 128 * KIB,
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            initial_rtt: Duration::from_millis(100),
            max_udp_payload: 1452,
            segmentation_offload: true,
            socket_buffer: 7 * MIB,
            congestion: Congestion::default(),
            codings: Codings::default(),
            #[cfg(feature = "qlog")]
            qlog: None,
        }
    }
}

impl FromStr for Congestion {
    type Err = UnknownCongestion;

    fn from_str(name: &str) -> Result<Self, UnknownCongestion> {
        match name {
            "bounded" => Ok(Self::Bounded),
            "bbr" => Ok(Self::Bbr),
            "cubic" => Ok(Self::Cubic),
            "newreno" => Ok(Self::NewReno),
            _ => Err(UnknownCongestion(name.to_owned())),
        }
    }
}

impl std::fmt::Display for Congestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bounded => "bounded",
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
        })
    }
}
