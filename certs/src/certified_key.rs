//! A certificate with its private key.

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use time::OffsetDateTime;

use crate::load_error::LoadError;
use crate::parsed;
use crate::pem_file::{self, FileKind};
use crate::tls::provider;

/// Reads a certificate and its private key that another CA than the hub's vouches for, such as what
/// an agent shows to an upstream that demands a certificate. Who its holder is, is the upstream's
/// matter.
///
/// # Errors
/// A file cannot be read or parsed, the key does not belong to the certificate, or the certificate
/// is out of date.
pub fn load_certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, LoadError> {
    let (certified, _) = read(cert, key)?;
    let leaf = leaf(cert, &certified.cert)?;
    let advice = || "issue a new one".to_owned();
    parsed::validity(&leaf).check(cert, OffsetDateTime::now_utc(), advice)?;
    Ok(certified)
}

/// The certificates in `cert` with the key in `key`, which belongs to the first of them; and the
/// key as it was read.
pub(crate) fn read(cert: &Path, key: &Path) -> Result<(CertifiedKey, PrivateKeyDer<'static>), LoadError> {
    let chain = pem_file::certificates(cert, FileKind::Certificate)?;
    let key_der = pem_file::private_key(key)?;
    leaf(cert, &chain)?;
    let signer = provider()
        .key_provider
        .load_private_key(key_der.clone_key())
        .map_err(|error| LoadError::Key {
            path: key.to_owned(),
            reason: error.to_string(),
        })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) => Ok((certified, key_der)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(LoadError::KeyMismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) => Err(LoadError::Key {
            path: key.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// The first certificate of the chain, parsed.
pub(crate) fn leaf<'a>(
    path: &Path,
    chain: &'a [CertificateDer<'static>],
) -> Result<x509_parser::certificate::X509Certificate<'a>, LoadError> {
    let der = chain.first().map_or(&[][..], |der| der.as_ref());
    parsed::certificate(der).map_err(|reason| LoadError::NotX509 {
        path: path.to_owned(),
        reason,
    })
}
