//! The static table of QPACK (RFC 9204 Appendix A): 99 fields that need not be spelled out.

use http::{HeaderName, HeaderValue};

/// A pseudo-header field of HTTP/3 (RFC 9114 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pseudo {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:status`
    Status,
}

impl Pseudo {
    /// The pseudo-header field called `name`, its colon included, if RFC 9114 defines it.
    #[must_use]
    pub const fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            _ => return None,
        })
    }

    /// The field's name, its colon included.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Status => ":status",
        }
    }
}

/// The name of an entry of the table.
#[derive(Debug)]
pub enum Name {
    /// A pseudo-header field.
    Pseudo(Pseudo),
    /// Any other field.
    Field(HeaderName),
}

impl Name {
    /// The name, a pseudo-header field's with its colon.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pseudo(pseudo) => pseudo.as_str(),
            Self::Field(name) => name.as_str(),
        }
    }
}

/// An entry of the table.
#[derive(Debug)]
pub struct Entry {
    /// The field's name. Cloning one allocates nothing.
    pub name: Name,
    /// The field's value, often empty. Cloning one allocates nothing.
    pub value: HeaderValue,
    /// The same, as text.
    pub text: &'static str,
}

impl Entry {
    const fn new(name: &'static str, value: &'static str) -> Self {
        let name = match Pseudo::from_name(name.as_bytes()) {
            Some(pseudo) => Name::Pseudo(pseudo),
            None => Name::Field(HeaderName::from_static(name)),
        };
        Self {
            name,
            value: HeaderValue::from_static(value),
            text: value,
        }
    }
}

/// The entry at `index`, if there is one.
#[must_use]
pub fn get(index: u64) -> Option<&'static Entry> {
    ENTRIES.get(usize::try_from(index).ok()?)
}

