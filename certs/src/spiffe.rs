//! The syntax of SPIFFE ids (SPIFFE-ID §2), strictly: an id that needs normalizing could be
//! compared wrongly somewhere.

use thiserror::Error;

use crate::checked_name::excerpt;
use crate::trust_domain::{InvalidTrustDomain, TrustDomain};

/// Longest SPIFFE id (SPIFFE-ID §2.3), in bytes.
const MAX_ID: usize = 2048;

/// What every SPIFFE id begins with.
pub(crate) const SCHEME: &str = "spiffe://";

/// A URI is no SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidSpiffeId {
    /// It is longer than SPIFFE-ID §2.3 allows.
    #[error("{uri:?} is no SPIFFE id: it has {length} bytes, more than {MAX_ID}")]
    TooLong {
        /// Its beginning.
        uri: String,
        /// Its length in bytes.
        length: usize,
    },
    /// It has another scheme.
    #[error("{uri:?} is no SPIFFE id: it does not begin with \"{SCHEME}\"")]
    Scheme {
        /// The URI, shortened when it is long.
        uri: String,
    },
    /// It has what other URIs may have and a SPIFFE id may not.
    #[error(
        "{uri:?} is no SPIFFE id: it contains {character:?}, but a SPIFFE id has no user, port, query, fragment or percent-encoding"
    )]
    Component {
        /// The URI, shortened when it is long.
        uri: String,
        /// The character that begins the component.
        character: char,
    },
    /// Its trust domain is malformed.
    #[error("{uri:?} is no SPIFFE id: {reason}")]
    TrustDomain {
        /// The URI, shortened when it is long.
        uri: String,
        /// What is wrong with it.
        reason: InvalidTrustDomain,
    },
    /// A segment of its path is malformed.
    #[error(
        "{uri:?} is no SPIFFE id: the path segment {segment:?} is empty, \".\", \"..\" or has a character other than a-z, A-Z, 0-9, '.', '-' and '_'"
    )]
    Segment {
        /// The URI, shortened when it is long.
        uri: String,
        /// The segment, shortened when it is long.
        segment: String,
    },
}

/// The trust domain of a SPIFFE id and the segments of its path, none for the id of a trust domain
/// itself.
pub(crate) fn parse(uri: &str) -> Result<(TrustDomain, Vec<&str>), InvalidSpiffeId> {
    if uri.len() > MAX_ID {
        return Err(InvalidSpiffeId::TooLong {
            uri: excerpt(uri),
            length: uri.len(),
        });
    }
    let rest = uri
        .strip_prefix(SCHEME)
        .ok_or_else(|| InvalidSpiffeId::Scheme { uri: excerpt(uri) })?;
    if let Some(character) = rest
        .chars()
        .find(|character| matches!(character, '@' | ':' | '?' | '#' | '%'))
    {
        return Err(InvalidSpiffeId::Component {
            uri: excerpt(uri),
            character,
        });
    }
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let trust_domain = authority.parse().map_err(|reason| InvalidSpiffeId::TrustDomain {
        uri: excerpt(uri),
        reason,
    })?;
    let segments: Vec<&str> = path.into_iter().flat_map(|path| path.split('/')).collect();
    match segments.iter().find(|segment| !is_segment(segment)) {
        Some(segment) => Err(InvalidSpiffeId::Segment {
            uri: excerpt(uri),
            segment: excerpt(segment),
        }),
        None => Ok((trust_domain, segments)),
    }
}

/// Whether `text` may stand between two slashes of a SPIFFE path (SPIFFE-ID §2.2).
pub(crate) fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_with_and_without_a_path() {
        let (domain, segments) = parse("spiffe://prod.example_1").unwrap();
        assert_eq!((domain.as_str(), segments.len()), ("prod.example_1", 0));
        let (domain, segments) = parse("spiffe://adit/agent/site-7").unwrap();
        assert_eq!((domain.as_str(), segments), ("adit", vec!["agent", "site-7"]));
    }

    #[test]
    fn each_malformation_is_named() {
        let too_long = format!("spiffe://adit/{}", "a".repeat(MAX_ID));
        for (uri, reason) in [
            (too_long.as_str(), "more than 2048"),
            ("https://adit/agent/a", "does not begin with"),
            ("SPIFFE://adit/agent/a", "does not begin with"),
            ("spiffe:/adit", "does not begin with"),
            ("spiffe://user@adit/agent/a", "contains '@'"),
            ("spiffe://adit:443/agent/a", "contains ':'"),
            ("spiffe://adit/agent/a?x=1", "contains '?'"),
            ("spiffe://adit/agent/a#x", "contains '#'"),
            ("spiffe://adit/agent/%61", "contains '%'"),
            ("spiffe://", "is no trust domain"),
            ("spiffe:///agent/a", "is no trust domain"),
            ("spiffe://Adit/agent/a", "is no trust domain"),
            ("spiffe://adit/", "path segment \"\""),
            ("spiffe://adit/agent/a/", "path segment \"\""),
            ("spiffe://adit//agent/a", "path segment \"\""),
            ("spiffe://adit/agent/../hub", "path segment \"..\""),
            ("spiffe://adit/agent/a b", "path segment \"a b\""),
            ("spiffe://adit/agent/é", "path segment \"é\""),
            ("spiffe://adit/agent/a\0", "path segment \"a\\0\""),
        ] {
            let error = parse(uri).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn well_formed_ids_round_trip(domain in "[a-z0-9._-]{1,40}", path in proptest::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..5)) {
            let uri = std::iter::once(format!("{SCHEME}{domain}")).chain(path.iter().cloned()).collect::<Vec<_>>().join("/");
            let (parsed, segments) = parse(&uri).unwrap();
            prop_assert_eq!(parsed.as_str(), domain);
            prop_assert_eq!(segments, path);
        }

        #[test]
        fn any_text_is_judged_without_panic(rest in any::<String>()) {
            for uri in [rest.clone(), format!("{SCHEME}{rest}"), format!("{SCHEME}adit/{rest}")] {
                if let Ok((domain, segments)) = parse(&uri) {
                    let again = std::iter::once(format!("{SCHEME}{domain}")).chain(segments.into_iter().map(str::to_owned)).collect::<Vec<_>>().join("/");
                    prop_assert_eq!(again, uri);
                }
            }
        }
    }
}
