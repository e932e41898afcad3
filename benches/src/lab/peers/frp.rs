//! frp: a connection of clients is a stream of one QUIC connection, which frpc opens to frps.

use std::net::SocketAddr;
use std::path::Path;

use adit_bench::certificates::AGENT as ID;

use super::{CLIENTS, End, Setup, TUNNEL, at_hub, write};

/// frps listens for frpc on TCP, too, and cannot be told not to.
const TCP: u16 = TUNNEL - 1;

const SERVER: &str = "frps.toml";
const CLIENT: &str = "frpc.toml";

pub(super) fn set_up(folder: &Path, service: SocketAddr) -> anyhow::Result<Setup> {
    write(folder, SERVER, server().as_bytes())?;
    write(folder, CLIENT, client(service).as_bytes())?;
    let end = |program, file| End::new(program, ["-c", file]).with("GOMAXPROCS", "1");
    Ok(Setup {
        hub: end("frps", SERVER),
        agent: end("frpc", CLIENT),
    })
}

/// Both ends show a certificate.
fn server() -> String {
    format!(
        r#"bindAddr = "{}"
bindPort = {TCP}
quicBindPort = {TUNNEL}
proxyBindAddr = "{}"
transport.tls.force = true
transport.tls.certFile = "hub.pem"
transport.tls.keyFile = "hub.key"
transport.tls.trustedCaFile = "ca.pem"
"#,
        at_hub().ip(),
        CLIENTS.ip()
    )
}

fn client(service: SocketAddr) -> String {
    format!(
        r#"serverAddr = "{hub}"
serverPort = {TUNNEL}
# The first packets may be lost.
loginFailExit = false
transport.protocol = "quic"
transport.tls.certFile = "agent-{ID}.pem"
transport.tls.keyFile = "agent-{ID}.key"
transport.tls.trustedCaFile = "ca.pem"
transport.tls.serverName = "{hub}"

[[proxies]]
name = "service"
type = "tcp"
localIP = "{}"
localPort = {}
remotePort = {}
"#,
        service.ip(),
        service.port(),
        CLIENTS.port(),
        hub = at_hub().ip(),
    )
}
