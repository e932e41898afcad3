//! What is sent beside the messages: metadata from `key: value` lines, and the keys that tell a hub
//! which agent to route to.

use std::fs::File;
use std::io::{self, Read as _};

use adit_certs::AgentId;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

/// Metadata that names the one agent a call is for.
const AGENT: &str = "adit-agent";
/// Metadata that names the labels of the agents a call may go to.
const SELECT: &str = "adit-select";

/// All metadata of a call: the entries given, in their order, and the route, if one is named.
pub fn metadata(headers: &[Header], route: Option<&Route>) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for header in headers {
        header.append_to(&mut metadata);
    }
    if let Some(route) = route {
        let (key, value) = route.entry();
        metadata.insert(key, value);
    }
    metadata
}

/// What tells a hub which agent a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The agent of this id.
    Agent(AgentId),
    /// Any agent that has these labels.
    Select(Selector),
}

impl Route {
    fn entry(&self) -> (&'static str, AsciiMetadataValue) {
        match self {
            #[expect(clippy::expect_used, reason = "an id is a DNS label, which is ASCII")]
            Self::Agent(id) => (AGENT, AsciiMetadataValue::try_from(id.as_str()).expect("ASCII")),
            Self::Select(Selector(labels)) => (SELECT, labels.clone()),
        }
    }
}

/// Labels, all of which an agent must have: `region=eu,tier=edge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(AsciiMetadataValue);

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It was made from a text.
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// A text is not a list of labels.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no list of labels; write KEY=VALUE, several with commas between them, as in region=eu,tier=edge"
)]
pub struct SelectorError(String);

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let is_label = |label: &str| label.split_once('=').is_some_and(|(key, _value)| !key.is_empty());
        match AsciiMetadataValue::try_from(text) {
            Ok(labels) if text.split(',').all(is_label) => Ok(Self(labels)),
            _ => Err(SelectorError(text.to_owned())),
        }
    }
}

/// gRPC allows base64 with and without padding in `-bin` values (PROTOCOL-HTTP2, Custom-Metadata).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One entry of metadata, from `key: value`. The value of a key that ends in `-bin` is base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// A text value.
    Ascii(AsciiMetadataKey, AsciiMetadataValue),
    /// A value of any bytes, under a key that ends in `-bin`.
    Binary(BinaryMetadataKey, BinaryMetadataValue),
}

/// Why a text is not an entry of metadata. The value is not repeated: it may be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeaderError {
    /// No colon.
    #[error("a header is written 'key: value', with a colon after the key")]
    NoColon,
    /// The key has characters that HTTP/2 has no room for.
    #[error("{0:?} is not a metadata key: it may have letters, digits, '-', '_' and '.'")]
    Key(String),
    /// The key belongs to the protocol.
    #[error("{0:?} is set by gRPC itself and cannot be given as metadata (a deadline is --timeout)")]
    Reserved(String),
    /// The value has control characters, or is not ASCII.
    #[error(
        "the value of {0:?} is not printable ASCII; other bytes go as base64 under a key that ends in -bin"
    )]
    Value(String),
    /// The value of a `-bin` key is not base64.
    #[error("the value of {key:?} is not base64, which a key that ends in -bin requires: {source}")]
    Base64 {
        /// The key.
        key: String,
        /// What is wrong with it.
        source: base64::DecodeError,
    },
}

impl std::str::FromStr for Header {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let (key, value) = text.split_once(':').ok_or(HeaderError::NoColon)?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if key.starts_with("grpc-") || matches!(key.as_str(), "te" | "content-type" | "host" | "connection") {
            return Err(HeaderError::Reserved(key));
        }
        if key.ends_with("-bin") {
            let name =
                BinaryMetadataKey::from_bytes(key.as_bytes()).map_err(|_| HeaderError::Key(key.clone()))?;
            let bytes = BASE64
                .decode(value)
                .map_err(|source| HeaderError::Base64 { key, source })?;
            return Ok(Self::Binary(name, BinaryMetadataValue::from_bytes(&bytes)));
        }
        let name = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|_| HeaderError::Key(key.clone()))?;
        let value = value.parse().map_err(|_| HeaderError::Value(key))?;
        Ok(Self::Ascii(name, value))
    }
}

/// The longest file of metadata, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What `-H` takes: an entry, or `@FILE` with an entry in each line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers(pub Vec<Header>);

