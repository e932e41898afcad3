//! rathole: a connection of clients is one of TCP and TLS, which the client at the agent's end opens before it is needed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{CLIENTS, End, Setup, at_hub, write};

/// What makes the only kind of file that rathole reads a certificate and a key from.
pub(super) const OPENSSL: &str = "openssl";

const UNTIL_MADE: Duration = Duration::from_secs(30);

const SERVER: &str = "rathole-server.toml";
const CLIENT: &str = "rathole-client.toml";

const PKCS12: &str = "hub.p12";

/// By which the ends know each other, in TLS: rathole asks nobody for a client's certificate. Nobody else is in the lab's
/// networks, so that it needs not be secret.
const TOKEN: &str = "lab";

pub(super) async fn set_up(folder: &Path, service: SocketAddr) -> anyhow::Result<Setup> {
    make_pkcs12(folder).await?;
    write(folder, SERVER, server().as_bytes())?;
    write(folder, CLIENT, client(service).as_bytes())?;
    let end = |role, file| End::new("rathole", [role, file]).with("TOKIO_WORKER_THREADS", "1");
    Ok(Setup {
        hub: end("--server", SERVER),
        agent: end("--client", CLIENT),
    })
}

fn server() -> String {
    format!(
        r#"[server]
bind_addr = "{}"
default_token = "{TOKEN}"

[server.transport]
type = "tls"

[server.transport.tls]
pkcs12 = "{PKCS12}"
pkcs12_password = "{TOKEN}"

[server.services.service]
bind_addr = "{CLIENTS}"
"#,
        at_hub()
    )
}

fn client(service: SocketAddr) -> String {
    format!(
        r#"[client]
remote_addr = "{}"
default_token = "{TOKEN}"
retry_interval = 1

[client.transport]
type = "tls"

[client.transport.tls]
trusted_root = "ca.pem"
hostname = "{}"

[client.services.service]
local_addr = "{service}"
"#,
        at_hub(),
        at_hub().ip()
    )
}

/// With ciphers that every TLS library reads.
async fn make_pkcs12(folder: &Path) -> anyhow::Result<()> {
    let made = Command::new(OPENSSL)
        .args([
            "pkcs12", "-export", "-in", "hub.pem", "-inkey", "hub.key", "-out", PKCS12,
        ])
        .args(["-passout", &format!("pass:{TOKEN}"), "-macalg", "sha1"])
        .args(["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let made = tokio::time::timeout(UNTIL_MADE, made)
        .await
        .with_context(|| format!("`{OPENSSL} pkcs12` did not end within {UNTIL_MADE:?}"))?
        .with_context(|| format!("cannot start {OPENSSL}"))?;
    if !made.status.success() {
        bail!(
            "`{OPENSSL} pkcs12` cannot make {PKCS12} for rathole: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        );
    }
    Ok(())
}
