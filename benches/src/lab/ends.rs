//! The two ends of the link: a network namespace each, with nothing in it but loopback and the link's device.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit_bench::latencies::Latencies;
use anyhow::{Context as _, bail};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::link::Conditions;
use super::wire::{Traffic, Wire};
use crate::namespace::{Namespace, get, quiet, set};

/// The hub's end. Clients are beside it.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The agent's.
pub(crate) const AGENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The bytes of the link's largest packet, as on most of the Internet.
const MTU: u16 = 1500;

/// Packets that wait until the link takes them. They wait there and not for the bottleneck: the link takes them at once.
const BEFORE_LINK: u32 = 10_000;

const TCP_CONTROLLER: &str = "net/ipv4/tcp_congestion_control";

/// Pings of a calibration, and the time between two.
const PINGS: u32 = 400;
const PING_EVERY: Duration = Duration::from_millis(5);

/// A ping that takes longer is lost.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Both, and the link.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The agent's.
    far: Namespace,
    wire: Wire,
}

impl Ends {
    /// This process's namespace is the hub's end.
    pub(crate) async fn join(conditions: Conditions, seed: u64, folder: &Path) -> anyhow::Result<Self> {
        let far = Namespace::beside(&folder.join("agent-end.log")).await?;
        let devices = [furnish(HUB)?, far.within(|| furnish(AGENT))?];
        Ok(Self {
            far,
            wire: Wire::join(devices, conditions, seed)?,
        })
    }

    /// What stands before a command that runs at the agent's end.
    pub(crate) fn at_agent(&self) -> Vec<OsString> {
        self.far.before()
    }

    /// From now on the link is another; what is under way is lost.
    pub(crate) fn replace_link(&self, conditions: Conditions, seed: u64) -> anyhow::Result<()> {
        self.wire.replace(conditions, seed)
    }

    /// What crossed the link since then: hub → agent, and back.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        self.wire.traffic()
    }

    /// TCP's congestion controller at both ends, from the next connection on.
    pub(crate) fn set_tcp(&self, controller: &str) -> anyhow::Result<()> {
        set_tcp(controller)?;
        self.far.within(|| set_tcp(controller))
    }

    /// Round-trip times of small packets while nothing else is on the link, and how many of them were lost.
    pub(crate) fn ping(&self) -> anyhow::Result<(Latencies, u32)> {
        let far = self
            .far
            .within(|| UdpSocket::bind((AGENT, 0)).context("cannot bind at the agent's end"))?;
        let near = UdpSocket::bind((HUB, 0)).context("cannot bind at the hub's end")?;
        near.connect(far.local_addr()?)?;
        far.set_read_timeout(Some(PING_EVERY))?;
        near.set_read_timeout(Some(PING_TIMEOUT))?;
        let over = Arc::new(AtomicBool::new(false));
        let sender = near.try_clone()?;
        let begun = Instant::now() + PING_EVERY;
        let at = move |number: u32| begun + PING_EVERY * number;
        thread::scope(|scope| {
            scope.spawn(|| echo(&far, &over));
            scope.spawn(|| {
                for number in 0..PINGS {
                    thread::sleep(at(number).saturating_duration_since(Instant::now()));
                    // Its time counts from when it is sent, and is in it.
                    let sent = begun.elapsed().as_nanos().to_le_bytes();
                    if sender.send(&sent).is_err() {
                        return;
                    }
                }
            });
            let times = (|| {
                let mut times = Latencies::new()?;
                let mut packet = [0; 16];
                while times.count() < PINGS.into() {
                    match near.recv(&mut packet) {
                        Ok(16) => {
                            let sent = u64::try_from(u128::from_le_bytes(packet))?;
                            times.record(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
                        }
                        Ok(len) => bail!("an answer of {len} bytes to a ping"),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error).context("cannot hear the answers to pings"),
                    }
                }
                let answered = u32::try_from(times.count())?;
                Ok((times, PINGS.saturating_sub(answered)))
            })();
            over.store(true, Ordering::Relaxed);
            times
        })
    }
}

fn echo(socket: &UdpSocket, over: &AtomicBool) {
    let mut packet = [0; 64];
    while !over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut packet) {
            // An answer that cannot be sent is one that is lost.
            let _ = socket.send_to(&packet[..len], from);
        }
    }
}

/// Makes the namespace of this thread an end of the link.
fn furnish(address: Ipv4Addr) -> anyhow::Result<SyncDevice> {
    quiet()?;
    let device = DeviceBuilder::new()
        .name("link")
        .layer(Layer::L3)
        .mtu(MTU)
        .tx_queue_len(BEFORE_LINK)
        .ipv4(address, 30_u8, None::<Ipv4Addr>)
        .build_sync();
    device.with_context(|| {
        format!(
            "cannot make a TUN device with the address {}",
            IpAddr::V4(address)
        )
    })
}

fn set_tcp(controller: &str) -> anyhow::Result<()> {
    if let Err(error) = set(TCP_CONTROLLER, controller) {
        let available = get("net/ipv4/tcp_available_congestion_control").unwrap_or_default();
        let allowed = get("net/ipv4/tcp_allowed_congestion_control").unwrap_or_default();
        // A namespace of networks may use only what the whole machine allows everybody.
        let remedy = if available.split(' ').any(|name| name == controller) {
            format!("allow it: sysctl -w net.ipv4.tcp_allowed_congestion_control=\"{allowed} {controller}\"")
        } else {
            format!("load it (modprobe tcp_{controller}), if this kernel has it; it has {available} now")
        };
        return Err(error.context(format!(
            "the lab cannot have the TCP congestion controller {controller}. On the machine itself, as root, {remedy}"
        )));
    }
    let read = get(TCP_CONTROLLER)?;
    if read != controller {
        bail!("the TCP congestion controller was set to {controller}, and is {read}");
    }
    Ok(())
}
