//! Where credentials are.

use std::path::{Path, PathBuf};

use crate::agent_id::AgentId;
use crate::client_name::ClientName;
use crate::store::{CA_CERTIFICATE, certificate_name, key_name};
use crate::upstream_name::UpstreamName;

/// The three files that a process proves itself and checks its peers with. The constructors name
/// them as a [`Directory`](crate::Directory) writes them; each may be replaced by another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The CAs that are trusted, PEM.
    pub ca: PathBuf,
    /// The own certificate, PEM; the CAs between it and the trusted one may follow it.
    pub cert: PathBuf,
    /// The private key of the certificate, PEM: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

impl CredentialFiles {
    /// `ca.pem`, `hub.pem` and `hub.key` in `dir`.
    pub fn hub(dir: &Path) -> Self {
        Self::named(dir, "hub")
    }

    /// `ca.pem`, `agent-ID.pem` and `agent-ID.key` in `dir`.
    pub fn agent(dir: &Path, id: &AgentId) -> Self {
        Self::named(dir, &format!("agent-{id}"))
    }

    /// `ca.pem`, `client-NAME.pem` and `client-NAME.key` in `dir`.
    pub fn client(dir: &Path, name: &ClientName) -> Self {
        Self::named(dir, &format!("client-{name}"))
    }

    /// `ca.pem`, `server-NAME.pem` and `server-NAME.key` in `dir`.
    pub fn server(dir: &Path, name: &UpstreamName) -> Self {
        Self::named(dir, &format!("server-{name}"))
    }

    fn named(dir: &Path, stem: &str) -> Self {
        Self {
            ca: dir.join(CA_CERTIFICATE),
            cert: dir.join(certificate_name(stem)),
            key: dir.join(key_name(stem)),
        }
    }
}
