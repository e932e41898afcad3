//! Who makes a call, as far as its connection tells.

use std::fmt;
use std::net::IpAddr;

use adit_certs::ClientName;

/// The client at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// What its certificate says, which the handshake has checked; `None` where none is asked for.
    pub(crate) name: Option<ClientName>,
    /// Where it connects from.
    pub(crate) address: IpAddr,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "client {name}"),
            None => write!(f, "the client at {}", self.address),
        }
    }
}
