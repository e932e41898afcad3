//! What a process proves itself with, checked before it is used.

use std::fmt;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::agent_id::AgentId;
use crate::certified_key::{leaf, read};
use crate::client_name::ClientName;
use crate::credential_files::CredentialFiles;
use crate::identity::{Identity, IdentityError};
use crate::load_error::LoadError;
use crate::tls::provider;
use crate::trust_domain::TrustDomain;
use crate::trust_store::TrustStore;
use crate::{parsed, reissue};

/// What a process is, and so what its certificate must be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The hub: a server, identity `/hub`.
    Hub,
    /// An agent: a TLS client, identity `/agent/ID`.
    Agent,
    /// A client, identity `/client/NAME`.
    Client,
    /// An upstream: a server that needs no identity.
    Server,
}

/// A certificate, its private key and the CAs that are trusted, which were found to fit each other.
pub struct Credentials {
    files: CredentialFiles,
    role: Role,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) trust: TrustStore,
    key: PrivateKeyDer<'static>,
    identity: Option<Identity>,
}

impl Credentials {
    /// Reads the files and checks what can be checked before a handshake: the key belongs to the
    /// certificate, the certificate is in date, comes from the CA, may be used for `role` and has
    /// an identity that fits.
    ///
    /// # Errors
    /// One of these does not hold. The message says which file is wrong, why, and what to do.
    pub fn load(files: &CredentialFiles, role: Role) -> Result<Self, LoadError> {
        Self::load_at(files, role, OffsetDateTime::now_utc())
    }

    fn load_at(files: &CredentialFiles, role: Role, now: OffsetDateTime) -> Result<Self, LoadError> {
        let trust = TrustStore::load_at(&files.ca, now)?;
        let (certified, key) = read(&files.cert, &files.key)?;
        let certificate = leaf(&files.cert, &certified.cert)?;
        let check = Check {
            files,
            role,
            certificate: &certificate,
        };
        parsed::validity(&certificate).check(&files.cert, now, || check.advice())?;
        check.usage()?;
        check.chain(&certified, &trust, now)?;
        let identity = check.identity(&trust)?;
        check.host()?;
        Ok(Self {
            files: files.clone(),
            role,
            certified: Arc::new(certified),
            trust,
            key,
            identity,
        })
    }

