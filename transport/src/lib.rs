//! Carriers and links: one gRPC call on one stream, whichever carrier is below.
//!
//! A [`HubLink`] is the hub's end of a link and makes calls; an [`AgentLink`] is the agent's end and serves them.
//! Both speak `http` requests and responses with a [`Body`] of bytes and trailers, and know nothing of agents'
//! names, of routing or of policy.
//!
//! From the wire upwards:
//!
//! * [`rh3`]: frames, QPACK and message heads of HTTP/3. Pure bytes: no socket, no runtime, no clock.
//! * [`quic`]: the `quic` carrier. Sockets, QUIC streams that reset when they are dropped, the control streams,
//!   and the two loops that carry a call: one that sends a message, one that receives it.
//! * [`rh2`]: the same calls on HTTP/2, over any authenticated stream of bytes: the carriers `tls` and `websocket`.
//! * `wire`: the bytes below those, whatever carries them.
//! * [`websocket`]: the bytes of HTTP/2 in the messages of a WebSocket, and the way through an HTTP proxy.
//! * [`liveness`]: whether a link is alive, judged from what arrives. No socket, no runtime, no clock either.
//! * [`coding`]: what links carry, compressed.
//! * [`metadata`]: fields taken out of a head, whose others keep their order.
//! * `network`: which way this machine's packets leave, and when that changes.
//! * `local`: the same for clients of this machine, which are no hub.
//! * `raw`: sockets of raw TCP connections, at either end of a call that carries one.
//! * [`body`], [`link`], [`carrier`], [`tuning`]: what the crates above see, with a [`Listener`] and a [`Dialer`].

pub mod body;
pub mod carrier;
pub mod coding;
mod dial;
pub mod link;
mod listen;
pub mod liveness;
mod local;
pub mod metadata;
mod network;
#[cfg(feature = "qlog")]
mod qlog;
pub mod quic;
mod raw;
pub mod rh2;
pub mod rh3;
mod running;
mod tcp;
pub mod tuning;
pub mod websocket;
mod wire;

pub use body::{Body, BodyError};
pub use carrier::{Carrier, UnknownCarrier};
pub use coding::{Coding, Codings};
pub use dial::{DialError, Dialer};
pub use link::{AgentLink, CallError, Delivered, HubLink, LinkError, Reset, Standing};
pub use listen::{BindError, HANDSHAKE_TIMEOUT, HANDSHAKES, Handshake, HandshakeError, Listener};
pub use liveness::{Activity, Dead, Liveness, Sample, Verdict};
pub use local::LocalConnection;
pub use network::Way;
#[cfg(feature = "qlog")]
pub use qlog::{MAX_QLOG_FILE, MAX_QLOG_FILES, QlogFolder, QlogFolderError};
pub use quic::readers::BufferMemory;
pub use raw::{RawSocket, Reader};
pub use rh3::code::Code;
pub use tuning::{Congestion, Tuning};
pub use websocket::{InvalidWebSocketUrl, ProxyError, UpgradeError, WebSocketUrl};

/// What a peer says, for logs and messages: it is not to steer anybody's terminal.
pub(crate) fn printable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    let escaped = text.chars().map(|c| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    });
    escaped.collect()
}
