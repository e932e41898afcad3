//! Questions put to a parsed certificate.

use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::validity::Validity;

/// Tag number of a URI among general names (RFC 5280 §4.2.1.6).
const URI_TAG: u32 = 6;

/// Bytes that should be a certificate are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a valid X.509 certificate: {reason}")]
pub struct NotX509 {
    /// What the parser objects to.
    pub reason: String,
}

/// The certificate in `der`, which must hold nothing else.
pub(crate) fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, NotX509> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(NotX509 {
            reason: format!("{} bytes follow it", rest.len()),
        }),
        Err(error) => Err(NotX509 {
            reason: error.to_string(),
        }),
    }
}

/// The subject alternative names, none when the extension is absent.
pub(crate) fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> Result<&'a [GeneralName<'a>], NotX509> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => Ok(&extension.value.general_names),
        Ok(None) => Ok(&[]),
        Err(error) => Err(NotX509 {
            reason: format!("its subject alternative names: {error}"),
        }),
    }
}

/// The URIs among the subject alternative names.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, NotX509> {
    let mut uris = Vec::new();
    for name in alternative_names(certificate)? {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // Passing over it would make two URIs look like one.
            GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => {
                return Err(NotX509 {
                    reason: "a URI among its subject alternative names is not text".to_owned(),
                });
            }
            _ => {}
        }
    }
    Ok(uris)
}

/// From when until when the certificate holds.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Validity {
    Validity::between(
        datetime(certificate.validity().not_before),
        datetime(certificate.validity().not_after),
    )
}

/// A time of a certificate or CRL.
pub(crate) fn datetime(time: x509_parser::time::ASN1Time) -> OffsetDateTime {
    time.to_datetime()
}

/// What kind of key it is, for people: `EC P-256`, `RSA 2048 bits`.
pub(crate) fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = key.algorithm.algorithm.to_id_string();
    match algorithm.as_str() {
        "1.2.840.10045.2.1" => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|parameters| parameters.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => "EC P-256".to_owned(),
                Some("1.3.132.0.34") => "EC P-384".to_owned(),
                Some("1.3.132.0.35") => "EC P-521".to_owned(),
                Some(other) => format!("EC curve {other}"),
                None => "EC, curve not named".to_owned(),
            }
        }
        "1.2.840.113549.1.1.1" => match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("RSA {} bits", rsa.key_size()),
            _ => "RSA".to_owned(),
        },
        "1.3.101.112" => "Ed25519".to_owned(),
        other => format!("algorithm {other}"),
    }
}

/// What the certificate says that its key may be used for, by the names of RFC 5280.
pub(crate) fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut usages = Vec::new();
    if let Ok(Some(extension)) = certificate.key_usage() {
        let names = [
            "digitalSignature",
            "nonRepudiation",
            "keyEncipherment",
            "dataEncipherment",
            "keyAgreement",
            "keyCertSign",
            "cRLSign",
            "encipherOnly",
            "decipherOnly",
        ];
        let set = |bit: usize| (extension.value.flags >> bit) & 1 == 1;
        usages.extend(
            names
                .iter()
                .enumerate()
                .filter(|(bit, _)| set(*bit))
                .map(|(_, name)| (*name).to_owned()),
        );
    }
    if let Ok(Some(extension)) = certificate.extended_key_usage() {
        let value = extension.value;
        let known = [
            (value.any, "anyExtendedKeyUsage"),
            (value.server_auth, "serverAuth"),
            (value.client_auth, "clientAuth"),
            (value.code_signing, "codeSigning"),
            (value.email_protection, "emailProtection"),
            (value.time_stamping, "timeStamping"),
            (value.ocsp_signing, "OCSPSigning"),
        ];
        usages.extend(
            known
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, name)| (*name).to_owned()),
        );
        usages.extend(value.other.iter().map(|oid| oid.to_id_string()));
    }
    usages
}
