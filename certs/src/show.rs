//! What is in a PEM file, for people.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::age::{moment, span};
use crate::parsed::{self, NotX509};
use crate::pem_file::{self, MAX_FILE};
use crate::tls::provider;
use crate::validity::Validity;

/// Revoked serial numbers that are printed of one list.
const SHOWN_REVOKED: usize = 100;

/// One section of a PEM file. `Display` prints it over several lines, without a line end after the
/// last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section {
    /// A certificate.
    Certificate(CertificateSummary),
    /// A private key, of which only the kind is told: `EC P-256`.
    PrivateKey(String),
    /// A public key of this kind.
    PublicKey(String),
    /// A list of revoked certificates.
    Crl(CrlSummary),
    /// A section that is named and not looked into.
    Other(&'static str),
}

/// What there is to know about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Its holder's name.
    pub subject: String,
    /// Its subject alternative names, each with its kind: `URI spiffe://adit/hub`.
    pub alternative_names: Vec<String>,
    /// The name of the CA that issued it.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// From when until when it holds.
    pub validity: Validity,
    /// How much of that is left, or for how long it has been over: `89 days left`.
    pub age: String,
    /// What it may be used for, by the names of RFC 5280.
    pub usages: Vec<String>,
    /// Whether it is a CA's, and if so how many CAs may follow below it.
    pub authority: String,
    /// The kind of its key: `EC P-256`.
    pub key: String,
    /// The SHA-256 of its DER in hexadecimal.
    pub fingerprint: String,
}

/// What there is to know about a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlSummary {
    /// The name of the CA that issued it.
    pub issuer: String,
    /// When it was issued.
    pub this_update: OffsetDateTime,
    /// When the next one is due.
    pub next_update: Option<OffsetDateTime>,
    /// The serial numbers of the revoked certificates in hexadecimal.
    pub revoked: Vec<String>,
}

/// Describes every section of the PEM file, in its order. `now` is what the days left are counted
/// from.
///
/// # Errors
/// The file cannot be read, holds no PEM, or holds a damaged section.
pub fn show(path: &Path, now: OffsetDateTime) -> Result<Vec<Section>, ShowError> {
    let text = match pem_file::bounded(path) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Err(ShowError::TooLarge {
                path: path.to_owned(),
            });
        }
        Err(reason) => {
            return Err(ShowError::Read {
                path: path.to_owned(),
                reason,
            });
        }
    };
    let mut sections = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|reason| ShowError::Pem {
            path: path.to_owned(),
            reason,
        })?;
        let section = describe(kind, &der, now);
        sections.push(section.map_err(|reason| ShowError::Content {
            path: path.to_owned(),
            reason,
        })?);
    }
    if sections.is_empty() {
        return Err(ShowError::NoPem {
            path: path.to_owned(),
        });
    }
    Ok(sections)
}

fn describe(kind: SectionKind, der: &[u8], now: OffsetDateTime) -> Result<Section, NotX509> {
    match kind {
        SectionKind::Certificate => certificate(der, now).map(Section::Certificate),
        SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
            Ok(Section::PrivateKey(private_key_kind(kind, der)))
        }
        SectionKind::PublicKey => public_key_kind(der).map(Section::PublicKey),
        SectionKind::Crl => crl(der).map(Section::Crl),
        SectionKind::Csr => Ok(Section::Other("certificate request")),
        _ => Ok(Section::Other("section of another kind")),
    }
}

fn certificate(der: &[u8], now: OffsetDateTime) -> Result<CertificateSummary, NotX509> {
    let certificate = parsed::certificate(der)?;
    let validity = parsed::validity(&certificate);
    Ok(CertificateSummary {
        subject: printable(&certificate.subject().to_string()),
        alternative_names: parsed::alternative_names(&certificate)?
            .iter()
            .map(alternative_name)
            .collect(),
        issuer: printable(&certificate.issuer().to_string()),
        serial: hex(certificate.raw_serial()),
        validity,
        age: age(validity, now),
        usages: parsed::usages(&certificate),
        authority: authority(&certificate),
        key: parsed::key_kind(certificate.public_key()),
        fingerprint: hex(digest(&SHA256, der).as_ref()),
    })
}

fn alternative_name(name: &GeneralName<'_>) -> String {
    printable(&match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::RFC822Name(address) => format!("email {address}"),
        GeneralName::IPAddress(octets) => {
            if let Ok(octets) = <[u8; 4]>::try_from(*octets) {
                format!("IP {}", Ipv4Addr::from(octets))
            } else if let Ok(octets) = <[u8; 16]>::try_from(*octets) {
                format!("IP {}", Ipv6Addr::from(octets))
            } else {
                format!("IP, malformed: {}", hex(octets))
            }
        }
        other => other.to_string(),
    })
}

