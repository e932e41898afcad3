//! What all the checked strings share.

/// Declares a string type that only holds values that passed `$rule`, and the error that names a
/// value that did not.
///
/// An `Arc<str>` inside makes a clone as cheap as a counter. `Borrow<str>` lets a map keyed by the
/// type be asked with a `&str`.
macro_rules! checked_name {
    (
        $(#[$doc:meta])* pub struct $name:ident;
        $(#[$error_doc:meta])* pub struct $error:ident: $message:literal;
        $rule:path
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                if $rule(text) {
                    Ok(Self(text.into()))
                } else {
                    Err($error { value: crate::checked_name::excerpt(text) })
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        $(#[$error_doc])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error {
            /// The refused text, shortened when it is long.
            pub value: String,
        }
    };
}
pub(crate) use checked_name;

/// Characters of a refused value that an error repeats: the value may come from a peer and be of
/// any length.
const EXCERPT_CHARS: usize = 100;

/// `text`, or its beginning when it is longer than [`EXCERPT_CHARS`].
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened_at_a_character_boundary() {
        assert_eq!(excerpt("short"), "short");
        let long = "ü".repeat(EXCERPT_CHARS + 1);
        assert_eq!(excerpt(&long), format!("{}…", "ü".repeat(EXCERPT_CHARS)));
    }
}
