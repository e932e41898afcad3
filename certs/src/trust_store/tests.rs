#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use time::Duration;

use super::*;
use crate::test_fixtures::{AnyCa, Folder, uri};

fn pem(ca: &AnyCa) -> String {
    std::fs::read_to_string(ca.folder.path().join("ca.pem")).unwrap()
}

#[test]
fn a_bundle_is_trusted_whole_as_long_as_it_is_of_one_trust_domain() {
    let (one, two, other) = (Folder::of("adit"), Folder::of("adit"), Folder::of("prod"));
    let plain = AnyCa::new();
    let bundle = [
        one.authority.certificate_pem(),
        two.authority.certificate_pem(),
        &pem(&plain),
    ]
    .concat();
    let path = one.write("bundle.pem", bundle);
    let store = TrustStore::load(&path).unwrap();
    assert_eq!(store.roots().len(), 3);
    assert_eq!(store.trust_domain().unwrap().as_str(), "adit");

    let path = one.write(
        "bundle.pem",
        [one.authority.certificate_pem(), other.authority.certificate_pem()].concat(),
    );
    let error = TrustStore::load(&path).unwrap_err();
    assert!(error.to_string().contains("adit and prod"), "{error}");
}

#[test]
fn a_ca_without_a_spiffe_id_has_no_trust_domain() {
    let ca = AnyCa::with(|params| params.subject_alt_names = vec![uri("https://pki.example")]);
    assert_eq!(
        TrustStore::load(&ca.folder.path().join("ca.pem"))
            .unwrap()
            .trust_domain(),
        None
    );
}

#[test]
fn malformed_trust_domains_are_named() {
    for (id, reason) in [
        ("spiffe://Adit", "malformed trust domain"),
        ("spiffe://adit/x", "has no path"),
    ] {
        let ca = AnyCa::with(|params| params.subject_alt_names = vec![uri(id)]);
        let error = TrustStore::load(&ca.folder.path().join("ca.pem")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_ca_that_is_out_of_date_is_not_trusted() {
    let now = OffsetDateTime::now_utc();
    let over = AnyCa::with(|params| params.not_after = now - Duration::days(3));
    let path = over.folder.path().join("ca.pem");
    let error = TrustStore::load(&path).unwrap_err();
    assert!(matches!(error, LoadError::Expired { .. }), "{error}");
    assert!(error.to_string().contains("3 days ago; make a new CA"), "{error}");
    // At the time when it was valid it is trusted.
    assert_eq!(
        TrustStore::load_at(&path, now - Duration::days(4))
            .unwrap()
            .roots()
            .len(),
        1
    );
    // Beside a valid one it is passed over.
    let path = over
        .folder
        .write("bundle.pem", [pem(&over), pem(&AnyCa::new())].concat());
    assert_eq!(TrustStore::load(&path).unwrap().roots().len(), 1);

    let early = AnyCa::with(|params| params.not_before = now + Duration::hours(2));
    let error = TrustStore::load(&early.folder.path().join("ca.pem")).unwrap_err();
    assert!(
        error.to_string().contains("check this machine's clock"),
        "{error}"
    );
}

#[test]
fn files_that_hold_no_ca_are_named_with_what_they_hold() {
    let folder = Folder::new();
    for (text, found) in [
        (
            std::fs::read(folder.path().join("ca.key")).unwrap(),
            "holds a private key",
        ),
        (Vec::new(), "holds nothing"),
        (b"hello".to_vec(), "holds no PEM"),
        (vec![0x30, 0x82, 1, 2], "holds DER"),
        (
            b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n".to_vec(),
            "not valid PEM",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n".to_vec(), "not valid PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            "cannot be parsed",
        ),
        (vec![b'x'; (1 << 20) + 1], "larger than 1048576 bytes"),
    ] {
        let path = folder.write("bad.pem", text);
        let error = TrustStore::load(&path).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("bad.pem"), "{error}");
    }
    let error = TrustStore::load(&folder.path().join("none.pem"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none.pem") && error.contains("copy the hub's ca.pem"),
        "{error}"
    );
    let error = TrustStore::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("check the path"), "{error}");
}
