#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

use super::*;
use crate::test_fixtures::uri;

fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
}

#[test]
fn one_uri_is_the_identity_and_hosts_do_not_matter() {
    for (text, expected) in [
        ("spiffe://adit/agent/site-7", "site-7"),
        ("spiffe://prod.example/client/Ops.1", "Ops.1"),
        ("spiffe://adit/hub", ""),
    ] {
        let names = vec![SanType::DnsName("hub.example".try_into().unwrap()), uri(text)];
        let identity = Identity::from_certificate(&certificate(names)).unwrap();
        assert_eq!(identity.to_string(), text);
        let name = identity
            .agent_id()
            .map(AgentId::as_str)
            .or(identity.client_name().map(ClientName::as_str));
        assert_eq!(name.unwrap_or_default(), expected);
    }
}

#[test]
fn no_uri_or_several_are_refused() {
    let none = certificate(vec![SanType::DnsName("agent.site-7".try_into().unwrap())]);
    assert_eq!(Identity::from_certificate(&none), Err(IdentityError::NoUri));
    assert_eq!(
        Identity::from_certificate(&certificate(vec![])),
        Err(IdentityError::NoUri)
    );
    let two = certificate(vec![uri("spiffe://adit/agent/a"), uri("https://example.com/")]);
    assert_eq!(
        Identity::from_certificate(&two),
        Err(IdentityError::SeveralUris { count: 2 })
    );
}

#[test]
fn a_uri_that_is_not_text_does_not_go_unseen() {
    // A sequence of a good URI and one with the byte 0xff.
    let good = b"spiffe://adit/agent/a";
    let mut names = vec![
        0x30,
        u8::try_from(good.len() + 2 + 3).unwrap(),
        0x86,
        u8::try_from(good.len()).unwrap(),
    ];
    names.extend_from_slice(good);
    names.extend_from_slice(&[0x86, 1, 0xff]);
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let error = Identity::from_certificate(der.der()).unwrap_err();
    assert!(error.to_string().contains("is not text"), "{error}");
}

#[test]
fn two_extensions_with_names_are_refused() {
    let name = |text: &[u8]| {
        let length = u8::try_from(text.len()).unwrap();
        [&[0x30, length + 2, 0x86, length], text].concat()
    };
    let mut params = CertificateParams::default();
    params.custom_extensions = [&b"spiffe://adit/agent/a"[..], b"spiffe://adit/agent/b"]
        .map(|text| CustomExtension::from_oid_content(&[2, 5, 29, 17], name(text)))
        .into();
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(matches!(
        Identity::from_certificate(der.der()),
        Err(IdentityError::NotX509(_))
    ));
}

#[test]
fn other_paths_and_malformed_names_are_refused() {
    for (text, reason) in [
        ("spiffe://adit", "names no agent, client or hub"),
        ("spiffe://adit/agent", "names no agent, client or hub"),
        ("spiffe://adit/hub/1", "names no agent, client or hub"),
        ("spiffe://adit/Agent/site-7", "names no agent, client or hub"),
        ("spiffe://adit/agent/site-7/x", "names no agent, client or hub"),
        ("spiffe://adit/agent/Site-7", "DNS label"),
        ("spiffe://adit/agent/a.b", "DNS label"),
        ("spiffe://adit/agent/%61", "percent-encoding"),
        ("https://adit/agent/site-7", "does not begin with"),
    ] {
        let error = Identity::from_certificate(&certificate(vec![uri(text)])).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let long = format!("spiffe://adit/client/{}", "n".repeat(201));
    assert!(matches!(
        long.parse::<Identity>(),
        Err(InvalidIdentity::Client(_))
    ));
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let good = certificate(vec![uri("spiffe://adit/hub")]);
    let mut longer = good.to_vec();
    longer.push(0);
    for bad in [
        &b""[..],
        b"\x30\x03\x02\x01\x01",
        &good[..good.len() - 1],
        &longer,
    ] {
        assert!(matches!(
            Identity::from_certificate(&bad.into()),
            Err(IdentityError::NotX509(_))
        ));
    }
}

proptest! {
    #[test]
    fn identities_round_trip(domain in "[a-z0-9._-]{1,30}", id in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name in "[a-zA-Z0-9_-]{1,200}") {
        let trust_domain: TrustDomain = domain.parse().unwrap();
        for identity in [
            Identity::Agent { trust_domain: trust_domain.clone(), id: id.parse().unwrap() },
            Identity::Client { trust_domain: trust_domain.clone(), name: name.parse().unwrap() },
            Identity::Hub { trust_domain },
        ] {
            prop_assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }
    }

    #[test]
    fn any_uri_is_judged_without_panic(uri in "(spiffe://)?[a-z/.%:@?#-]{0,40}\\PC{0,10}") {
        if let Ok(identity) = uri.parse::<Identity>() {
            prop_assert_eq!(identity.to_string(), uri);
        }
    }

    #[test]
    fn damaged_certificates_never_panic(position in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        use std::sync::LazyLock;
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| certificate(vec![uri("spiffe://adit/agent/site-7")]).to_vec());
        let mut der = GOOD.clone();
        let at = position.index(der.len());
        der[at] = byte;
        let _ = Identity::from_certificate(&der.into());
    }
}
