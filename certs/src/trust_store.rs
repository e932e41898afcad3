//! The CAs that are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use crate::load_error::LoadError;
use crate::parsed;
use crate::pem_file::{self, FileKind};
use crate::reissue;
use crate::spiffe::{self, SCHEME};
use crate::trust_domain::TrustDomain;
use crate::validity::Validity;

/// The CAs of one file: what a process checks its peers with, whether or not it has a certificate
/// itself.
#[derive(Debug, Clone)]
pub struct TrustStore {
    roots: Arc<RootCertStore>,
    subjects: Vec<String>,
    trust_domain: Option<TrustDomain>,
}

/// This system trusts nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this system has no trusted CAs{problems}; install them (on Debian the package ca-certificates), or name a file \
     with the server's own CA"
)]
pub struct NoSystemRoots {
    /// What was found wrong, if anything.
    problems: String,
}

impl TrustStore {
    /// Reads every CA certificate in the file. Those that are out of date are not trusted; a
    /// verifier does not look at the dates of the CAs that it is given.
    ///
    /// # Errors
    /// The file cannot be read or parsed, every CA in it is out of date, or they are for different
    /// trust domains.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::load_at(path, OffsetDateTime::now_utc())
    }

    pub(crate) fn load_at(path: &Path, now: OffsetDateTime) -> Result<Self, LoadError> {
        let mut roots = RootCertStore::empty();
        let mut subjects = Vec::new();
        let mut trust_domain = None;
        let mut out_of_date = None;
        for der in pem_file::certificates(path, FileKind::Ca)? {
            let not_x509 = |reason| LoadError::NotX509 {
                path: path.to_owned(),
                reason,
            };
            let certificate = parsed::certificate(&der).map_err(not_x509)?;
            if let Err(error) = check_ca_date(path, parsed::validity(&certificate), now) {
                out_of_date = Some(error);
                continue;
            }
            if let Some(found) = trust_domain_of(path, &certificate)? {
                merge(path, &mut trust_domain, found)?;
            }
            subjects.push(certificate.subject().to_string());
            roots.add(der.clone()).map_err(|error| {
                not_x509(parsed::NotX509 {
                    reason: error.to_string(),
                })
            })?;
        }
        match out_of_date {
            Some(error) if roots.is_empty() => Err(error),
            _ => Ok(Self {
                roots: Arc::new(roots),
                subjects,
                trust_domain,
            }),
        }
    }

    /// The CAs that the operating system trusts, for a peer that is anybody's server.
    ///
    /// # Errors
    /// The system has none, or none that can be read.
    pub fn system() -> Result<Self, NoSystemRoots> {
        let mut found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A system's store may hold certificates of odd kinds; those that can be used are enough.
        roots.add_parsable_certificates(std::mem::take(&mut found.certs));
        if roots.is_empty() {
            let problems: String = found.errors.iter().map(|error| format!("; {error}")).collect();
            return Err(NoSystemRoots { problems });
        }
        Ok(Self {
            roots: Arc::new(roots),
            subjects: Vec::new(),
            trust_domain: None,
        })
    }

    /// The CAs, as rustls takes them.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// The trust domain that the CAs carry, if any.
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }

    /// The subjects of the CAs, for messages.
    pub(crate) fn subjects(&self) -> String {
        self.subjects
            .iter()
            .map(|subject| format!("{subject:?}"))
            .collect::<Vec<_>>()
            .join(" or ")
    }
}

/// Whether the CA's certificate in `path` holds at `now`.
pub(crate) fn check_ca_date(path: &Path, validity: Validity, now: OffsetDateTime) -> Result<(), LoadError> {
    validity.check(path, now, || {
        let dir = reissue::dir_of(path);
        format!("make a new CA with: adit certs init{dir} --force, and issue every certificate anew, or copy the hub's new ca.pem here")
    })
}

/// The trust domain that a CA's certificate carries: a SPIFFE id without a path (X509-SVID §3).
pub(crate) fn trust_domain_of(
    path: &Path,
    certificate: &X509Certificate<'_>,
) -> Result<Option<TrustDomain>, LoadError> {
    let uris = parsed::uris(certificate).map_err(|reason| LoadError::NotX509 {
        path: path.to_owned(),
        reason,
    })?;
    let mut trust_domain = None;
    for uri in uris.into_iter().filter(|uri| uri.starts_with(SCHEME)) {
        let (found, segments) = spiffe::parse(uri).map_err(|reason| LoadError::CaTrustDomain {
            path: path.to_owned(),
            reason,
        })?;
        if !segments.is_empty() {
            return Err(LoadError::CaPath {
                path: path.to_owned(),
                uri: uri.to_owned(),
            });
        }
        merge(path, &mut trust_domain, found)?;
    }
    Ok(trust_domain)
}

fn merge(path: &Path, known: &mut Option<TrustDomain>, found: TrustDomain) -> Result<(), LoadError> {
    match known {
        Some(first) if *first != found => Err(LoadError::SeveralTrustDomains {
            path: path.to_owned(),
            first: first.clone(),
            second: found,
        }),
        _ => {
            *known = Some(found);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
