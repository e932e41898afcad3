//! PEM files, read with a bound.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::load_error::LoadError;
use crate::reissue;

/// Largest file that is read, in bytes: a bundle of every public CA is a quarter of it.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// One or more CA certificates.
    Ca,
    /// A certificate and the CAs above it.
    Certificate,
    /// A private key.
    PrivateKey,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "CA",
            Self::Certificate => "certificate",
            Self::PrivateKey => "private key",
        })
    }
}

/// Every certificate in the file, in its order; at least one.
pub(crate) fn certificates(path: &Path, kind: FileKind) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    certificates_in(&contents(path, kind)?, path, kind)
}

/// Every certificate in `text`, which was read from `path`; at least one.
pub(crate) fn certificates_in(
    text: &[u8],
    path: &Path,
    kind: FileKind,
) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|reason| LoadError::Pem {
        kind,
        path: path.to_owned(),
        reason,
    })?;
    if certificates.is_empty() {
        let advice = "name the file with the \"BEGIN CERTIFICATE\" lines";
        return Err(missing(path, kind, text, advice));
    }
    Ok(certificates)
}

/// The first private key in the file: PKCS #8, SEC 1 or PKCS #1.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let kind = FileKind::PrivateKey;
    let text = contents(path, kind)?;
    // The older form of encryption has headers inside a section, which are no base64.
    if contains(&text, b"ENCRYPTED") {
        return Err(LoadError::Missing {
            kind,
            path: path.to_owned(),
            found: "an encrypted key".to_owned(),
            advice: "decrypt it, for example with: openssl pkey -in ENCRYPTED.key -out PLAIN.key (and chmod 600 PLAIN.key)",
        });
    }
    match PrivateKeyDer::pem_slice_iter(&text).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(reason)) => Err(LoadError::Pem {
            kind,
            path: path.to_owned(),
            reason,
        }),
        None => Err(missing(
            path,
            kind,
            &text,
            "name the file with the \"BEGIN PRIVATE KEY\" line",
        )),
    }
}

/// The bytes of the file.
pub(crate) fn contents(path: &Path, kind: FileKind) -> Result<Vec<u8>, LoadError> {
    match bounded(path) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(LoadError::TooLarge {
            kind,
            path: path.to_owned(),
        }),
        Err(reason) => {
            let advice = match reason.kind() {
                io::ErrorKind::NotFound => reissue::missing(path, kind),
                io::ErrorKind::PermissionDenied => {
                    "run as the user that owns it, or make it readable for this one".to_owned()
                }
                _ => "check the path".to_owned(),
            };
            Err(LoadError::Read {
                kind,
                path: path.to_owned(),
                reason,
                advice,
            })
        }
    }
}

/// The bytes of the file, or nothing when there are more than [`MAX_FILE`].
pub(crate) fn bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(u64::try_from(bytes.len())
        .is_ok_and(|length| length <= MAX_FILE)
        .then_some(bytes))
}

fn missing(path: &Path, kind: FileKind, text: &[u8], advice: &'static str) -> LoadError {
    let found = match <(SectionKind, Vec<u8>)>::from_pem_slice(text) {
        _ if text.is_empty() => "nothing",
        Ok((SectionKind::Certificate, _)) => "a certificate",
        Ok((SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey, _)) => {
            "a private key"
        }
        Ok((SectionKind::PublicKey, _)) => "a public key",
        Ok((SectionKind::Crl, _)) => "a revocation list",
        Ok((SectionKind::Csr, _)) => "a certificate request",
        Ok(_) => "something else",
        // ASN.1 in its binary form begins with a SEQUENCE.
        Err(_) if text.first() == Some(&0x30) => "DER, not PEM (openssl converts it)",
        Err(_) => "no PEM",
    };
    LoadError::Missing {
        kind,
        path: path.to_owned(),
        found: found.to_owned(),
        advice,
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
