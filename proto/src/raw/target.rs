//! Where a raw TCP connection goes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The longest DNS name in text (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// A host and a port. Two are equal when they are written alike: a name is not looked up for that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The machine.
    pub host: Host,
    /// Its port, never 0.
    pub port: u16,
}

/// A machine, by its name or its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name in lower case, without a dot at its end.
    Name(String),
    /// An IP address. One of IPv4 that is written as one of IPv6 (`::ffff:192.0.2.1`) is the one of IPv4.
    Ip(IpAddr),
}

/// A text that is no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} is no target for TCP: {rule}; write HOST:PORT, such as db.internal:5432, 192.0.2.1:22 or [2001:db8::1]:22"
)]
pub struct InvalidTarget {
    value: String,
    rule: &'static str,
}

impl Host {
    /// Splits `HOST:PORT`, and reads the host. The rest is what stands for the port.
    ///
    /// # Errors
    ///
    /// The rule that the text breaks.
    pub fn split(text: &str) -> Result<(Self, &str), &'static str> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("it has no port");
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => match address.parse::<Ipv6Addr>() {
                Ok(address) => Self::Ip(IpAddr::V6(address).to_canonical()),
                Err(_) => return Err("what is in brackets is no IPv6 address"),
            },
            None if host.contains(':') => return Err("an IPv6 address has to be in brackets"),
            None => match host.parse::<IpAddr>() {
                Ok(address) => Self::Ip(address),
                Err(_) => Self::Name(name(host)?),
            },
        };
        Ok((host, port))
    }
}

fn name(host: &str) -> Result<String, &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err("its host is neither a DNS name nor an IP address");
    }
    // Some resolvers take such a thing for an address, as people meant it decades ago: 0x7f.1 is 127.0.0.1 there.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
        return Err("its host ends in a number, and is no IPv4 address");
    }
    Ok(name.to_ascii_lowercase())
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let parsed = Host::split(text).and_then(|(host, port)| {
            // `parse` takes a sign as well.
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            match port.parse() {
                Ok(port) if port > 0 && digits => Ok(Self { host, port }),
                _ => Err("its port is not a number from 1 to 65535"),
            }
        });
        parsed.map_err(|rule| InvalidTarget {
            value: text.chars().take(300).collect(),
            rule,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
