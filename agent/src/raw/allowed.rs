//! Targets that an agent's configuration allows.

use std::fmt;
use std::str::FromStr;

use adit_proto::raw::{Host, Target};

/// One `--tcp`: `HOST:PORT`, or `HOST:*` for every port of a host.
///
/// A client has to write the host in the same way: a name allows no address, and an address no name, because what a name stands
/// for is not the agent's to know for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    host: Host,
    /// `None` is any.
    port: Option<u16>,
}

/// A text that is no [`AllowedTarget`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} cannot be allowed: {rule}; write HOST:PORT, such as db.internal:5432 or [2001:db8::1]:22, or HOST:* for every port of that host"
)]
pub struct InvalidAllowedTarget {
    value: String,
    rule: String,
}

impl AllowedTarget {
    /// Whether connections may be made there.
    pub fn has(&self, target: &Target) -> bool {
        self.host == target.host && self.port.is_none_or(|port| port == target.port)
    }
}

impl FromStr for AllowedTarget {
    type Err = InvalidAllowedTarget;

    fn from_str(text: &str) -> Result<Self, InvalidAllowedTarget> {
        if let Ok(Target { host, port }) = text.parse() {
            let port = Some(port);
            return Ok(Self { host, port });
        }
        let rule = match Host::split(text) {
            Ok((host, "*")) => return Ok(Self { host, port: None }),
            Ok(_) => "its port is not a number from 1 to 65535",
            Err(rule) => rule,
        };
        Err(InvalidAllowedTarget {
            value: text.chars().take(300).collect(),
            rule: rule.to_owned(),
        })
    }
}

impl fmt::Display for AllowedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}:*", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn only_what_is_written_alike_is_allowed() {
        let table = [
            (
                "db:5432",
                &["db:5432", "DB.:5432"][..],
                &["db:5433", "db.internal:5432", "xdb:5432"][..],
            ),
            ("db:*", &["db:1", "db:65535"], &["db2:1", "a.db:1"]),
            (
                "127.0.0.1:22",
                &["127.0.0.1:22", "[::ffff:127.0.0.1]:22"],
                &["localhost:22", "127.0.0.2:22", "[::1]:22"],
            ),
            ("[2001:db8::1]:22", &["[2001:DB8:0::1]:22"], &["[2001:db8::2]:22"]),
            ("localhost:22", &["localhost:22"], &["127.0.0.1:22"]),
        ];
        for (allowed, good, bad) in table {
            let allowed: AllowedTarget = allowed.parse().unwrap();
            for target in good {
                assert!(allowed.has(&target.parse().unwrap()), "{allowed} {target}");
            }
            for target in bad {
                assert!(!allowed.has(&target.parse().unwrap()), "{allowed} {target}");
            }
            assert_eq!(allowed.to_string().parse(), Ok(allowed));
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_to_write() {
        for (text, rule) in [
            ("*", "no port"),
            ("*:*", "neither a DNS name"),
            ("*:22", "neither a DNS name"),
            ("10.0.0.0/8:22", "neither a DNS name"),
            ("db:0", "not a number from 1"),
            ("db:1-9", "not a number from 1"),
            ("db", "no port"),
            ("::1:22", "brackets"),
        ] {
            let error = text.parse::<AllowedTarget>().unwrap_err().to_string();
            assert!(error.contains(rule) && error.contains("HOST:*"), "{error}");
        }
    }
}
