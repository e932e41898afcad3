//! wstunnel: a connection of clients is a WebSocket, which the client at the agent's end opens before it is needed.

use std::net::SocketAddr;

use adit_bench::certificates::AGENT as ID;

use super::{CLIENTS, End, Setup, at_hub};

/// Both ends show a certificate.
pub(super) fn set_up(service: SocketAddr) -> Setup {
    let url = format!("wss://{}", at_hub());
    let end = |args: &[&str]| End::new("wstunnel", args.iter().copied()).with("TOKIO_WORKER_THREADS", "1");
    let hub = end(&[
        "server",
        "--tls-certificate",
        "hub.pem",
        "--tls-private-key",
        "hub.key",
        "--tls-client-ca-certs",
        "ca.pem",
        &url,
    ]);
    let agent = end(&[
        "client",
        "--tls-verify-certificate",
        "--tls-certificate",
        &format!("agent-{ID}.pem"),
        "--tls-private-key",
        &format!("agent-{ID}.key"),
        "--remote-to-local",
        &format!("tcp://{CLIENTS}:{service}"),
        &url,
    ]);
    Setup {
        hub,
        // It trusts the machine's authorities, and these are whatever is in this file.
        agent: agent.with("SSL_CERT_FILE", "ca.pem"),
    }
}
