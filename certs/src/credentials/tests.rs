#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use time::Duration;
use x509_parser::der_parser::der::parse_der_sequence;

use super::*;
use crate::Subject;
use crate::test_fixtures::{AnyCa, Folder, agent_params, billing, days, hours, hub, server, site_7, uri};

fn failure(files: &CredentialFiles, role: Role) -> LoadError {
    Credentials::load(files, role).unwrap_err()
}

/// The error, which must name all of `parts`.
fn says(error: &LoadError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn each_role_loads_its_own_files() {
    let folder = Folder::of("prod.example");
    let (dir, orders) = (folder.path(), "orders".parse().unwrap());
    for (subject, files, role, identity) in [
        (
            hub(),
            CredentialFiles::hub(dir),
            Role::Hub,
            Some("spiffe://prod.example/hub"),
        ),
        (
            Subject::Agent(site_7()),
            CredentialFiles::agent(dir, &site_7()),
            Role::Agent,
            Some("spiffe://prod.example/agent/site-7"),
        ),
        (
            Subject::Client(billing()),
            CredentialFiles::client(dir, &billing()),
            Role::Client,
            Some("spiffe://prod.example/client/billing"),
        ),
        (
            server(),
            CredentialFiles::server(dir, &orders),
            Role::Server,
            None,
        ),
    ] {
        assert_eq!(folder.issue(&subject, days(90)), files);
        let credentials = Credentials::load(&files, role).unwrap();
        assert_eq!(
            credentials.identity().map(Identity::to_string).as_deref(),
            identity
        );
        assert_eq!(credentials.trust_domain().unwrap().as_str(), "prod.example");
        assert_eq!(credentials.trust_store().roots().len(), 1);
    }
}

#[test]
fn the_private_key_is_given_on_request_and_never_printed() {
    let folder = Folder::new();
    let files = folder.agent();
    let credentials = Credentials::load(&files, Role::Agent).unwrap();
    let key = crate::pem_file::private_key(&files.key).unwrap();
    assert_eq!(credentials.private_key_der(), key.secret_der());
    let printed = format!("{credentials:?}");
    assert!(
        printed.contains("site-7") && !printed.contains(&format!("{:?}", &key.secret_der()[40..44])),
        "{printed}"
    );
    assert!(!printed.to_lowercase().contains("certified"), "{printed}");
}

#[test]
fn the_name_that_was_asked_for_must_be_the_certificates() {
    let folder = Folder::new();
    let agent = Credentials::load(&folder.agent(), Role::Agent).unwrap();
    agent.check_agent_id(&site_7()).unwrap();
    let error = agent.check_agent_id(&"site-8".parse().unwrap()).unwrap_err();
    says(
        &error,
        &[
            "agent-site-7.pem",
            "spiffe://adit/agent/site-7",
            "not of \"site-8\"",
            "adit certs agent site-8",
        ],
    );
    let files = folder.issue(&Subject::Client(billing()), days(1));
    let client = Credentials::load(&files, Role::Client).unwrap();
    client.check_client_name(&billing()).unwrap();
    let error = client.check_client_name(&"ops".parse().unwrap()).unwrap_err();
    says(&error, &["not of \"ops\"", "adit certs client ops"]);
}

#[test]
fn an_expired_certificate_says_since_when() {
    let folder = Folder::new();
    let files = folder.issue(&Subject::Agent(site_7()), hours(-50, -49));
    let error = failure(&files, Role::Agent);
    assert!(matches!(error, LoadError::Expired { .. }));
    let dir = format!("--dir {}", folder.path().display());
    says(
        &error,
        &[
            "agent-site-7.pem",
            "expired on 20",
            "2 days ago",
            "adit certs agent site-7",
            &dir,
        ],
    );
}

#[test]
fn a_certificate_of_the_future_points_at_the_clock() {
    let folder = Folder::new();
    let error = failure(&folder.issue(&hub(), hours(5, 20)), Role::Hub);
    assert!(matches!(error, LoadError::NotYetValid { .. }));
    says(
        &error,
        &[
            "hub.pem",
            "becomes valid on 20",
            "in 5 hours",
            "clock",
            "adit certs hub --san HOST",
        ],
    );
}

#[test]
fn time_is_what_the_clock_says() {
    let folder = Folder::new();
    let files = folder.agent();
    let now = OffsetDateTime::now_utc();
    assert!(Credentials::load_at(&files, Role::Agent, now + Duration::days(89)).is_ok());
    let error = Credentials::load_at(&files, Role::Agent, now + Duration::days(91)).unwrap_err();
    assert!(matches!(error, LoadError::Expired { .. }), "{error}");
    let error =
        Credentials::load_at(&files, Role::Agent, OffsetDateTime::UNIX_EPOCH - Duration::DAY).unwrap_err();
    assert!(matches!(error, LoadError::NotYetValid { .. }), "{error}");
}

#[test]
fn certificates_of_other_kinds_are_refused() {
    let folder = Folder::new();
    let agent = folder.agent();
    let client = folder.issue(&Subject::Client(billing()), days(1));
    let hub = folder.issue(&hub(), days(1));
    let server = folder.issue(&server(), days(1));
    says(
        &failure(&hub, Role::Agent),
        &[
            "hub.pem",
            "serverAuth",
            "an agent needs clientAuth",
            "adit certs agent ID",
        ],
    );
    says(
        &failure(&agent, Role::Hub),
        &[
            "agent-site-7.pem",
            "clientAuth",
            "a hub needs serverAuth",
            "adit certs hub --san",
        ],
    );
    let error = failure(&client, Role::Agent);
    assert!(matches!(error, LoadError::OtherKind { .. }));
    says(
        &error,
        &[
            "spiffe://adit/client/billing",
            "an agent needs spiffe://<trust domain>/agent/<id>",
        ],
    );
    says(
        &failure(&agent, Role::Client),
        &["spiffe://adit/agent/site-7", "a client needs"],
    );
    says(
        &failure(&server, Role::Hub),
        &["server-orders.pem", "no SPIFFE id"],
    );
}

#[test]
fn a_usage_must_be_stated_and_allow_signing() {
    let ca = AnyCa::new();
    let files = ca.files(|params| params.extended_key_usages.clear());
    says(
        &failure(&files, Role::Agent),
        &["may be used for digitalSignature, but"],
    );
    let files = ca.files(|params| {
        params.extended_key_usages.clear();
        params.key_usages.clear();
    });
    says(&failure(&files, Role::Agent), &["nothing that it states"]);
    let files = ca.files(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    says(&failure(&files, Role::Agent), &["keyEncipherment, clientAuth"]);
    // Another PKI may state both usages, and no key usage at all.
    let files = ca.files(|params| {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        params.key_usages.clear();
    });
    Credentials::load(&files, Role::Agent).unwrap();
}

#[test]
fn the_identity_must_be_one_and_of_the_cas_trust_domain() {
    let ca = AnyCa::with(|params| params.subject_alt_names = vec![uri("spiffe://adit")]);
    let files = ca.files(|params| params.subject_alt_names.push(uri("spiffe://adit/agent/b")));
    says(
        &failure(&files, Role::Agent),
        &["agent-site-7.pem", "2 URIs", "adit certs agent site-7"],
    );
    let files = ca.files(|params| params.subject_alt_names = vec![uri("spiffe://adit/agent/Site")]);
    says(
        &failure(&files, Role::Agent),
        &["\"Site\" is no agent id", "adit certs agent site-7"],
    );
    let files = ca.files(|params| params.subject_alt_names = vec![uri("spiffe://other/agent/site-7")]);
    let error = failure(&files, Role::Agent);
    assert!(matches!(error, LoadError::OtherTrustDomain { .. }));
    says(
        &error,
        &["spiffe://other/agent/site-7", "ca.pem", "trust domain adit"],
    );
    // A CA without a trust domain leaves the judgement to the hub.
    let plain = AnyCa::new();
    let credentials = Credentials::load(&plain.files(|_| {}), Role::Agent).unwrap();
    assert_eq!(credentials.trust_domain(), None);
    assert_eq!(credentials.identity().unwrap().trust_domain().as_str(), "adit");
}

#[test]
fn a_hub_must_have_a_host() {
    let ca = AnyCa::new();
    let files = ca.files(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![uri("spiffe://adit/hub")];
    });
    let error = failure(&files, Role::Hub);
    assert!(matches!(error, LoadError::NoHost { .. }));
    says(&error, &["names no host", "adit certs hub --san HOST"]);
}

#[test]
fn the_ca_of_another_hub_is_told_by_name() {
    let (folder, other) = (Folder::new(), Folder::new());
    for (files, role) in [
        (folder.agent(), Role::Agent),
        (folder.issue(&hub(), days(1)), Role::Hub),
    ] {
        let files = CredentialFiles {
            ca: other.path().join("ca.pem"),
            ..files
        };
        let error = failure(&files, role);
        assert!(matches!(error, LoadError::OtherCa { .. }), "{error}");
        says(
            &error,
            &[
                "issued by \"CN=adit CA ",
                "and not by the CA in",
                "copy its ca.pem",
            ],
        );
    }
    // Even when the two CAs have the same name.
    let (one, two) = (AnyCa::new(), AnyCa::new());
    let files = CredentialFiles {
        ca: two.folder.path().join("ca.pem"),
        ..one.files(|_| {})
    };
    assert!(matches!(failure(&files, Role::Agent), LoadError::OtherCa { .. }));
    // And a certificate cannot vouch for itself.
    let key = KeyPair::generate().unwrap();
    let files = one.write_files(
        &agent_params().self_signed(&key).unwrap().pem(),
        &key.serialize_pem(),
    );
    assert!(matches!(failure(&files, Role::Agent), LoadError::OtherCa { .. }));
}

#[test]
fn an_agent_cannot_issue() {
    let ca = AnyCa::new();
    let agent_key = KeyPair::generate().unwrap();
    let agent_pem = ca.sign(&agent_key, |_| {});
    let mut agent = agent_params();
    agent.is_ca = IsCa::NoCa;
    let key = KeyPair::generate().unwrap();
    let forged = agent_params()
        .signed_by(&key, &rcgen::Issuer::new(agent, agent_key))
        .unwrap()
        .pem();
    let files = ca.write_files(&(forged + &agent_pem), &key.serialize_pem());
    let error = failure(&files, Role::Agent);
    assert!(
        matches!(error, LoadError::Chain { .. } | LoadError::OtherCa { .. }),
        "{error}"
    );
}

#[test]
fn cas_between_may_follow_in_the_file() {
    let ca = AnyCa::new();
    let (intermediate, issuer) = ca.intermediate();
    let key = KeyPair::generate().unwrap();
    let leaf = agent_params().signed_by(&key, &issuer).unwrap().pem();
    let files = ca.write_files(&(leaf.clone() + &intermediate), &key.serialize_pem());
    let credentials = Credentials::load(&files, Role::Agent).unwrap();
    assert_eq!(credentials.certified.cert.len(), 2);
    let files = ca.write_files(&leaf, &key.serialize_pem());
    says(&failure(&files, Role::Agent), &["issued by \"CN=intermediate\""]);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = Folder::new();
    let other = folder.issue(&Subject::Client(billing()), days(1)).key;
    let files = CredentialFiles {
        key: other,
        ..folder.agent()
    };
    let error = failure(&files, Role::Agent);
    assert!(matches!(error, LoadError::KeyMismatch { .. }));
    says(
        &error,
        &["client-billing.key", "does not belong to", "agent-site-7.pem"],
    );
}

#[test]
fn every_usual_form_of_key_is_taken() {
    let ca = AnyCa::new();
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert = ca.sign(&key, |_| {});
        Credentials::load(&ca.write_files(&cert, &key.serialize_pem()), Role::Agent).unwrap();
        if algorithm == &rcgen::PKCS_RSA_SHA256 {
            let files = ca.write_files(&cert, &pem_of("RSA PRIVATE KEY", &pkcs1(key.serialized_der())));
            Credentials::load(&files, Role::Agent).unwrap();
        }
        if algorithm == &rcgen::PKCS_ECDSA_P256_SHA256 {
            // As openssl writes it: the curve in a section of its own comes first.
            let sec1 = sec1(key.serialized_der());
            let text = pem_of("EC PARAMETERS", &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])
                + &pem_of("EC PRIVATE KEY", &sec1);
            let files = ca.write_files(&cert, &text);
            let credentials = Credentials::load(&files, Role::Agent).unwrap();
            assert_eq!(credentials.private_key_der(), sec1);
        }
    }
}

