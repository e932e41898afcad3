//! The certificate authority: it vouches for hubs, agents, clients and upstreams' servers.

use std::fmt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use thiserror::Error;
use time::OffsetDateTime;

use crate::age::{moment, span};
use crate::agent_id::AgentId;
use crate::client_name::ClientName;
use crate::host::Host;
use crate::identity::Identity;
use crate::load_error::LoadError;
use crate::pem_file::FileKind;
use crate::trust_domain::TrustDomain;
use crate::upstream_name::UpstreamName;
use crate::validity::Validity;
use crate::{parsed, pem_file, spiffe, trust_store};

/// Longest common name (RFC 5280 appendix A.1, ub-common-name), in characters.
const MAX_COMMON_NAME: usize = 64;

/// Bytes of a random serial number: 128 bits, of which two are fixed (RFC 5280 §4.1.2.2 allows 20
/// bytes).
const SERIAL_BYTES: usize = 16;

/// A CA with its private key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    trust_domain: Option<TrustDomain>,
    validity: Validity,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The hub, which agents and clients know by these hosts; at least one.
    Hub {
        /// What the addresses that agents and clients dial may be called.
        sans: Vec<Host>,
    },
    /// An agent.
    Agent(AgentId),
    /// A client.
    Client(ClientName),
    /// An upstream's own server; at least one host.
    Server {
        /// What the files are called by.
        name: UpstreamName,
        /// What the addresses that an agent dials may be called.
        sans: Vec<Host>,
    },
}

/// A new certificate and its key.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 PEM. `Debug` leaves it out.
    pub key_pem: String,
    /// From when until when the certificate holds: it ends with the CA's, if that is sooner than
    /// what was asked for.
    pub validity: Validity,
}

