//! TLS to upstreams.

use std::path::PathBuf;
use std::sync::Arc;

use adit_certs::{LoadError, TrustStore, load_certified_key, provider};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

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
    #[error(
        "cannot verify an https upstream: this system has no trusted CAs{0}; install them (on Debian the package ca-certificates), or name the upstream's CA with --upstream-ca"
    )]
    NoSystemRoots(String),
    /// The provider lacks what the settings need.
    #[error("cannot set up TLS to the upstream: {0}")]
    Provider(#[from] rustls::Error),
}

impl UpstreamTls {
    /// Reads the files and checks what can be checked before a handshake.
    pub(super) fn load(&self) -> Result<TlsSettings, UpstreamTlsError> {
        let roots = match &self.ca {
            Some(path) => Arc::clone(TrustStore::load(path)?.roots()),
            None => Arc::new(system_roots()?),
        };
        // Upstreams are other people's servers, so TLS 1.2 is still allowed here.
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((cert, key)) => {
                let certified = load_certified_key(cert, key)?;
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(TlsSettings {
            config: Arc::new(config),
            name: self.name.clone(),
        })
    }
}

fn system_roots() -> Result<RootCertStore, UpstreamTlsError> {
    let mut found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A bundle may hold certificates of odd kinds; those that can be used are enough.
    roots.add_parsable_certificates(std::mem::take(&mut found.certs));
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        return Err(UpstreamTlsError::NoSystemRoots(why));
    }
    Ok(roots)
}