#[test]
fn a_certificate_and_its_key_may_share_a_file() {
    let folder = Folder::new();
    let files = folder.agent();
    let both = [
        std::fs::read(&files.cert).unwrap(),
        std::fs::read(&files.key).unwrap(),
    ]
    .concat();
    let path = folder.write("both.pem", both);
    Credentials::load(
        &CredentialFiles {
            cert: path.clone(),
            key: path,
            ..files
        },
        Role::Agent,
    )
    .unwrap();
}

#[test]
fn keys_that_cannot_be_used_are_explained() {
    let folder = Folder::new();
    let files = folder.agent();
    let with_key = |text: &str| CredentialFiles {
        key: folder.write("bad.key", text),
        ..files.clone()
    };
    let encrypted = with_key(&pem_of("ENCRYPTED PRIVATE KEY", &[0x30, 0]));
    says(
        &failure(&encrypted, Role::Agent),
        &["bad.key", "an encrypted key", "openssl pkey"],
    );
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    says(&failure(&with_key(older), Role::Agent), &["an encrypted key"]);
    let nonsense = with_key(&pem_of("PRIVATE KEY", b"nonsense"));
    says(
        &failure(&nonsense, Role::Agent),
        &["bad.key", "cannot be used", "at least 2048 bits"],
    );
    let swapped = CredentialFiles {
        cert: files.key.clone(),
        key: files.cert.clone(),
        ..files.clone()
    };
    says(
        &failure(&swapped, Role::Agent),
        &["the certificate", "agent-site-7.key", "holds a private key"],
    );
    let certificate = CredentialFiles {
        key: files.cert.clone(),
        ..files.clone()
    };
    says(
        &failure(&certificate, Role::Agent),
        &["the private key", "agent-site-7.pem", "holds a certificate"],
    );
    let damaged = with_key("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n");
    says(&failure(&damaged, Role::Agent), &["not valid PEM"]);
}

