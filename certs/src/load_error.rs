//! Why credentials or a CA could not be loaded.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::age::{moment, span};
use crate::identity::{Identity, IdentityError};
use crate::parsed::NotX509;
use crate::pem_file::{FileKind, MAX_FILE};
use crate::spiffe::InvalidSpiffeId;
use crate::trust_domain::TrustDomain;

/// A certificate, private key or CA cannot be used. Each message names the file, says why, and what
/// to do.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the {kind} {path:?}: {reason}; {advice}")]
    Read {
        /// What the file should hold.
        kind: FileKind,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
        /// What to do.
        advice: String,
    },
    /// The file is larger than any that is meant to be here.
    #[error(
        "the {kind} {path:?} is larger than {MAX_FILE} bytes, which no file of certificates or keys should be; check that it is the right file"
    )]
    TooLarge {
        /// What the file should hold.
        kind: FileKind,
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the {kind} {path:?} is not valid PEM: {reason}; copy it again from where it was made")]
    Pem {
        /// What the file should hold.
        kind: FileKind,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: pem::Error,
    },
    /// The file holds something else.
    #[error("the {kind} {path:?} holds {found}; {advice}")]
    Missing {
        /// What the file should hold.
        kind: FileKind,
        /// The file.
        path: PathBuf,
        /// What it holds instead.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A certificate in the file cannot be parsed.
    #[error("the certificate in {path:?} cannot be parsed: {reason}; issue or copy it again")]
    NotX509 {
        /// The file.
        path: PathBuf,
        /// What the parser objects to.
        reason: NotX509,
    },
    /// The private key is of a kind that cannot be used.
    #[error(
        "the private key in {path:?} cannot be used: {reason}; use an EC P-256 or P-384, Ed25519, or RSA key of at least 2048 bits, unencrypted"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the private key in {key:?} does not belong to the certificate in {cert:?}; name the two files that were made together"
    )]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The private key's file.
        key: PathBuf,
    },
    /// The certificate is over.
    #[error("the certificate in {path:?} expired on {}, {} ago; {advice}", moment(*not_after), span(*ago))]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        not_after: OffsetDateTime,
        /// How long ago that was.
        ago: Duration,
        /// What to do.
        advice: String,
    },
    /// The certificate's time has not come, most often because a clock is wrong.
    #[error("the certificate in {path:?} becomes valid on {}, in {}; check this machine's clock, or {advice}", moment(*not_before), span(*ahead))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it becomes valid.
        not_before: OffsetDateTime,
        /// How long that still is.
        ahead: Duration,
        /// What to do.
        advice: String,
    },
    /// The certificate does not come from the CA.
    #[error(
        "the certificate in {cert:?} was issued by {issuer:?}, and not by the CA in {ca:?}, which is {subjects}; use the CA and the certificate of the same hub: copy its ca.pem, or {advice}"
    )]
    OtherCa {
        /// The certificate's file.
        cert: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// The issuer that the certificate names.
        issuer: String,
        /// The CAs in the CA's file.
        subjects: String,
        /// What to do.
        advice: String,
    },
    /// The certificate's path to the CA does not hold.
    #[error("the certificate in {cert:?} is not valid under the CA in {ca:?}: {reason}; {advice}")]
    Chain {
        /// The certificate's file.
        cert: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// What the verifier objects to.
        reason: Box<rustls::Error>,
        /// What to do.
        advice: String,
    },
    /// The certificate is for something else.
    #[error("the certificate in {path:?} may be used for {found}, but {role} needs {needed}; {advice}")]
    Usage {
        /// The file.
        path: PathBuf,
        /// Who would use it: `an agent`.
        role: &'static str,
        /// The extended key usage that is needed.
        needed: &'static str,
        /// The extended key usages that it has.
        found: String,
        /// What to do.
        advice: String,
    },
    /// The certificate says nobody's name, or in a wrong way.
    #[error("{path:?}: {reason}; {advice}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: IdentityError,
        /// What to do.
        advice: String,
    },
    /// The certificate is another kind of holder's.
    #[error("the certificate in {path:?} is that of {identity}, but {role} needs {needed}; {advice}")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        identity: Box<Identity>,
        /// Who would use it: `an agent`.
        role: &'static str,
        /// The form of identity that is needed.
        needed: &'static str,
        /// What to do.
        advice: String,
    },
    /// The certificate is another agent's or client's.
    #[error(
        "the certificate in {path:?} is that of {identity}, not of {asked:?}; name the same one, or {advice}"
    )]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        identity: Box<Identity>,
        /// The agent id or client name that was asked for.
        asked: String,
        /// What to do.
        advice: String,
    },
    /// The certificate is from another trust domain than its CA.
    #[error(
        "the certificate in {path:?} is that of {identity}, but the CA in {ca:?} is for the trust domain {trust_domain}; {advice}"
    )]
    OtherTrustDomain {
        /// The certificate's file.
        path: PathBuf,
        /// Whose certificate it is.
        identity: Box<Identity>,
        /// The CA's file.
        ca: PathBuf,
        /// The CA's trust domain.
        trust_domain: TrustDomain,
        /// What to do.
        advice: String,
    },
    /// No peer could verify the server.
    #[error("the certificate in {path:?} names no host, so that nobody could verify the server; {advice}")]
    NoHost {
        /// The file.
        path: PathBuf,
        /// What to do.
        advice: String,
    },
    /// The certificate cannot sign others.
    #[error(
        "the certificate in {path:?} ({subject:?}) is not a CA's and cannot issue others; name the file that adit certs init made"
    )]
    NotCa {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// A CA carries a malformed trust domain.
    #[error(
        "the CA in {path:?} has a malformed trust domain: {reason}; make a CA with: adit certs init --trust-domain NAME"
    )]
    CaTrustDomain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: InvalidSpiffeId,
    },
    /// A CA's SPIFFE id has a path, as only the ids below a trust domain have.
    #[error(
        "the CA in {path:?} has the SPIFFE id {uri}, but a CA's has no path; make a CA with: adit certs init --trust-domain NAME"
    )]
    CaPath {
        /// The file.
        path: PathBuf,
        /// The SPIFFE id.
        uri: String,
    },
    /// The CAs in one file are for different trust domains, or one is for several.
    #[error(
        "{path:?} holds CAs of the trust domains {first} and {second}, but only one is served; keep the CAs of one in the file"
    )]
    SeveralTrustDomains {
        /// The file.
        path: PathBuf,
        /// One trust domain.
        first: TrustDomain,
        /// Another.
        second: TrustDomain,
    },
}
