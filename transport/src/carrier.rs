//! How an agent is connected to its hub.

use std::fmt;
use std::str::FromStr;

/// What a link runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// HTTP/3 with its roles reversed, over QUIC (UDP).
    Quic,
    /// HTTP/2 with its roles reversed, over TLS 1.3 (TCP).
    Tls,
    /// The same inside the binary messages of a WebSocket.
    WebSocket,
}

/// A name that is no carrier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown carrier {0:?}: use quic, tls or websocket")]
pub struct UnknownCarrier(String);

impl Carrier {
    /// The name as flags, logs and operators see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Carrier {
    type Err = UnknownCarrier;

    fn from_str(name: &str) -> Result<Self, UnknownCarrier> {
        let all = [Self::Quic, Self::Tls, Self::WebSocket];
        all.into_iter()
            .find(|carrier| carrier.as_str() == name)
            .ok_or_else(|| UnknownCarrier(name.to_owned()))
    }
}