#[test]
fn files_that_are_missing_or_unreadable_are_explained() {
    let folder = Folder::new();
    let missing = CredentialFiles::agent(folder.path(), &site_7());
    says(
        &failure(&missing, Role::Agent),
        &[
            "cannot read the certificate",
            "agent-site-7.pem",
            "adit certs agent site-7 --dir",
        ],
    );
    let files = folder.agent();
    let gone = CredentialFiles {
        key: folder.path().join("agent-site-7.key2"),
        ..files.clone()
    };
    says(
        &failure(&gone, Role::Agent),
        &["cannot read the private key", "adit certs agent site-7"],
    );
    let elsewhere = CredentialFiles {
        key: "tls.key".into(),
        ..files.clone()
    };
    says(&failure(&elsewhere, Role::Agent), &["name an existing file"]);
    let is_folder = CredentialFiles {
        key: folder.path().to_owned(),
        ..files
    };
    says(
        &failure(&is_folder, Role::Agent),
        &["cannot read the private key", "check the path"],
    );
}

#[cfg(unix)]
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn a_key_of_another_user_is_explained() {
    let folder = Folder::new();
    let files = folder.agent();
    std::fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::File::open(&files.key).is_ok() {
        eprintln!("skipped: root may read every file");
        return;
    }
    says(
        &failure(&files, Role::Agent),
        &["agent-site-7.key", "run as the user that owns it"],
    );
}

#[test]
fn a_certificate_of_another_pki_is_loaded_by_itself() {
    let ca = AnyCa::new();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["client.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    let files = ca.write_files(&cert, &key.serialize_pem());
    let load = |files: &CredentialFiles| crate::load_certified_key(&files.cert, &files.key);
    assert_eq!(load(&files).unwrap().cert.len(), 1);
    let over = ca.files(|params| params.not_after = OffsetDateTime::now_utc() - Duration::HOUR);
    says(&load(&over).unwrap_err(), &["expired", "1 hour ago"]);
    let mismatch = CredentialFiles {
        key: ca.folder.path().join("ca.key"),
        ..ca.files(|_| {})
    };
    assert!(matches!(load(&mismatch), Err(LoadError::KeyMismatch { .. })));
}

/// PKCS #1 (RFC 8017 appendix A.1.2) is what a PKCS #8 RSA key wraps: the third element.
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    let (_, sequence) = parse_der_sequence(pkcs8).unwrap();
    sequence.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

/// SEC 1 (RFC 5915), with the curve and public key.
fn sec1(pkcs8: &[u8]) -> Vec<u8> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).unwrap();
    let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
    der.as_ref().to_vec()
}

fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}
