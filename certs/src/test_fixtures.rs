//! Certificates for tests, right ones and wrong ones.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::{AgentId, Authority, ClientName, CredentialFiles, Directory, Existing, Subject, Validity};

pub(crate) fn days(days: u16) -> Validity {
    Validity::days(NonZeroU16::new(days).unwrap())
}

/// A validity from `from` to `to` and a half hours from now; the half keeps tests clear of whole
/// numbers.
pub(crate) fn hours(from: i64, to: i64) -> Validity {
    let now = OffsetDateTime::now_utc() + Duration::minutes(30);
    Validity::between(now + Duration::hours(from), now + Duration::hours(to))
}

pub(crate) fn site_7() -> AgentId {
    "site-7".parse().unwrap()
}

pub(crate) fn billing() -> ClientName {
    "billing".parse().unwrap()
}

pub(crate) fn hub() -> Subject {
    Subject::Hub {
        sans: vec!["hub.example".parse().unwrap(), "127.0.0.1".parse().unwrap()],
    }
}

pub(crate) fn server() -> Subject {
    Subject::Server {
        name: "orders".parse().unwrap(),
        sans: vec!["localhost".parse().unwrap()],
    }
}

/// A folder with a CA, as `adit certs` would make it.
pub(crate) struct Folder {
    temporary: TempDir,
    pub(crate) authority: Authority,
    pub(crate) directory: Directory,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self::of("adit")
    }

    pub(crate) fn of(trust_domain: &str) -> Self {
        let temporary = TempDir::new().unwrap();
        let authority = Authority::create(&trust_domain.parse().unwrap(), days(365)).unwrap();
        let directory = Directory::new(temporary.path());
        directory.write_authority(&authority, Existing::Keep).unwrap();
        Self {
            temporary,
            authority,
            directory,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Issues to `subject` and says where the files are.
    pub(crate) fn issue(&self, subject: &Subject, validity: Validity) -> CredentialFiles {
        let issued = self.authority.issue(subject, validity).unwrap();
        let written = self.directory.write(subject, &issued, Existing::Replace).unwrap();
        CredentialFiles {
            ca: self.path().join("ca.pem"),
            cert: written.certificate,
            key: written.key,
        }
    }

    pub(crate) fn agent(&self) -> CredentialFiles {
        self.issue(&Subject::Agent(site_7()), days(90))
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A CA that signs whatever it is given.
pub(crate) struct AnyCa {
    pub(crate) folder: Folder,
    params: CertificateParams,
    key: KeyPair,
}

impl AnyCa {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "another PKI");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = Folder::new();
        folder.write("ca.pem", certificate.pem());
        folder.write("ca.key", key.serialize_pem());
        Self { folder, params, key }
    }

    /// A certificate of an agent of this CA, changed by `change`, for `key`.
    pub(crate) fn sign(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = agent_params();
        change(&mut params);
        params
            .signed_by(key, &Issuer::from_params(&self.params, &self.key))
            .unwrap()
            .pem()
    }

    /// The same, with a new key and as files.
    pub(crate) fn files(&self, change: impl FnOnce(&mut CertificateParams)) -> CredentialFiles {
        let key = KeyPair::generate().unwrap();
        self.write_files(&self.sign(&key, change), &key.serialize_pem())
    }

    pub(crate) fn write_files(&self, cert: &str, key: &str) -> CredentialFiles {
        CredentialFiles {
            ca: self.folder.path().join("ca.pem"),
            cert: self.folder.write("agent-site-7.pem", cert),
            key: self.folder.write("agent-site-7.key", key),
        }
    }

    /// A CA below this one: its certificate, and its key as issuer.
    pub(crate) fn intermediate(&self) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .unwrap()
            .pem();
        (pem, Issuer::new(params, key))
    }
}

/// A right certificate of the agent site-7.
pub(crate) fn agent_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "site-7");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri("spiffe://adit/agent/site-7")];
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}