    /// Who this process is. An upstream's server has none.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The trust domain that the CA carries; none with a CA that was not made by `adit certs` and
    /// has no SPIFFE id.
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust.trust_domain()
    }

    /// The CAs that are trusted.
    pub fn trust_store(&self) -> &TrustStore {
        &self.trust
    }

    /// The private key, DER as in its file, for keys to be derived from it.
    pub fn private_key_der(&self) -> &[u8] {
        self.key.secret_der()
    }

    /// Checks that this is the certificate of the agent `id`: the hub believes the certificate
    /// alone.
    ///
    /// # Errors
    /// It is another's.
    pub fn check_agent_id(&self, id: &AgentId) -> Result<(), LoadError> {
        self.check_name(
            self.identity().and_then(Identity::agent_id).map(AgentId::as_str),
            id.as_str(),
        )
    }

    /// Checks that this is the certificate of the client `name`.
    ///
    /// # Errors
    /// It is another's.
    pub fn check_client_name(&self, name: &ClientName) -> Result<(), LoadError> {
        self.check_name(
            self.identity()
                .and_then(Identity::client_name)
                .map(ClientName::as_str),
            name.as_str(),
        )
    }

    fn check_name(&self, own: Option<&str>, asked: &str) -> Result<(), LoadError> {
        match &self.identity {
            Some(identity) if own != Some(asked) => Err(LoadError::OtherName {
                path: self.files.cert.clone(),
                identity: Box::new(identity.clone()),
                asked: asked.to_owned(),
                advice: format!(
                    "issue one, where the CA is, with: adit certs {} {asked}",
                    self.role.subcommand()
                ),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files)
            .field("role", &self.role)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The questions put to one certificate.
struct Check<'a> {
    files: &'a CredentialFiles,
    role: Role,
    certificate: &'a X509Certificate<'a>,
}

impl Check<'_> {
    fn advice(&self) -> String {
        reissue::instead_of(&self.files.cert, self.role)
    }

    fn not_x509(&self, reason: String) -> LoadError {
        LoadError::NotX509 {
            path: self.files.cert.clone(),
            reason: parsed::NotX509 { reason },
        }
    }

    /// The extended key usage of the role must be stated: RFC 5280 takes a certificate that states
    /// none for one that is good for everything, which no certificate here should be.
    fn usage(&self) -> Result<(), LoadError> {
        let stated = self
            .certificate
            .extended_key_usage()
            .map_err(|error| self.not_x509(error.to_string()))?;
        let key_usage = self
            .certificate
            .key_usage()
            .map_err(|error| self.not_x509(error.to_string()))?;
        let fits = stated.as_ref().is_some_and(|stated| match self.role {
            Role::Hub | Role::Server => stated.value.server_auth,
            Role::Agent | Role::Client => stated.value.client_auth,
        });
        // TLS 1.3 signs with the key (RFC 8446 §4.4.2.2).
        let signs = key_usage
            .as_ref()
            .is_none_or(|usage| usage.value.digital_signature());
        if fits && signs {
            return Ok(());
        }
        let mut found = parsed::usages(self.certificate);
        if found.is_empty() {
            found.push("nothing that it states".to_owned());
        }
        Err(LoadError::Usage {
            path: self.files.cert.clone(),
            role: self.role.noun(),
            needed: self.role.usage(),
            found: found.join(", "),
            advice: self.advice(),
        })
    }

    fn chain(
        &self,
        certified: &CertifiedKey,
        trust: &TrustStore,
        now: OffsetDateTime,
    ) -> Result<(), LoadError> {
        let verified = match self.role {
            Role::Hub | Role::Server => verify_as_server(certified, trust, now),
            Role::Agent | Role::Client => verify_as_client(certified, trust, now),
        };
        verified.map_err(|reason| match reason {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => LoadError::OtherCa {
                cert: self.files.cert.clone(),
                ca: self.files.ca.clone(),
                issuer: self.certificate.issuer().to_string(),
                subjects: trust.subjects(),
                advice: self.advice(),
            },
            reason => LoadError::Chain {
                cert: self.files.cert.clone(),
                ca: self.files.ca.clone(),
                reason: Box::new(reason),
                advice: self.advice(),
            },
        })
    }

    fn identity(&self, trust: &TrustStore) -> Result<Option<Identity>, LoadError> {
        let path = || self.files.cert.clone();
        let invalid = |reason: IdentityError| LoadError::Identity {
            path: path(),
            reason,
            advice: self.advice(),
        };
        let Some(needed) = self.role.identity_form() else {
            return Ok(None);
        };
        let identity = Identity::from_parsed(self.certificate).map_err(invalid)?;
        if !self.role.fits(&identity) {
            let role = self.role.noun();
            return Err(LoadError::OtherKind {
                path: path(),
                identity: Box::new(identity),
                role,
                needed,
                advice: self.advice(),
            });
        }
        match trust.trust_domain() {
            Some(trust_domain) if trust_domain != identity.trust_domain() => {
                Err(LoadError::OtherTrustDomain {
                    path: path(),
                    identity: Box::new(identity),
                    ca: self.files.ca.clone(),
                    trust_domain: trust_domain.clone(),
                    advice: self.advice(),
                })
            }
            _ => Ok(Some(identity)),
        }
    }

    fn host(&self) -> Result<(), LoadError> {
        let names =
            parsed::alternative_names(self.certificate).map_err(|reason| self.not_x509(reason.reason))?;
        let host = names
            .iter()
            .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)));
        match self.role {
            Role::Hub | Role::Server if !host => Err(LoadError::NoHost {
                path: self.files.cert.clone(),
                advice: self.advice(),
            }),
            _ => Ok(()),
        }
    }
}

impl Role {
    /// The `adit certs` subcommand that issues its certificate.
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Agent => "agent",
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The subcommand with its arguments.
    pub(crate) fn arguments(self) -> &'static str {
        match self {
            Self::Hub => "hub --san HOST",
            Self::Agent => "agent ID",
            Self::Client => "client NAME",
            Self::Server => "server NAME --san HOST",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Hub => "a hub",
            Self::Agent => "an agent",
            Self::Client => "a client",
            Self::Server => "a server",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Hub | Self::Server => "serverAuth and digitalSignature",
            Self::Agent | Self::Client => "clientAuth and digitalSignature",
        }
    }

    fn identity_form(self) -> Option<&'static str> {
        match self {
            Self::Hub => Some("spiffe://<trust domain>/hub"),
            Self::Agent => Some("spiffe://<trust domain>/agent/<id>"),
            Self::Client => Some("spiffe://<trust domain>/client/<name>"),
            Self::Server => None,
        }
    }

    fn fits(self, identity: &Identity) -> bool {
        match identity {
            Identity::Agent { .. } => self == Self::Agent,
            Identity::Client { .. } => self == Self::Client,
            Identity::Hub { .. } => self == Self::Hub,
        }
    }
}

fn verify_as_server(
    certified: &CertifiedKey,
    trust: &TrustStore,
    now: OffsetDateTime,
) -> Result<(), rustls::Error> {
    let (leaf, above) = certified
        .cert
        .split_first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    let algorithms = provider().signature_verification_algorithms.all;
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, trust.roots(), above, unix_time(now), algorithms)
}

fn verify_as_client(
    certified: &CertifiedKey,
    trust: &TrustStore,
    now: OffsetDateTime,
) -> Result<(), rustls::Error> {
    let (leaf, above) = certified
        .cert
        .split_first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(trust.roots().clone(), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier
        .verify_client_cert(leaf, above, unix_time(now))
        .map(|_| ())
}

/// `now` for the verifier; a clock before 1970 is taken for 1970, when no certificate was valid.
fn unix_time(now: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