/// The first index of the table with this name.
#[must_use]
pub fn find_name(name: &[u8]) -> Option<u8> {
    let mut slot = hash(name);
    loop {
        let index = BY_NAME[slot];
        if index == NONE {
            return None;
        }
        if NAMES[usize::from(index)].as_bytes() == name {
            return Some(index);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The index, among those with the name of `first`, that also has this value. `first` is what [`find_name`] returned.
#[must_use]
pub fn find_value(first: u8, value: &[u8]) -> Option<u8> {
    let mut index = first;
    loop {
        if ENTRIES[usize::from(index)].text.as_bytes() == value {
            return Some(index);
        }
        index = NEXT[usize::from(index)];
        if index == NONE {
            return None;
        }
    }
}

/// How many entries there are.
pub const LEN: usize = 99;

/// No index.
const NONE: u8 = u8::MAX;

/// The slots of [`BY_NAME`]: some five for each name, so that nearly every name that is not in it hits an empty one.
const SLOTS: usize = 256;

/// The first index of each name, in a hash table with linear probing.
static BY_NAME: [u8; SLOTS] = INDEX.by_name;

/// The next index with the same name.
static NEXT: [u8; LEN] = INDEX.next;

const INDEX: Index = Index::new();

struct Index {
    by_name: [u8; SLOTS],
    next: [u8; LEN],
}

impl Index {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "evaluated when compiled: an index below 99"
    )]
    const fn new() -> Self {
        let mut index = Self {
            by_name: [NONE; SLOTS],
            next: [NONE; LEN],
        };
        let mut last = [NONE; SLOTS];
        let mut entry = 0;
        while entry < LEN {
            let name = NAMES[entry].as_bytes();
            let mut slot = hash(name);
            while index.by_name[slot] != NONE && !equal(NAMES[index.by_name[slot] as usize].as_bytes(), name)
            {
                slot = (slot + 1) % SLOTS;
            }
            if index.by_name[slot] == NONE {
                index.by_name[slot] = entry as u8;
            } else {
                index.next[last[slot] as usize] = entry as u8;
            }
            last[slot] = entry as u8;
            entry += 1;
        }
        index
    }
}

/// Depends on the length and three bytes: enough to tell these names apart, and cheaper than reading all of a name.
const fn hash(name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let (first, middle, last) = (name[0] as usize, name[len / 2] as usize, name[len - 1] as usize);
    (len * 7 + first * 37 + middle * 5 + last * 11) % SLOTS
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

macro_rules! static_table {
    ($($name:literal $value:literal)*) => {
        static ENTRIES: [Entry; LEN] = [$(Entry::new($name, $value)),*];
        static NAMES: [&str; LEN] = [$($name),*];
    };
}

static_table! {
    ":authority" ""
    ":path" "/"
    "age" "0"
    "content-disposition" ""
    "content-length" "0"
    "cookie" ""
    "date" ""
    "etag" ""
    "if-modified-since" ""
    "if-none-match" ""
    "last-modified" ""
    "link" ""
    "location" ""
    "referer" ""
    "set-cookie" ""
    ":method" "CONNECT"
    ":method" "DELETE"
    ":method" "GET"
    ":method" "HEAD"
    ":method" "OPTIONS"
    ":method" "POST"
    ":method" "PUT"
    ":scheme" "http"
    ":scheme" "https"
    ":status" "103"
    ":status" "200"
    ":status" "304"
    ":status" "404"
    ":status" "503"
    "accept" "*/*"
    "accept" "application/dns-message"
    "accept-encoding" "gzip, deflate, br"
    "accept-ranges" "bytes"
    "access-control-allow-headers" "cache-control"
    "access-control-allow-headers" "content-type"
    "access-control-allow-origin" "*"
    "cache-control" "max-age=0"
    "cache-control" "max-age=2592000"
    "cache-control" "max-age=604800"
    "cache-control" "no-cache"
    "cache-control" "no-store"
    "cache-control" "public, max-age=31536000"
    "content-encoding" "br"
    "content-encoding" "gzip"
    "content-type" "application/dns-message"
    "content-type" "application/javascript"
    "content-type" "application/json"
    "content-type" "application/x-www-form-urlencoded"
    "content-type" "image/gif"
    "content-type" "image/jpeg"
    "content-type" "image/png"
    "content-type" "text/css"
    "content-type" "text/html; charset=utf-8"
    "content-type" "text/plain"
    "content-type" "text/plain;charset=utf-8"
    "range" "bytes=0-"
    "strict-transport-security" "max-age=31536000"
    "strict-transport-security" "max-age=31536000; includesubdomains"
    "strict-transport-security" "max-age=31536000; includesubdomains; preload"
    "vary" "accept-encoding"
    "vary" "origin"
    "x-content-type-options" "nosniff"
    "x-xss-protection" "1; mode=block"
    ":status" "100"
    ":status" "204"
    ":status" "206"
    ":status" "302"
    ":status" "400"
    ":status" "403"
    ":status" "421"
    ":status" "425"
    ":status" "500"
    "accept-language" ""
    "access-control-allow-credentials" "FALSE"
    "access-control-allow-credentials" "TRUE"
    "access-control-allow-headers" "*"
    "access-control-allow-methods" "get"
    "access-control-allow-methods" "get, post, options"
    "access-control-allow-methods" "options"
    "access-control-expose-headers" "content-length"
    "access-control-request-headers" "content-type"
    "access-control-request-method" "get"
    "access-control-request-method" "post"
    "alt-svc" "clear"
    "authorization" ""
    "content-security-policy" "script-src 'none'; object-src 'none'; base-uri 'none'"
    "early-data" "1"
    "expect-ct" ""
    "forwarded" ""
    "if-range" ""
    "origin" ""
    "purpose" "prefetch"
    "server" ""
    "timing-allow-origin" "*"
    "upgrade-insecure-requests" "1"
    "user-agent" ""
    "x-forwarded-for" ""
    "x-frame-options" "deny"
    "x-frame-options" "sameorigin"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn entries_are_where_the_rfc_has_them() {
        for (index, name, value) in [
            (0, ":authority", ""),
            (1, ":path", "/"),
            (15, ":method", "CONNECT"),
            (20, ":method", "POST"),
            (23, ":scheme", "https"),
            (24, ":status", "103"),
            (25, ":status", "200"),
            (44, "content-type", "application/dns-message"),
            (63, ":status", "100"),
            (71, ":status", "500"),
            (84, "authorization", ""),
            (95, "user-agent", ""),
            (98, "x-frame-options", "sameorigin"),
        ] {
            let entry = get(index).unwrap();
            assert_eq!((entry.name.as_str(), entry.text), (name, value), "{index}");
        }
        assert!(get(99).is_none());
        assert!(get(u64::MAX).is_none());
    }

    #[test]
    fn every_entry_is_found() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            assert_eq!(entry.value, entry.text);
            let first = find_name(entry.name.as_str().as_bytes()).unwrap();
            let same_name = ENTRIES
                .iter()
                .position(|other| other.name.as_str() == entry.name.as_str());
            assert_eq!(usize::from(first), same_name.unwrap());
            let found = find_value(first, entry.text.as_bytes()).unwrap();
            assert_eq!(usize::from(found), index);
            assert_eq!(find_value(first, b"no such value"), None);
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for name in [
            "",
            "x",
            "te",
            ":protocol",
            "grpc-status",
            "content-typf",
            "Content-Type",
        ] {
            assert_eq!(find_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Pseudo::from_name(b":protocol"), None);
    }
}