fn age(validity: Validity, now: OffsetDateTime) -> String {
    if now < validity.not_before() {
        format!("valid in {}", span(validity.not_before() - now))
    } else if validity.holds_at(now) {
        format!("{} left", span(validity.not_after() - now))
    } else {
        format!("EXPIRED {} ago", span(now - validity.not_after()))
    }
}

fn authority(certificate: &X509Certificate<'_>) -> String {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => match constraints.value.path_len_constraint {
            Some(length) => format!("yes, path length {length}"),
            None => "yes, path length unlimited".to_owned(),
        },
        Ok(_) => "no".to_owned(),
        Err(_) => "malformed".to_owned(),
    }
}

/// Only the kind: the key itself is for nobody's eyes.
fn private_key_kind(kind: SectionKind, der: &[u8]) -> String {
    let key = PrivateKeyDer::from_pem(kind, der.to_vec());
    let signer = key.and_then(|key| provider().key_provider.load_private_key(key).ok());
    let public = signer.as_ref().and_then(|signer| signer.public_key());
    match public {
        Some(public) => public_key_kind(public.as_ref()).unwrap_or_else(|_| "unknown kind".to_owned()),
        None => "of a kind that cannot be used".to_owned(),
    }
}

fn public_key_kind(der: &[u8]) -> Result<String, NotX509> {
    let (_, key) = SubjectPublicKeyInfo::from_der(der).map_err(|error| NotX509 {
        reason: error.to_string(),
    })?;
    Ok(parsed::key_kind(&key))
}

fn crl(der: &[u8]) -> Result<CrlSummary, NotX509> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| NotX509 {
        reason: error.to_string(),
    })?;
    Ok(CrlSummary {
        issuer: printable(&list.issuer().to_string()),
        this_update: parsed::datetime(list.last_update()),
        next_update: list.next_update().map(parsed::datetime),
        revoked: list
            .iter_revoked_certificates()
            .map(|revoked| hex(revoked.raw_serial()))
            .collect(),
    })
}

/// Text out of a file that could otherwise steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            }
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::PrivateKey(kind) => write!(f, "private key ({kind})"),
            Self::PublicKey(kind) => write!(f, "public key ({kind})"),
            Self::Crl(list) => list.fmt(f),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

impl fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "certificate")?;
        writeln!(f, "  subject      {}", self.subject)?;
        writeln!(f, "  names        {}", listed(&self.alternative_names))?;
        writeln!(f, "  issuer       {}", self.issuer)?;
        writeln!(f, "  serial       {}", self.serial)?;
        writeln!(f, "  valid from   {}", moment(self.validity.not_before()))?;
        writeln!(
            f,
            "  valid until  {} ({})",
            moment(self.validity.not_after()),
            self.age
        )?;
        writeln!(f, "  usages       {}", listed(&self.usages))?;
        writeln!(f, "  CA           {}", self.authority)?;
        writeln!(f, "  key          {}", self.key)?;
        write!(f, "  SHA-256      {}", self.fingerprint)
    }
}

impl fmt::Display for CrlSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "revocation list")?;
        writeln!(f, "  issuer       {}", self.issuer)?;
        writeln!(f, "  issued       {}", moment(self.this_update))?;
        writeln!(
            f,
            "  next due     {}",
            self.next_update.map_or_else(|| "not stated".to_owned(), moment)
        )?;
        write!(f, "  revoked      {}", self.revoked.len())?;
        for serial in self.revoked.iter().take(SHOWN_REVOKED) {
            write!(f, "\n    {serial}")?;
        }
        if self.revoked.len() > SHOWN_REVOKED {
            write!(f, "\n    and {} more", self.revoked.len() - SHOWN_REVOKED)?;
        }
        Ok(())
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// A file cannot be shown.
#[derive(Debug, Error)]
pub enum ShowError {
    /// It cannot be read.
    #[error("cannot read {path:?}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// It is larger than any file of certificates.
    #[error("{path:?} is larger than {MAX_FILE} bytes, which no file of certificates or keys should be")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It holds nothing that can be shown.
    #[error(
        "{path:?} holds no certificate, key or revocation list in PEM, the form with \"BEGIN\" and \"END\" lines (or only an encrypted key); if it is DER, convert it with: openssl x509 -inform der"
    )]
    NoPem {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged.
    #[error("{path:?} is not valid PEM: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: pem::Error,
    },
    /// A section of it is damaged.
    #[error("{path:?} has a damaged section: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What the parser objects to.
        reason: NotX509,
    },
}

#[cfg(test)]
mod tests;