/// Why there are no entries.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The entry given is none.
    #[error(transparent)]
    Entry(#[from] HeaderError),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// A line of the file is no entry.
    #[error("{path}, line {line}: {source}")]
    Line {
        /// The file.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: HeaderError,
    },
}

impl std::str::FromStr for Headers {
    type Err = HeadersError;

    fn from_str(text: &str) -> Result<Self, HeadersError> {
        let Some(path) = text.strip_prefix('@') else {
            return Ok(Self(vec![text.parse()?]));
        };
        let read = |source| HeadersError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(read)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(read)?;
        if text.len() as u64 > MAX_FILE {
            return Err(read(io::Error::other(format!(
                "it has more than {MAX_FILE} bytes"
            ))));
        }
        let lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()));
        lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, entry)| {
                entry.parse().map_err(|source| HeadersError::Line {
                    path: path.to_owned(),
                    line,
                    source,
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Header {
    /// Appends this entry; one with the same key stays, and keeps its place.
    fn append_to(&self, metadata: &mut MetadataMap) {
        match self {
            Self::Ascii(key, value) => {
                metadata.append(key.clone(), value.clone());
            }
            Self::Binary(key, value) => {
                metadata.append_bin(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::{Header, HeaderError, Headers, HeadersError, Route, Selector, metadata};

    #[test]
    fn entries_keep_their_order_and_their_bytes() {
        let headers = [
            "X-Team: blue : sky",
            "x-team:red",
            "trace-bin: AAH/",
            "trace-bin: AAE",
        ];
        let headers: Vec<Header> = headers.iter().map(|text| text.parse().unwrap()).collect();
        let metadata = metadata(&headers, None);
        let team: Vec<_> = metadata
            .get_all("x-team")
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect();
        assert_eq!(team, ["blue : sky", "red"]);
        let trace: Vec<_> = metadata
            .get_all_bin("trace-bin")
            .iter()
            .map(|v| v.to_bytes().unwrap())
            .collect();
        assert_eq!(trace, [&[0, 1, 255][..], &[0, 1][..]]);
    }

    #[test]
    fn a_route_is_one_entry() {
        let labels: Selector = "region=eu,tier=".parse().unwrap();
        let map = metadata(
            &["adit-select: x=y".parse().unwrap()],
            Some(&Route::Select(labels)),
        );
        assert_eq!(
            map.get_all("adit-select").iter().collect::<Vec<_>>(),
            ["region=eu,tier="]
        );
        let map = metadata(&[], Some(&Route::Agent("site-7".parse().unwrap())));
        assert_eq!(map.get("adit-agent").unwrap(), "site-7");
        for text in ["", "region", "=eu", "a=b,", "a=b\n"] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_metadata_is_refused() {
        assert_eq!("no colon".parse::<Header>(), Err(HeaderError::NoColon));
        assert!(matches!("b@d: x".parse::<Header>(), Err(HeaderError::Key(_))));
        assert!(matches!(": x".parse::<Header>(), Err(HeaderError::Key(_))));
        assert!(matches!(
            "Grpc-Timeout: 1S".parse::<Header>(),
            Err(HeaderError::Reserved(_))
        ));
        assert!(matches!(
            "x: b\u{7}ll".parse::<Header>(),
            Err(HeaderError::Value(_))
        ));
        assert!(matches!(
            "x-bin: ?".parse::<Header>(),
            Err(HeaderError::Base64 { .. })
        ));
    }

    #[test]
    fn a_file_has_an_entry_in_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata");
        let read = || format!("@{}", path.display()).parse::<Headers>();
        assert!(matches!(read(), Err(HeadersError::Read { .. })));
        std::fs::write(
            &path,
            "# for all calls\r\nauthorization: Bearer s3cret\r\n\n  x-bin: AAE\n",
        )
        .unwrap();
        let expected = ["authorization: Bearer s3cret", "x-bin: AAE"];
        assert_eq!(
            read().unwrap(),
            Headers(expected.map(|entry| entry.parse().unwrap()).into())
        );
        std::fs::write(&path, "a: b\ns3cret\n").unwrap();
        let said = read().unwrap_err().to_string();
        assert!(
            said.ends_with("metadata, line 2: a header is written 'key: value', with a colon after the key"),
            "{said}"
        );
        assert_eq!(
            "a: b".parse::<Headers>().unwrap(),
            Headers(vec!["a: b".parse().unwrap()])
        );
    }

    #[test]
    fn an_error_never_repeats_the_value() {
        let error = "authorization: Bearer s3cret\u{1}".parse::<Header>().unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
