//! The trust domain of a hub and its agents and clients.

use crate::checked_name::checked_name;

/// Longest trust domain name (SPIFFE-ID §2.1 by way of §2.3: the authority component of a URI), in
/// bytes.
const MAX_TRUST_DOMAIN: usize = 255;

checked_name! {
    /// A SPIFFE trust domain name (SPIFFE-ID §2.1): 1 to 255 of the characters a-z, 0-9, '.', '-'
    /// and '_'.
    ///
    /// It need not be a registered domain name; it sets apart the identities of one CA from those
    /// of every other.
    pub struct TrustDomain;
    /// A text is no trust domain name.
    pub struct InvalidTrustDomain: "{value:?} is no trust domain: it must be 1 to 255 of the characters a-z, 0-9, '.', '-' and '_', without scheme, port or path";
    is_trust_domain
}

fn is_trust_domain(text: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_other_characters_and_lengths() {
        let too_long = "a".repeat(256);
        for bad in [
            "",
            "Adit",
            "adit:443",
            "adit/",
            "user@adit",
            "a%20b",
            "ädit",
            too_long.as_str(),
        ] {
            let error = bad.parse::<TrustDomain>().unwrap_err();
            assert!(error.to_string().contains("is no trust domain"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(text in "[a-z0-9._-]{1,255}") {
            prop_assert_eq!(text.parse::<TrustDomain>().unwrap().to_string(), text);
        }
    }
}