impl Authority {
    /// A new CA: a P-256 key and a certificate signed with it that carries `spiffe://<trust
    /// domain>` (X509-SVID §3) and may sign no further CA.
    ///
    /// # Errors
    /// The random generator failed.
    pub fn create(trust_domain: &TrustDomain, validity: Validity) -> Result<Self, IssueError> {
        let serial = serial_number()?;
        let mut params = CertificateParams::default();
        // Two CAs must differ in name too: a bundle holds both while one replaces the other.
        let tag: String = serial
            .as_ref()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params.distinguished_name = common_name(&format!("adit CA {tag}"));
        params.serial_number = Some(serial);
        params.not_before = validity.not_before();
        params.not_after = validity.not_after();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("{}{trust_domain}", spiffe::SCHEME))?];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            trust_domain: Some(trust_domain.clone()),
            validity,
        })
    }

    /// Reads a CA's certificate (the first in the file) and private key.
    ///
    /// # Errors
    /// A file cannot be read or parsed, the certificate is no CA's or out of date, or the key is
    /// another's.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, LoadError> {
        let text = pem_file::contents(certificate, FileKind::Ca)?;
        let ders = pem_file::certificates_in(&text, certificate, FileKind::Ca)?;
        let der = ders.first().map_or(&[][..], |der| der.as_ref());
        let key_der = pem_file::private_key(key)?;
        let x509 = parsed::certificate(der).map_err(|reason| LoadError::NotX509 {
            path: certificate.to_owned(),
            reason,
        })?;
        let signs = x509
            .key_usage()
            .ok()
            .flatten()
            .is_none_or(|usage| usage.value.key_cert_sign());
        if !x509.is_ca() || !signs {
            return Err(LoadError::NotCa {
                path: certificate.to_owned(),
                subject: x509.subject().to_string(),
            });
        }
        let validity = parsed::validity(&x509);
        trust_store::check_ca_date(certificate, validity, OffsetDateTime::now_utc())?;
        let unusable = |reason: rcgen::Error| LoadError::Key {
            path: key.to_owned(),
            reason: reason.to_string(),
        };
        let key_pair = KeyPair::try_from(&key_der).map_err(unusable)?;
        if key_pair.subject_public_key_info() != x509.public_key().raw {
            return Err(LoadError::KeyMismatch {
                cert: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
        let trust_domain = trust_store::trust_domain_of(certificate, &x509)?;
        let issuer =
            Issuer::from_ca_cert_der(&der.into(), key_pair).map_err(|reason| LoadError::NotX509 {
                path: certificate.to_owned(),
                reason: parsed::NotX509 {
                    reason: reason.to_string(),
                },
            })?;
        Ok(Self {
            issuer,
            certificate_pem: String::from_utf8_lossy(&text).into_owned(),
            trust_domain,
            validity,
        })
    }

    /// Issues a certificate with a new P-256 key to `subject`. A leaf never outlives its CA: it
    /// ends with the CA, if that is sooner than the end of `validity`.
    ///
    /// # Errors
    /// The CA is over or carries no trust domain, a server has no host, or the random generator
    /// failed.
    pub fn issue(&self, subject: &Subject, validity: Validity) -> Result<Issued, IssueError> {
        let now = OffsetDateTime::now_utc();
        if self.validity.not_after() < now {
            return Err(IssueError::Over {
                not_after: self.validity.not_after(),
                ago: now - self.validity.not_after(),
            });
        }
        let validity = validity.ending_with(self.validity);
        let mut params = CertificateParams::default();
        params.distinguished_name = subject.distinguished_name();
        params.serial_number = Some(serial_number()?);
        params.not_before = validity.not_before();
        params.not_after = validity.not_after();
        // Says that it is no CA, and makes the library write the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.usage()];
        params.subject_alt_names = self.names(subject)?;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            validity,
        })
    }

    /// The trust domain that the CA's certificate carries.
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    /// From when until when the CA's certificate holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The CA's certificate, PEM; of a CA that was read, its whole file.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's private key, PEM, for the [`Directory`](crate::Directory) that keeps it.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The subject alternative names of `subject`'s certificate.
    fn names(&self, subject: &Subject) -> Result<Vec<SanType>, IssueError> {
        let trust_domain = || self.trust_domain.clone().ok_or(IssueError::NoTrustDomain);
        let (identity, sans): (_, &[Host]) = match subject {
            Subject::Hub { sans } => (
                Some(Identity::Hub {
                    trust_domain: trust_domain()?,
                }),
                sans,
            ),
            Subject::Agent(id) => (
                Some(Identity::Agent {
                    trust_domain: trust_domain()?,
                    id: id.clone(),
                }),
                &[],
            ),
            Subject::Client(name) => (
                Some(Identity::Client {
                    trust_domain: trust_domain()?,
                    name: name.clone(),
                }),
                &[],
            ),
            Subject::Server { sans, .. } => (None, sans),
        };
        if sans.is_empty() && matches!(subject, Subject::Hub { .. } | Subject::Server { .. }) {
            return Err(IssueError::NoHost);
        }
        let mut names = Vec::new();
        if let Some(identity) = identity {
            names.push(uri(&identity.to_string())?);
        }
        for host in sans {
            let name = match host {
                Host::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Host::Ip(address) => SanType::IpAddress(*address),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl Subject {
    /// What the files of its certificate and key are called, without `.pem` and `.key`.
    pub fn file_stem(&self) -> String {
        match self {
            Self::Hub { .. } => "hub".to_owned(),
            Self::Agent(id) => format!("agent-{id}"),
            Self::Client(name) => format!("client-{name}"),
            Self::Server { name, .. } => format!("server-{name}"),
        }
    }

    /// For people only: nothing is decided by it.
    fn distinguished_name(&self) -> DistinguishedName {
        match self {
            Self::Hub { .. } => common_name("adit hub"),
            Self::Agent(id) => common_name(id.as_str()),
            Self::Client(name) if name.as_str().len() <= MAX_COMMON_NAME => common_name(name.as_str()),
            Self::Client(_) => common_name("adit client"),
            Self::Server { name, .. } if name.as_str().len() <= MAX_COMMON_NAME => common_name(name.as_str()),
            Self::Server { .. } => common_name("adit server"),
        }
    }

    /// The one thing that the certificate may be used for.
    fn usage(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Hub { .. } | Self::Server { .. } => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Agent(_) | Self::Client(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// No certificate was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// A leaf must not outlive its CA.
    #[error("the CA's certificate expired on {}, {} ago; make a new CA with: adit certs init --force, and issue every certificate anew", moment(*not_after), span(*ago))]
    Over {
        /// When it expired.
        not_after: OffsetDateTime,
        /// How long ago that was.
        ago: time::Duration,
    },
    /// There is nothing to make a SPIFFE id with.
    #[error(
        "the CA's certificate carries no trust domain, a spiffe:// URI as subject alternative name; make a CA with: adit certs init --trust-domain NAME"
    )]
    NoTrustDomain,
    /// A server that no client could verify.
    #[error("a server's certificate needs at least one host; name each that it is dialed by with --san HOST")]
    NoHost,
    /// The random generator failed.
    #[error("the system's random generator failed; nothing was issued")]
    Random,
    /// The certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Certificate(rcgen::Error),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn uri(text: &str) -> Result<SanType, IssueError> {
    Ok(SanType::URI(text.try_into()?))
}

fn serial_number() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    // Positive, and never a leading zero byte that DER would drop.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests;
