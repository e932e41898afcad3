#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;
use crate::test_fixtures::{AnyCa, Folder, billing, days, hours, hub, server, site_7, uri};

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn key_ids(certificate: &X509Certificate<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut subject, mut authority) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().unwrap().0.to_vec();
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[test]
fn a_ca_may_only_sign_and_carries_its_trust_domain() {
    let folder = Folder::of("prod.example");
    let der = der(folder.authority.certificate_pem());
    let ca = parsed::certificate(&der).unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical);
    assert_eq!(
        (constraints.value.ca, constraints.value.path_len_constraint),
        (true, Some(0))
    );
    assert_eq!(parsed::usages(&ca), ["keyCertSign", "cRLSign"]);
    assert!(ca.key_usage().unwrap().unwrap().critical);
    assert_eq!(parsed::uris(&ca).unwrap(), ["spiffe://prod.example"]);
    assert_eq!(parsed::key_kind(ca.public_key()), "EC P-256");
    let (subject, authority) = key_ids(&ca);
    assert_eq!(subject.len(), 20);
    assert_eq!(subject, authority);
    ca.verify_signature(None).unwrap();
}

#[test]
fn each_subject_gets_its_identity_and_one_usage() {
    let folder = Folder::new();
    let ca_der = der(folder.authority.certificate_pem());
    let ca = parsed::certificate(&ca_der).unwrap();
    for (subject, usage, uris, hosts, stem) in [
        (hub(), "serverAuth", vec!["spiffe://adit/hub"], 2, "hub"),
        (
            Subject::Agent(site_7()),
            "clientAuth",
            vec!["spiffe://adit/agent/site-7"],
            0,
            "agent-site-7",
        ),
        (
            Subject::Client(billing()),
            "clientAuth",
            vec!["spiffe://adit/client/billing"],
            0,
            "client-billing",
        ),
        (server(), "serverAuth", vec![], 1, "server-orders"),
    ] {
        let issued = folder.authority.issue(&subject, days(90)).unwrap();
        let der = der(&issued.certificate_pem);
        let leaf = parsed::certificate(&der).unwrap();
        assert_eq!(subject.file_stem(), stem);
        assert_eq!(parsed::usages(&leaf), ["digitalSignature", usage]);
        assert_eq!(parsed::uris(&leaf).unwrap(), uris);
        let names = parsed::alternative_names(&leaf).unwrap();
        let is_host =
            |name: &&GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
        assert_eq!(names.iter().filter(is_host).count(), hosts);
        assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
        assert_eq!(parsed::key_kind(leaf.public_key()), "EC P-256");
        assert_eq!(parsed::validity(&leaf), issued.validity);
        assert_eq!(key_ids(&leaf).1, key_ids(&ca).0);
        assert_ne!(key_ids(&leaf).0, key_ids(&ca).0);
        leaf.verify_signature(Some(ca.public_key())).unwrap();
        assert!(!format!("{issued:?}").contains("PRIVATE"));
    }
}

