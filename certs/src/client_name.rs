//! The name of a client.

use crate::checked_name::checked_name;
use crate::spiffe::is_segment;

/// Longest client name, in bytes: `client-NAME.pem` and the suffix of a temporary file fit in the
/// 255 bytes of a file name.
pub(crate) const MAX_NAME: usize = 200;

checked_name! {
    /// The name of a client: one segment of a SPIFFE path (SPIFFE-ID §2.2), at most 200 bytes.
    pub struct ClientName;
    /// A text is no client name.
    pub struct InvalidClientName: "{value:?} is no client name: it must be 1 to 200 of the characters a-z, A-Z, 0-9, '.', '-' and '_', and neither \".\" nor \"..\"";
    is_client_name
}

fn is_client_name(text: &str) -> bool {
    text.len() <= MAX_NAME && is_segment(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn takes_a_path_segment_and_nothing_else() {
        let longest = "n".repeat(MAX_NAME);
        for good in ["billing", "Ops.EU_1", "...", longest.as_str()] {
            assert_eq!(good.parse::<ClientName>().unwrap().as_str(), good);
        }
        let too_long = "n".repeat(MAX_NAME + 1);
        for bad in ["", ".", "..", "a/b", "a b", "a%2fb", "é", too_long.as_str()] {
            let error = bad.parse::<ClientName>().unwrap_err();
            assert!(error.to_string().contains("is no client name"), "{error}");
        }
    }
}
