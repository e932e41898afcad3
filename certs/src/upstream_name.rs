//! The name of an upstream's own certificate.

use crate::checked_name::checked_name;
use crate::client_name::MAX_NAME;
use crate::spiffe::is_segment;

checked_name! {
    /// What the files of an upstream's own certificate are called by (`server-NAME.pem`). It is in
    /// no SPIFFE id: such a certificate is known by its hosts alone. The same characters as in a
    /// [`ClientName`](crate::ClientName).
    pub struct UpstreamName;
    /// A text cannot name an upstream's certificate.
    pub struct InvalidUpstreamName: "{value:?} cannot name a server's certificate: it must be 1 to 200 of the characters a-z, A-Z, 0-9, '.', '-' and '_', and neither \".\" nor \"..\"";
    is_upstream_name
}

fn is_upstream_name(text: &str) -> bool {
    text.len() <= MAX_NAME && is_segment(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn cannot_leave_its_folder() {
        assert_eq!("orders.v2".parse::<UpstreamName>().unwrap().as_str(), "orders.v2");
        for bad in ["", "..", "../hub", "a\\b"] {
            assert!(bad.parse::<UpstreamName>().is_err(), "{bad}");
        }
    }
}
