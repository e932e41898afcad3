//! HAProxy: TCP connections that are forwarded in TLS, one for each of clients.
//!
//! The end beside the clients dials the other one: this is no way through a NAT, but what the same TCP connections make of a
//! link without a tunnel's framing.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use adit_bench::certificates::AGENT as ID;
use anyhow::Context as _;

use super::{CLIENTS, End, Setup, at_agent, write};

const DIALLING: &str = "haproxy-hub.cfg";
const DIALLED: &str = "haproxy-agent.cfg";

/// A certificate and its key in one file, as HAProxy reads them.
const DIALLING_PEM: &str = "haproxy-hub.pem";
const DIALLED_PEM: &str = "haproxy-agent.pem";

/// One thread; connections may be idle for longer than anything is measured.
const COMMON: &str = "\
global
    nbthread 1
    log stderr format raw daemon notice
defaults
    mode tcp
    log global
    timeout connect 10s
    timeout client 1h
    timeout server 1h
";

/// Both ends show a certificate, and speak TLS 1.3 only.
const TLS: &str = "ssl ssl-min-ver TLSv1.3 verify required ca-file ca.pem crt";

pub(super) fn set_up(folder: &Path, service: SocketAddr) -> anyhow::Result<Setup> {
    // A server's certificate is for who is dialled, and here that is the agent's end.
    joined(folder, "hub", DIALLED_PEM)?;
    joined(folder, &format!("agent-{ID}"), DIALLING_PEM)?;
    let dialling = format!(
        "{COMMON}listen clients\n    bind {CLIENTS}\n    server agent {} {TLS} {DIALLING_PEM}\n",
        at_agent()
    );
    let dialled = format!(
        "{COMMON}listen tunnel\n    bind {} {TLS} {DIALLED_PEM}\n    server service {service}\n",
        at_agent()
    );
    write(folder, DIALLING, dialling.as_bytes())?;
    write(folder, DIALLED, dialled.as_bytes())?;
    // In the foreground, or it would not be ours to end.
    let end = |file| End::new("haproxy", ["-db", "-f", file]);
    Ok(Setup {
        hub: end(DIALLING),
        agent: end(DIALLED),
    })
}

fn joined(folder: &Path, name: &str, into: &str) -> anyhow::Result<()> {
    let mut both = Vec::new();
    for kind in ["pem", "key"] {
        let path = folder.join(format!("{name}.{kind}"));
        both.extend(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    write(folder, into, &both)
}
