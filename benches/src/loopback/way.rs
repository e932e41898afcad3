//! How a load gets to the service, and what it does there.

use std::fmt;
use std::num::NonZeroUsize;

use adit_bench::load::Load;
use adit_transport::Carrier;
use clap::ValueEnum;

/// The kinds of ways that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// No tunnel
    Direct,
    /// The service in the agent's process
    InProcess,
    /// The service behind the agent, over TCP
    Upstream,
}

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Tunnel { carrier: Carrier, service: Service },
}

/// Where the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    InProcess,
    Upstream,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Load {
        load: Load,
        way: Way,
    },
    /// Links that come and go.
    Handshakes {
        carrier: Carrier,
        at_a_time: NonZeroUsize,
    },
}

/// Every way of these kinds, over these carriers.
pub(super) fn ways(kinds: &[Kind], carriers: &[Carrier]) -> Vec<Way> {
    let tunnels = |service| {
        carriers
            .iter()
            .map(move |&carrier| Way::Tunnel { carrier, service })
    };
    let mut ways = Vec::new();
    for kind in kinds {
        match kind {
            Kind::Direct => ways.push(Way::Direct),
            Kind::InProcess => ways.extend(tunnels(Service::InProcess)),
            Kind::Upstream => ways.extend(tunnels(Service::Upstream)),
        }
    }
    ways
}

/// The id of the agent at the end of a tunnel.
pub(super) fn agent_id(carrier: Carrier, service: Service) -> String {
    match service {
        Service::InProcess => format!("{carrier}-in-process"),
        Service::Upstream => format!("{carrier}-upstream"),
    }
}

impl Task {
    /// What is done, whichever way: such tasks are compared.
    pub(super) fn what(self) -> String {
        match self {
            Self::Load {
                load: Load::Calls { concurrency },
                ..
            } => format!("calls, {concurrency} at a time"),
            Self::Load {
                load: Load::Download, ..
            } => "one download".to_owned(),
            Self::Handshakes { at_a_time, .. } => format!("links that come and go, {at_a_time} at a time"),
        }
    }

    /// Which way.
    pub(super) fn way(self) -> String {
        match self {
            Self::Load { way, .. } => way.to_string(),
            Self::Handshakes { carrier, .. } => carrier.to_string(),
        }
    }

    /// What is counted, and what costs are of each of.
    pub(super) fn units(self) -> (&'static str, &'static str) {
        match self {
            Self::Load {
                load: Load::Calls { .. },
                ..
            } => ("calls/s", "call"),
            Self::Load {
                load: Load::Download, ..
            } => ("MB/s", "message"),
            Self::Handshakes { .. } => ("links/s", "link"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Tunnel {
                carrier,
                service: Service::InProcess,
            } => carrier.fmt(f),
            Self::Tunnel {
                carrier,
                service: Service::Upstream,
            } => write!(f, "{carrier}, upstream"),
        }
    }
}
