//! TLS to upstreams.

use std::path::PathBuf;
use std::sync::Arc;

use adit_certs::{LoadError, NoSystemRoots, TlsError, TrustStore, load_certified_key, upstream_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// The ALPN protocol id of HTTP/2 (RFC 9113 §3.1). gRPC has no other.
pub(super) const ALPN_H2: &[u8] = b"h2";

/// What `--upstream-ca`, `--upstream-cert`, `--upstream-key` and `--upstream-name` say: how `https://` upstreams are
/// verified, and what they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The CAs that an upstream's certificate must come from; without it, those that the operating system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate and the private key that an upstream is shown if it asks.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that an upstream's certificate must have, and that it is called by, if that is not the host in its
    /// address.
    pub name: Option<ServerName<'static>>,
}

/// The TLS settings of upstreams, loaded.
#[derive(Clone, Debug)]
pub(super) struct TlsSettings {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: Option<ServerName<'static>>,
}

/// TLS to upstreams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// A file of `--upstream-ca`, `--upstream-cert` or `--upstream-key` cannot be used.
    #[error("cannot set up TLS to the upstream: {0}")]
    Load(#[from] LoadError),
    /// The operating system trusts nobody.
    #[error("cannot verify an https upstream: {0}, with --upstream-ca")]
    NoSystemRoots(#[from] NoSystemRoots),
    /// The library refuses the settings.
    #[error("cannot set up TLS to the upstream: {0}")]
    Settings(#[from] TlsError),
}

impl UpstreamTls {
    /// Reads the files and checks what can be checked before a handshake.
    pub(super) fn load(&self) -> Result<TlsSettings, UpstreamTlsError> {
        let trust = match &self.ca {
            Some(path) => TrustStore::load(path)?,
            None => TrustStore::system()?,
        };
        let identity = self
            .identity
            .as_ref()
            .map(|(cert, key)| load_certified_key(cert, key));
        let mut config = upstream_config(&trust, identity.transpose()?)?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(TlsSettings {
            config: Arc::new(config),
            name: self.name.clone(),
        })
    }
}
