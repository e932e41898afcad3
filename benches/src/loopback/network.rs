//! What is between clients and hub at one end, and agents and services at the other.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::veth::{Reading, Veth};

/// The network that is measured on.
#[derive(Debug)]
pub(super) enum Network {
    /// Nothing but the loopback device, and why.
    Loopback(String),
    Veth(Box<Veth>),
}

impl Network {
    /// Of clients and the hub.
    pub(super) fn near(&self) -> IpAddr {
        match self {
            Self::Loopback(_) => Ipv4Addr::LOCALHOST.into(),
            Self::Veth(veth) => veth.near(),
        }
    }

    /// Of agents and services.
    pub(super) fn far(&self) -> IpAddr {
        match self {
            Self::Loopback(_) => Ipv4Addr::LOCALHOST.into(),
            Self::Veth(veth) => veth.far(),
        }
    }

    /// What stands before a command that runs at the far end.
    pub(super) fn at_far(&self) -> Vec<OsString> {
        match self {
            Self::Loopback(_) => Vec::new(),
            Self::Veth(veth) => veth.at_far(),
        }
    }

    /// What crossed it so far, near → far and back. The loopback device carries everything else as well, and is not asked.
    pub(super) fn read(&self) -> anyhow::Result<Option<[Reading; 2]>> {
        match self {
            Self::Loopback(_) => Ok(None),
            Self::Veth(veth) => veth.read().map(Some),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(why) => write!(f, "the loopback device: {why}"),
            Self::Veth(veth) => veth.fmt(f),
        }
    }
}
