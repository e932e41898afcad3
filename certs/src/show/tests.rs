#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::Duration;
use time::macros::datetime;

use super::*;
use crate::test_fixtures::{AnyCa, Folder, agent_params, days, hours, hub};
use crate::{Subject, Validity};

fn shown(folder: &Folder, text: impl AsRef<[u8]>) -> String {
    let path = folder.write("shown.pem", text);
    let sections = show(&path, OffsetDateTime::now_utc()).unwrap();
    sections
        .iter()
        .map(Section::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_certificate_is_told_in_full() {
    let folder = Folder::new();
    let files = folder.issue(&hub(), days(90));
    let der = pem_file::certificates(&files.cert, crate::FileKind::Certificate)
        .unwrap()
        .remove(0);
    let fingerprint = hex(digest(&SHA256, &der).as_ref());
    assert_eq!(fingerprint.len(), 32 * 3 - 1);
    let text = shown(&folder, std::fs::read(&files.cert).unwrap());
    for line in [
        "certificate",
        "  subject      CN=adit hub",
        "  names        URI spiffe://adit/hub, DNS hub.example, IP 127.0.0.1",
        "  issuer       CN=adit CA ",
        "  valid from   20",
        " UTC (89 days left)",
        "  usages       digitalSignature, serverAuth",
        "  CA           no",
        "  key          EC P-256",
        &format!("  SHA-256      {fingerprint}"),
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    let ca = shown(&folder, std::fs::read(&files.ca).unwrap());
    for line in [
        "  names        URI spiffe://adit\n",
        "  usages       keyCertSign, cRLSign\n",
        "  CA           yes, path length 0\n",
    ] {
        assert!(ca.contains(line), "{line:?} is missing in:\n{ca}");
    }
}

#[test]
fn the_age_is_counted_from_now() {
    let validity = Validity::between(datetime!(2026-01-10 0:00 UTC), datetime!(2026-02-10 0:00 UTC));
    assert_eq!(
        age(validity, datetime!(2026-01-09 12:00 UTC)),
        "valid in 12 hours"
    );
    assert_eq!(age(validity, datetime!(2026-01-31 0:00 UTC)), "10 days left");
    assert_eq!(
        age(validity, datetime!(2026-02-13 0:00 UTC)),
        "EXPIRED 3 days ago"
    );
    let folder = Folder::new();
    let files = folder.issue(&Subject::Agent("a".parse().unwrap()), hours(-72, -49));
    assert!(shown(&folder, std::fs::read(files.cert).unwrap()).contains("(EXPIRED 2 days ago)"));
}

#[test]
fn a_key_is_named_and_not_shown() {
    let folder = Folder::new();
    let files = folder.issue(&hub(), days(1));
    let key = std::fs::read_to_string(&files.key).unwrap();
    assert_eq!(shown(&folder, &key), "private key (EC P-256)");
    for (algorithm, kind) in [
        (&rcgen::PKCS_RSA_SHA256, "RSA 2048 bits"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC P-384"),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(
            shown(&folder, key.serialize_pem()),
            format!("private key ({kind})")
        );
        assert_eq!(
            shown(&folder, key.public_key_pem()),
            format!("public key ({kind})")
        );
    }
    let unknown = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(
        shown(&folder, unknown),
        "private key (of a kind that cannot be used)"
    );
}

#[test]
fn every_section_is_told_in_its_order() {
    let folder = Folder::new();
    let files = folder.issue(&hub(), days(1));
    let parts = [&files.cert, &files.key, &files.ca].map(|path| std::fs::read_to_string(path).unwrap());
    let text = shown(&folder, parts.concat());
    let headings: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(headings, ["certificate", "private key (EC P-256)", "certificate"]);
}

#[test]
fn a_revocation_list_is_told() {
    let folder = Folder::new();
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "list issuer");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let issuer = Issuer::new(params, KeyPair::generate().unwrap());
    let revoked = |serial: u64| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: now,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: now + Duration::days(7),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: (0x10..0x10 + 150).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let text = shown(&folder, list.signed_by(&issuer).unwrap().pem().unwrap());
    for line in [
        "revocation list\n",
        "list issuer",
        "  next due     20",
        "  revoked      150\n    10\n    11\n",
        "and 50 more",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
}

#[test]
fn text_cannot_steer_the_terminal() {
    let ca = AnyCa::new();
    let key = KeyPair::generate().unwrap();
    let mut params = agent_params();
    params
        .distinguished_name
        .push(DnType::CommonName, "a\u{1b}[31mred\r\nIssuer: me");
    let text = shown(&ca.folder, params.self_signed(&key).unwrap().pem());
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    assert!(text.lines().all(|line| !line.starts_with("Issuer")), "{text}");
}

#[test]
fn what_cannot_be_shown_is_named() {
    let folder = Folder::new();
    let fails = |text: &[u8]| {
        show(&folder.write("bad.pem", text), OffsetDateTime::now_utc())
            .unwrap_err()
            .to_string()
    };
    for (text, reason) in [
        (&b"hello"[..], "holds no certificate"),
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "not valid PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "damaged section",
        ),
        (
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            "damaged section",
        ),
        (&vec![b'x'; (1 << 20) + 1], "larger than"),
    ] {
        let error = fails(text);
        assert!(error.contains(reason) && error.contains("bad.pem"), "{error}");
    }
    let error = show(&folder.path().join("none.pem"), OffsetDateTime::now_utc()).unwrap_err();
    assert!(matches!(error, ShowError::Read { .. }), "{error}");
}
