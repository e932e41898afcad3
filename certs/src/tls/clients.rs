//! The check that a certificate is one of a client, within the handshake: its holder learns of a refusal by an alert.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::identity::{Identity, IdentityError};
use crate::trust_domain::TrustDomain;

/// Takes what `chain` takes, where it is a client's of `trust_domain` too.
pub(super) struct ClientsOnly {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
}

/// Why a certificate that the CA vouches for is not good for a client.
#[derive(thiserror::Error)]
enum NotAClient {
    #[error(
        "the certificate is for {0}, and this port is for clients: issue one, where the CA is, with: adit certs client NAME"
    )]
    OtherKind(Identity),
    #[error("the certificate is for {identity}, and this hub's trust domain is {ours}")]
    TrustDomain { identity: Identity, ours: TrustDomain },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl ClientsOnly {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, trust_domain: TrustDomain) -> Self {
        Self { chain, trust_domain }
    }

    fn identity(&self, certificate: &CertificateDer<'_>) -> Result<(), NotAClient> {
        match Identity::from_certificate(certificate)? {
            identity if *identity.trust_domain() != self.trust_domain => Err(NotAClient::TrustDomain {
                identity,
                ours: self.trust_domain.clone(),
            }),
            Identity::Client { .. } => Ok(()),
            other => Err(NotAClient::OtherKind(other)),
        }
    }
}

impl ClientCertVerifier for ClientsOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(leaf, above, now)?;
        self.identity(leaf)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl fmt::Debug for ClientsOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientsOnly")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NotAClient {
    /// The TLS library prints reasons of this kind for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
