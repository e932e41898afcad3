//! TLS settings from credentials. The application protocol (ALPN) is left to the carrier that uses
//! them.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

use crate::credentials::Credentials;
use crate::trust_domain::TrustDomain;
use crate::trust_store::TrustStore;

mod clients;

/// The cryptography that everything here uses: aws-lc-rs, whatever the process's default is. X25519MLKEM768 is preferred
/// (draft-ietf-tls-ecdhe-mlkem), with X25519 for peers that do not know it.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

impl Credentials {
    /// Settings to dial a peer that the CA vouches for, showing the own certificate: TLS 1.3 only,
    /// no resumption.
    ///
    /// # Errors
    /// TLS cannot be set up; with these settings that is a defect of the build.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        client(&self.trust, Some(self.certified.clone()), &[&TLS13])
    }

    /// Settings to accept peers that show a certificate that the CA vouches for: TLS 1.3 only, no
    /// resumption of any kind, because a resumed session is not checked against dates and
    /// revocation again.
    ///
    /// # Errors
    /// TLS cannot be set up; with these settings that is a defect of the build.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.trust.roots().clone(), provider()).build()?;
        self.server(&[&TLS13], verifier)
    }

    /// Settings to accept clients that show a certificate of a client of `trust_domain` (its one URI is
    /// `spiffe://<trust domain>/client/<name>`) that the CA vouches for; what else is shown is refused within the
    /// handshake, so that its holder is told with an alert. TLS 1.3 and 1.2, for clients of any age; no resumption.
    ///
    /// # Errors
    /// TLS cannot be set up; with these settings that is a defect of the build.
    pub fn clients_config(&self, trust_domain: &TrustDomain) -> Result<ServerConfig, TlsError> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(self.trust.roots().clone(), provider()).build()?;
        let verifier = Arc::new(clients::ClientsOnly::new(chain, trust_domain.clone()));
        self.server(&[&TLS13, &TLS12], verifier)
    }

    /// Settings to accept anybody, who is shown the own certificate and asked for none. TLS 1.3 and 1.2; no resumption.
    ///
    /// # Errors
    /// TLS cannot be set up; with these settings that is a defect of the build.
    pub fn anybody_config(&self) -> Result<ServerConfig, TlsError> {
        self.server(&[&TLS13, &TLS12], WebPkiClientVerifier::no_client_auth())
    }

    fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        // The library's default has no ticketer, so that tickets could only be kept in the storage.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

impl TrustStore {
    /// Settings to dial a peer that one of the CAs vouches for, without a certificate of one's own:
    /// TLS 1.3 only, no resumption.
    ///
    /// # Errors
    /// TLS cannot be set up; with these settings that is a defect of the build.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        client(self, None, &[&TLS13])
    }
}

/// Settings to dial an upstream, which may know TLS 1.2 only and may demand a certificate of any
/// CA.
///
/// # Errors
/// TLS cannot be set up; with these settings that is a defect of the build.
pub fn upstream_config(
    trust: &TrustStore,
    certificate: Option<CertifiedKey>,
) -> Result<ClientConfig, TlsError> {
    client(trust, certificate.map(Arc::new), &[&TLS13, &TLS12])
}

fn client(
    trust: &TrustStore,
    certificate: Option<Arc<CertifiedKey>>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_root_certificates(trust.roots().clone());
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The library refuses the settings.
    #[error("cannot set up TLS: {0}")]
    Settings(rustls::Error),
    /// The library refuses the CAs.
    #[error("cannot set up the check of peers' certificates: {0}")]
    Verifier(VerifierBuilderError),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Settings(error)
    }
}

impl From<VerifierBuilderError> for TlsError {
    fn from(error: VerifierBuilderError) -> Self {
        Self::Verifier(error)
    }
}

#[cfg(test)]
mod tests;
