//! Metadata on its way through, whose order is its sender's.

use http::{HeaderMap, HeaderName};

/// Takes fields out, and leaves the order of everything else as it was: `HeaderMap::remove` moves the last entry into the gap.
#[must_use]
pub fn without(metadata: HeaderMap, unwanted: &[&HeaderName]) -> HeaderMap {
    if !unwanted.iter().any(|&name| metadata.contains_key(name)) {
        return metadata;
    }
    let mut kept = HeaderMap::with_capacity(metadata.len());
    let mut last: Option<HeaderName> = None;
    for (name, value) in metadata {
        // The iterator names a key with its first value only.
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| !unwanted.contains(name)) {
            kept.append(name, value);
        }
    }
    kept
}
