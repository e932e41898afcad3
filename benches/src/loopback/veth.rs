//! A pair of veth devices, each in a network namespace of its own: an Ethernet cable that this machine's kernel plays.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Sub;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::inside::Needs;
use crate::namespace::{Namespace, quiet, say_to};

/// What a pair needs of the machine. The trial makes one.
pub(super) const NEEDS: Needs = Needs {
    who: "a veth pair",
    tools: &[("tc", "iproute2")],
    tun: false,
    trial: &[
        "sh",
        "-c",
        "ip link add near type veth peer name far && tc qdisc add dev near root pfifo && tc -s -j qdisc show dev near",
    ],
};

/// Where clients and the hub are.
const NEAR: End = End {
    device: "near",
    address: Ipv4Addr::new(10, 78, 0, 1),
};

/// Where agents and services are.
const FAR: End = End {
    device: "far",
    address: Ipv4Addr::new(10, 78, 0, 2),
};

/// The bytes of the largest IP packet, as on most of the Internet.
const MTU: &str = "1500";

/// Packets that wait before a device at the most: none is lost there.
const QUEUE: &str = "10000";

/// The pair. The near device is in this process's namespace.
#[derive(Debug)]
pub(super) struct Veth {
    far: Namespace,
    offload: Offload,
}

#[derive(Debug)]
struct End {
    device: &'static str,
    address: Ipv4Addr,
}

/// What went into one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Ethernet frames, and their bytes, as they are on a wire: what is handed over in one piece, to be cut by the device, is
    /// counted as the frames that it is cut into.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// What was handed over, cut or not.
    pub(super) pieces: u64,
    /// Lost before the device.
    pub(super) dropped: u64,
}

/// [`Counts`] since the pair was made, and when they were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    at: Instant,
    counts: Counts,
}

/// What went into one direction within a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) time: Duration,
    pub(super) counts: Counts,
}

/// How much the stack may hand over in one piece, as `ip -d link` tells; an older one does not.
#[derive(Debug, Default, Deserialize)]
struct Offload {
    gso_max_size: Option<u64>,
    gso_max_segs: Option<u64>,
    tso_max_size: Option<u64>,
    gro_max_size: Option<u64>,
}

/// A queue, as `tc -s -j qdisc` tells.
#[derive(Debug, Deserialize)]
struct Queue {
    bytes: u64,
    packets: u64,
    drops: u64,
}

impl Veth {
    /// Logs go to `folder`.
    pub(super) async fn build(folder: &Path) -> anyhow::Result<Self> {
        let far = Namespace::beside(&folder.join("far-end.log")).await?;
        quiet()?;
        let there = far.keeper().to_string();
        let near = ["link", "add", NEAR.device, "mtu", MTU, "type", "veth"];
        let peer = ["peer", "name", FAR.device, "mtu", MTU, "netns", &there];
        say_to("ip", &[&near[..], &peer].concat())?;
        NEAR.furnish()?;
        far.within(|| {
            quiet()?;
            FAR.furnish()
        })?;
        let offload = first_of_json("ip", &["-d", "-j", "link", "show", "dev", NEAR.device])?;
        Ok(Self { far, offload })
    }

    pub(super) fn near(&self) -> IpAddr {
        NEAR.address.into()
    }

    pub(super) fn far(&self) -> IpAddr {
        FAR.address.into()
    }

    /// What stands before a command that runs at the far end.
    pub(super) fn at_far(&self) -> Vec<OsString> {
        self.far.before()
    }

    /// So far: near → far, and back.
    pub(super) fn read(&self) -> anyhow::Result<[Reading; 2]> {
        Ok([NEAR.read()?, self.far.within(|| FAR.read())?])
    }
}

impl End {
    fn furnish(&self) -> anyhow::Result<()> {
        let address = format!("{}/30", self.address);
        say_to("ip", &["address", "add", &address, "dev", self.device])?;
        say_to("ip", &["link", "set", self.device, "up"])?;
        // A queue counts what is cut later as what it is cut into. The device itself does not.
        let queue = ["root", "pfifo", "limit", QUEUE];
        say_to(
            "tc",
            &[&["qdisc", "add", "dev", self.device], &queue[..]].concat(),
        )?;
        Ok(())
    }

    /// What this thread's namespace, which has to be the one of this end, has sent.
    fn read(&self) -> anyhow::Result<Reading> {
        let queue: Queue = first_of_json("tc", &["-s", "-j", "qdisc", "show", "dev", self.device])?;
        let at = Instant::now();
        let devices = fs::read_to_string("/proc/thread-self/net/dev").context("cannot read /proc/net/dev")?;
        let pieces = sent(&devices, self.device).with_context(|| {
            format!(
                "/proc/net/dev does not count what {} sent:\n{devices}",
                self.device
            )
        })?;
        Ok(Reading {
            at,
            counts: Counts {
                packets: queue.packets,
                bytes: queue.bytes,
                pieces,
                dropped: queue.drops,
            },
        })
    }
}

/// The packets that a device has sent, from `/proc/net/dev`: eight columns of what it received, then bytes and packets.
fn sent(devices: &str, device: &str) -> Option<u64> {
    let mut lines = devices.lines().filter_map(|line| line.trim().split_once(':'));
    let (_, columns) = lines.find(|(name, _)| *name == device)?;
    columns.split_whitespace().nth(9)?.parse().ok()
}

fn first_of_json<T: DeserializeOwned>(command: &str, args: &[&str]) -> anyhow::Result<T> {
    let said = say_to(command, args)?;
    let all: Result<Vec<T>, _> = serde_json::from_slice(&said);
    let first = all.map(|all| all.into_iter().next());
    let told = || {
        format!(
            "`{command} {}` says {:?}",
            args.join(" "),
            String::from_utf8_lossy(&said)
        )
    };
    first.with_context(told)?.with_context(told)
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
            pieces: self.pieces - before.pieces,
            dropped: self.dropped - before.dropped,
        }
    }
}

impl Sub for Reading {
    type Output = Flow;

    fn sub(self, before: Self) -> Flow {
        Flow {
            time: self.at - before.at,
            counts: self.counts - before.counts,
        }
    }
}

impl fmt::Display for Veth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a veth pair with an MTU of {MTU} bytes between two network namespaces, a pfifo queue before each device, \
             segmentation offload as the kernel sets it up ("
        )?;
        let Offload {
            gso_max_size,
            gso_max_segs,
            tso_max_size,
            gro_max_size,
        } = self.offload;
        let known = [
            ("gso_max_size", gso_max_size),
            ("gso_max_segs", gso_max_segs),
            ("tso_max_size", tso_max_size),
            ("gro_max_size", gro_max_size),
        ];
        let known = known.map(|(name, value)| match value {
            Some(value) => format!("{name} {value}"),
            None => format!("{name} unknown"),
        });
        write!(f, "{})", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::sent;

    #[test]
    fn sent_packets_are_the_tenth_column() {
        let devices = "Inter-|   Receive                    |  Transmit\n\
                       \x20face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n\
                       \x20   lo:       0       0    0    0    0     0          0         0        0       0    0\n\
                       \x20 near: 7000000    7001    1    2    3     4          5         6  9000000    9001    7\n";
        assert_eq!(sent(devices, "near"), Some(9001));
        assert_eq!(sent(devices, "far"), None);
        assert_eq!(sent("near: 1 2 3", "near"), None);
    }
}
