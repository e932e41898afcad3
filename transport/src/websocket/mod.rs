//! The `websocket` carrier: the bytes of `rh2` inside the binary messages of a WebSocket, for networks where only web traffic
//! passes.
//!
//! Straight to the hub the outer TLS is the link's own, mutual (subprotocol `rh2`). Behind anything that terminates TLS, a
//! second TLS runs *inside*, between the agent and the hub itself (subprotocol `rh2-tls`): whoever is between sees neither
//! calls nor identities.
//!
//! * `url`: where a WebSocket goes to.
//! * `stream`: a WebSocket as a stream of bytes.
//! * `upgrade`: how one begins, on either side.
//! * `proxy`: HTTP CONNECT through the proxy that the environment names.

mod proxy;
mod stream;
mod upgrade;
mod url;

pub use proxy::ProxyError;
pub(crate) use proxy::{Proxies, tunnel};
pub use upgrade::UpgradeError;
pub(crate) use upgrade::{accept, request};
pub use url::{InvalidWebSocketUrl, WebSocketUrl};

/// The subprotocol where the outer TLS is the link's own.
pub const SUBPROTOCOL: &str = "rh2";

/// The subprotocol where the link's TLS runs inside.
pub const SUBPROTOCOL_TLS: &str = "rh2-tls";

/// The path of the hub's WebSocket.
pub const PATH: &str = "/tunnel";

#[cfg(test)]
mod tests;
