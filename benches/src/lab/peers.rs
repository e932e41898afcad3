//! Other tunnels, which are measured where their programs are on the PATH.
//!
//! Each carries the TCP connection of the clients from a port at the hub's end to the service at the agent's, with TLS
//! between the two, and with one thread for the work at each end, as hub and agent have.

mod frp;
mod haproxy;
mod present;
mod rathole;
mod wstunnel;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use tokio::process::Command;

use super::ends::{AGENT, HUB};
use super::variant::controller_of;
use crate::inside::on_path;

pub(crate) use present::{ensure_installed, installed_peers, peer_versions};

/// Where clients reach a peer. The lab's networks are its own: nobody else has any port there.
pub(super) const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 20_000);

/// Where the ends of a peer meet.
const TUNNEL: u16 = 20_443;

/// What would change what is measured, or send it elsewhere.
const NOT_THEIRS: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "GODEBUG",
    "RUST_LOG",
];

/// Another tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over QUIC, with the congestion controller of quic-go, which is Reno.
    FrpQuic,
    /// With the kernel's congestion controller, by its name, at both ends.
    Tcp(TcpPeer, String),
}

/// Another tunnel over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpPeer {
    Wstunnel,
    Haproxy,
    Rathole,
}

/// What runs at the two ends.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) hub: End,
    pub(super) agent: End,
}

/// What runs at one of them, in the lab's folder, where its files are.
#[derive(Debug)]
pub(super) struct End {
    program: &'static str,
    args: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Peer {
    /// In the order in which they are chosen when nobody says which; with what is best for a tunnel on a link that loses
    /// packets, where a controller has to be chosen, too.
    fn all() -> [Self; 4] {
        let tcp = |peer| Self::Tcp(peer, "bbr".to_owned());
        [
            Self::FrpQuic,
            tcp(TcpPeer::Wstunnel),
            tcp(TcpPeer::Haproxy),
            tcp(TcpPeer::Rathole),
        ]
    }

    /// None where it is not the name of a peer.
    pub(super) fn named(name: &str, controller: Option<&str>) -> anyhow::Result<Option<Self>> {
        if name == Self::FrpQuic.name() {
            anyhow::ensure!(
                controller.is_none(),
                "{name} has a congestion controller of its own: leave out what follows the name"
            );
            return Ok(Some(Self::FrpQuic));
        }
        let peer = TcpPeer::ALL.into_iter().find(|peer| peer.name() == name);
        peer.map(|peer| Ok(Self::Tcp(peer, controller_of(name, controller)?)))
            .transpose()
    }

    /// Without a controller.
    pub(super) fn names() -> [&'static str; 4] {
        Self::all().map(|peer| peer.name())
    }

    /// Of TCP, where it runs over that.
    pub(super) fn tcp(&self) -> Option<&str> {
        match self {
            Self::FrpQuic => None,
            Self::Tcp(_, controller) => Some(controller),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::FrpQuic => "frp-quic",
            Self::Tcp(peer, _) => peer.name(),
        }
    }

    /// What has to be on the PATH.
    fn programs(&self) -> &'static [&'static str] {
        match self {
            Self::FrpQuic => &["frps", "frpc"],
            Self::Tcp(TcpPeer::Wstunnel, _) => &["wstunnel"],
            Self::Tcp(TcpPeer::Haproxy, _) => &["haproxy"],
            Self::Tcp(TcpPeer::Rathole, _) => &["rathole", rathole::OPENSSL],
        }
    }

    /// Which of them says which version it is, and how it is asked.
    fn tells_version(&self) -> (&'static str, &'static str) {
        match self {
            Self::FrpQuic => ("frps", "--version"),
            Self::Tcp(TcpPeer::Wstunnel, _) => ("wstunnel", "--version"),
            Self::Tcp(TcpPeer::Haproxy, _) => ("haproxy", "-v"),
            Self::Tcp(TcpPeer::Rathole, _) => ("rathole", "-V"),
        }
    }

    /// Where to get it.
    fn source(&self) -> &'static str {
        match self {
            Self::FrpQuic => "frps and frpc of a release of github.com/fatedier/frp",
            Self::Tcp(TcpPeer::Wstunnel, _) => "wstunnel of a release of github.com/erebe/wstunnel",
            Self::Tcp(TcpPeer::Haproxy, _) => "the package haproxy",
            Self::Tcp(TcpPeer::Rathole, _) => {
                "rathole of a release of github.com/rathole-org/rathole, and the package openssl"
            }
        }
    }

    /// Writes the files that its ends read into `folder`, where the certificates of hub and agent are.
    pub(super) async fn set_up(&self, folder: &Path, service: SocketAddr) -> anyhow::Result<Setup> {
        match self {
            Self::FrpQuic => frp::set_up(folder, service),
            Self::Tcp(TcpPeer::Wstunnel, _) => Ok(wstunnel::set_up(service)),
            Self::Tcp(TcpPeer::Haproxy, _) => haproxy::set_up(folder, service),
            Self::Tcp(TcpPeer::Rathole, _) => rathole::set_up(folder, service).await,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrpQuic => f.write_str(self.name()),
            Self::Tcp(peer, controller) => write!(f, "{}/{controller}", peer.name()),
        }
    }
}

impl TcpPeer {
    const ALL: [Self; 3] = [Self::Wstunnel, Self::Haproxy, Self::Rathole];

    fn name(self) -> &'static str {
        match self {
            Self::Wstunnel => "wstunnel",
            Self::Haproxy => "haproxy",
            Self::Rathole => "rathole",
        }
    }
}

impl End {
    fn new(program: &'static str, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program,
            args: args.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
        }
    }

    fn with(mut self, variable: &'static str, value: &'static str) -> Self {
        self.environment.push((variable, value));
        self
    }

    pub(super) fn program(&self) -> &'static str {
        self.program
    }

    /// Behind what stands before it, such as a command that enters a namespace.
    pub(super) fn command(&self, before: &[OsString], folder: &Path) -> anyhow::Result<Command> {
        let program = on_path(std::env::var_os("PATH").as_deref(), self.program);
        let program = program.with_context(|| format!("{} is on the PATH no more", self.program))?;
        let mut command = match before {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        for variable in NOT_THEIRS {
            command.env_remove(variable);
        }
        command
            .args(&self.args)
            .envs(self.environment.iter().copied())
            .current_dir(folder);
        Ok(command)
    }
}

/// Where the hub's end of a tunnel is dialled.
fn at_hub() -> SocketAddr {
    (HUB, TUNNEL).into()
}

/// And the agent's.
fn at_agent() -> SocketAddr {
    (AGENT, TUNNEL).into()
}

fn write(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}