#[test]
fn serial_numbers_are_long_positive_and_never_the_same() {
    let folder = Folder::new();
    let serials: HashSet<Vec<u8>> = (0..50)
        .map(|_| {
            let issued = folder
                .authority
                .issue(&Subject::Agent(site_7()), days(1))
                .unwrap();
            let der = der(&issued.certificate_pem);
            parsed::certificate(&der).unwrap().raw_serial().to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 50);
    assert!(
        serials
            .iter()
            .all(|serial| serial.len() == SERIAL_BYTES && serial[0] & 0x80 == 0)
    );
}

#[test]
fn repeated_hosts_are_named_once_and_none_is_refused() {
    let folder = Folder::new();
    let host: Host = "hub.example".parse().unwrap();
    let subject = Subject::Hub {
        sans: vec![host.clone(), host],
    };
    let issued = folder.authority.issue(&subject, days(1)).unwrap();
    assert_eq!(
        parsed::alternative_names(&parsed::certificate(&der(&issued.certificate_pem)).unwrap())
            .unwrap()
            .len(),
        2
    );
    let error = folder
        .authority
        .issue(&Subject::Hub { sans: vec![] }, days(1))
        .unwrap_err();
    assert!(matches!(error, IssueError::NoHost), "{error}");
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let authority = Authority::create(&"adit".parse().unwrap(), days(10)).unwrap();
    let issued = authority.issue(&Subject::Agent(site_7()), days(90)).unwrap();
    assert_eq!(issued.validity.not_after(), authority.validity().not_after());
    let issued = authority.issue(&Subject::Agent(site_7()), days(5)).unwrap();
    assert!(issued.validity.not_after() < authority.validity().not_after() - Duration::days(4));
}

#[test]
fn a_ca_that_is_over_issues_nothing() {
    let authority = Authority::create(&"adit".parse().unwrap(), hours(-48, -25)).unwrap();
    let error = authority.issue(&hub(), days(1)).unwrap_err();
    assert!(error.to_string().contains("1 day ago"), "{error}");
}

#[test]
fn long_names_do_not_break_the_common_name() {
    let folder = Folder::new();
    let name = "n".repeat(200);
    for subject in [
        Subject::Client(name.parse().unwrap()),
        Subject::Server {
            name: name.parse().unwrap(),
            sans: vec!["localhost".parse().unwrap()],
        },
    ] {
        let files = folder.issue(&subject, days(1));
        let text = std::fs::read_to_string(files.cert).unwrap();
        let der = der(&text);
        let certificate = parsed::certificate(&der).unwrap();
        let common_name = certificate
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        assert!(common_name.starts_with("adit "), "{common_name}");
    }
}

#[test]
fn an_authority_is_the_same_after_a_reload() {
    let folder = Folder::of("prod.example");
    let loaded = folder.directory.read_authority().unwrap();
    assert_eq!(loaded.trust_domain(), folder.authority.trust_domain());
    assert_eq!(loaded.validity(), folder.authority.validity());
    assert_eq!(loaded.certificate_pem(), folder.authority.certificate_pem());
    assert_eq!(loaded.key_pem(), folder.authority.key_pem());
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
    let issued = loaded.issue(&Subject::Agent(site_7()), days(1)).unwrap();
    let (leaf, ca) = (
        der(&issued.certificate_pem),
        der(folder.authority.certificate_pem()),
    );
    let (leaf, ca) = (
        parsed::certificate(&leaf).unwrap(),
        parsed::certificate(&ca).unwrap(),
    );
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(leaf.issuer().as_raw(), ca.subject().as_raw());
    assert_eq!(key_ids(&leaf).1, key_ids(&ca).0);
}

#[test]
fn another_pki_can_issue_once_it_has_a_trust_domain() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let with = AnyCa::with(|params| {
        params.subject_alt_names = vec![uri("spiffe://adit"), uri("https://pki.example")];
    });
    let authority = with.folder.directory.read_authority().unwrap();
    assert_eq!(authority.trust_domain().unwrap().as_str(), "adit");
    authority.issue(&Subject::Agent(site_7()), days(1)).unwrap();

    let without = AnyCa::new().folder.directory.read_authority().unwrap();
    let error = without.issue(&Subject::Agent(site_7()), days(1)).unwrap_err();
    assert!(matches!(error, IssueError::NoTrustDomain), "{error}");
    // An upstream's certificate has no SPIFFE id and needs no trust domain.
    without.issue(&server(), days(1)).unwrap();

    // A CA with an RSA key signs too.
    let folder = Folder::new();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    folder.write("ca.pem", params.self_signed(&rsa).unwrap().pem());
    folder.write("ca.key", rsa.serialize_pem());
    folder
        .directory
        .read_authority()
        .unwrap()
        .issue(&server(), days(1))
        .unwrap();
}

#[test]
fn what_is_no_ca_or_has_another_key_is_refused() {
    let folder = Folder::new();
    let files = folder.issue(&hub(), days(1));
    let error = Authority::load(&files.cert, &files.key).unwrap_err();
    assert!(matches!(error, LoadError::NotCa { .. }), "{error}");
    let error = Authority::load(&files.ca, &files.key).unwrap_err();
    assert!(matches!(error, LoadError::KeyMismatch { .. }), "{error}");
    let error = Authority::load(&folder.path().join("none.pem"), &files.key).unwrap_err();
    assert!(error.to_string().contains("adit certs init"), "{error}");
    let signs_nothing = AnyCa::with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(matches!(
        signs_nothing.folder.directory.read_authority(),
        Err(LoadError::NotCa { .. })
    ));
    let over = AnyCa::with(|params| params.not_after = OffsetDateTime::now_utc() - Duration::DAY);
    let error = over.folder.directory.read_authority().unwrap_err();
    assert!(matches!(error, LoadError::Expired { .. }), "{error}");
}
