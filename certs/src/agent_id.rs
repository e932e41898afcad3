//! The id of an agent.

use crate::checked_name::checked_name;

/// Longest label of a DNS name (RFC 1035 §2.3.4), in bytes.
const MAX_LABEL: usize = 63;

checked_name! {
    /// The id of an agent: a DNS label in lower case, `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, so that
    /// `<id>.<domain>` is a host name.
    pub struct AgentId;
    /// A text is no agent id.
    pub struct InvalidAgentId: "{value:?} is no agent id: it must be a DNS label, 1 to 63 of the characters a-z, 0-9 and '-', with no '-' at either end";
    is_label
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_label_and_says_the_rule() {
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "-a",
            "a-",
            "-",
            "Site",
            "a.b",
            "a_b",
            "ä",
            "a b",
            "a/b",
            "a\0",
            too_long.as_str(),
        ] {
            let error = bad.parse::<AgentId>().unwrap_err();
            assert!(error.to_string().contains("DNS label"), "{error}");
            assert!(error.to_string().starts_with(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_map_is_asked_with_a_plain_string() {
        let agents = HashMap::from([("site-7".parse::<AgentId>().unwrap(), 1)]);
        assert_eq!(agents.get("site-7"), Some(&1));
    }

    proptest! {
        #[test]
        fn every_label_is_kept_as_it_is(label in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let id: AgentId = label.parse().unwrap();
            prop_assert_eq!(id.as_str(), &label);
            prop_assert_eq!(id.to_string().parse::<AgentId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_judged_without_panic(text in any::<String>()) {
            if let Ok(id) = text.parse::<AgentId>() {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
