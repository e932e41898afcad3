//! Where an upstream is, and which services are called there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;

/// The port of an `https://` address that names none.
const HTTPS_PORT: u16 = 443;

/// What gRPC clients send as `:authority` to a socket that has no host (gRPC naming, `unix:`).
const UNIX_AUTHORITY: &str = "localhost";

/// One `--upstream`: `[PREFIX=]http://HOST:PORT`, `[PREFIX=]https://HOST[:PORT]` or `[PREFIX=]unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddr {
    /// The services that are called there; without it, those that no other upstream has.
    pub prefix: Option<ServicePrefix>,
    /// Where it listens.
    pub target: Target,
}

/// The start of a gRPC service's full name, cut at a dot: `routeguide` stands for `routeguide.RouteGuide` and every
/// other service of that package and those in it, and not for `routeguide2.RouteGuide`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePrefix(String);

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// HTTP/2 without TLS.
    Http(HostPort),
    /// HTTP/2 in TLS.
    Https(HostPort),
    /// HTTP/2 without TLS on a Unix socket.
    Unix(PathBuf),
}

/// A host, which is a DNS name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    authority: Authority,
    port: u16,
}

/// A text is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} is no upstream: {rule}; it must be [PREFIX=]http://HOST:PORT, [PREFIX=]https://HOST[:PORT] or [PREFIX=]unix:/PATH, where PREFIX is a gRPC service or package, such as http://127.0.0.1:50051 or routeguide=unix:/run/routeguide.sock"
)]
pub struct InvalidUpstream {
    value: String,
    rule: &'static str,
}

impl UpstreamAddr {
    fn parse(value: &str) -> Result<Self, &'static str> {
        if let Ok(target) = Target::parse(value) {
            return Ok(Self { prefix: None, target });
        }
        match value.split_once('=') {
            Some((prefix, target)) if !has_scheme(prefix) => Ok(Self {
                prefix: Some(ServicePrefix::parse(prefix)?),
                target: Target::parse(target)?,
            }),
            _ => Target::parse(value).map(|target| Self { prefix: None, target }),
        }
    }
}

impl FromStr for UpstreamAddr {
    type Err = InvalidUpstream;

    fn from_str(value: &str) -> Result<Self, InvalidUpstream> {
        Self::parse(value).map_err(|rule| InvalidUpstream {
            value: value.to_owned(),
            rule,
        })
    }
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{prefix}={}", self.target),
            None => self.target.fmt(f),
        }
    }
}

impl ServicePrefix {
    /// Whether calls of `service`, a full name without slashes, are meant.
    pub fn matches(&self, service: &str) -> bool {
        service
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The name, without a dot at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !name.split('.').all(is_word) {
            return Err(
                "what stands before '=' is neither a gRPC service nor a package, which is words of letters, digits and '_' with dots between them",
            );
        }
        Ok(Self(name.to_owned()))
    }
}

impl FromStr for ServicePrefix {
    type Err = InvalidUpstream;

    fn from_str(value: &str) -> Result<Self, InvalidUpstream> {
        Self::parse(value).map_err(|rule| InvalidUpstream {
            value: value.to_owned(),
            rule,
        })
    }
}

impl fmt::Display for ServicePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Target {
    fn parse(value: &str) -> Result<Self, &'static str> {
        if let Some(authority) = value.strip_prefix("http://") {
            HostPort::parse(authority, None).map(Self::Http)
        } else if let Some(authority) = value.strip_prefix("https://") {
            HostPort::parse(authority, Some(HTTPS_PORT)).map(Self::Https)
        } else if let Some(path) = value.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if Path::new(path).is_absolute() {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err("the path of a Unix socket must begin with '/'")
            }
        } else {
            Err("it begins with none of http://, https:// and unix:")
        }
    }

    /// Whether connections to it are TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Https(_))
    }

    /// `:scheme` of a request to it.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.is_tls() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }

    /// `:authority` of a request to it: what a client that dialled it would send.
    pub(crate) fn authority(&self) -> Authority {
        match self {
            Self::Http(host_port) | Self::Https(host_port) => host_port.authority.clone(),
            Self::Unix(_) => Authority::from_static(UNIX_AUTHORITY),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(host_port) => write!(f, "http://{host_port}"),
            Self::Https(host_port) => write!(f, "https://{host_port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl HostPort {
    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn parse(text: &str, default: Option<u16>) -> Result<Self, &'static str> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.contains(['/', '?', '#']) {
            return Err("an upstream has no path: every method has its own");
        }
        let authority: Authority = text.parse().map_err(|_| "what follows // is not HOST:PORT")?;
        if text.contains('@') {
            return Err("an upstream takes no user name");
        }
        let port = match (&text[authority.host().len()..], default) {
            ("", Some(default)) => default,
            ("" | ":", _) => return Err("the port is missing"),
            (port, _) => {
                let digits = port
                    .strip_prefix(':')
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                digits
                    .and_then(|digits| digits.parse().ok())
                    .ok_or("the port is no number up to 65535")?
            }
        };
        let host_port = Self { authority, port };
        // The same rule as TLS has for a name: an address, or what DNS can hold.
        ServerName::try_from(host_port.host())
            .map_err(|_| "the host is neither a DNS name nor an IP address")?;
        Ok(host_port)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

fn has_scheme(text: &str) -> bool {
    text.starts_with("unix:") || text.contains("://")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_every_form_of_address() {
        for (text, prefix, shown, authority) in [
            (
                "http://127.0.0.1:50051",
                None,
                "http://127.0.0.1:50051",
                "127.0.0.1:50051",
            ),
            ("http://[::1]:50051/", None, "http://[::1]:50051", "[::1]:50051"),
            (
                "https://orders.example",
                None,
                "https://orders.example",
                "orders.example",
            ),
            (
                "https://orders.example:8443",
                None,
                "https://orders.example:8443",
                "orders.example:8443",
            ),
            ("unix:/run/a=b.sock", None, "unix:/run/a=b.sock", "localhost"),
            ("unix:///run/a.sock", None, "unix:/run/a.sock", "localhost"),
            (
                "routeguide=http://my_service:1",
                Some("routeguide"),
                "http://my_service:1",
                "my_service:1",
            ),
            ("a.b.C=unix:/x", Some("a.b.C"), "unix:/x", "localhost"),
            ("a.b.=unix:/x=y", Some("a.b"), "unix:/x=y", "localhost"),
        ] {
            let address: UpstreamAddr = text.parse().unwrap();
            assert_eq!(
                address.prefix.as_ref().map(ServicePrefix::as_str),
                prefix,
                "{text}"
            );
            assert_eq!(address.target.to_string(), shown);
            assert_eq!(address.target.authority(), authority);
            assert_eq!(address.to_string().parse::<UpstreamAddr>().unwrap(), address);
        }
        let Target::Https(https) = "https://[::1]".parse::<UpstreamAddr>().unwrap().target else {
            panic!("https")
        };
        assert_eq!((https.host(), https.port()), ("::1", 443));
    }

    #[test]
    fn a_refusal_names_the_value_and_the_rule() {
        for (text, rule) in [
            ("127.0.0.1:50051", "begins with none of"),
            ("ftp://host:1", "begins with none of"),
            ("http://host", "port is missing"),
            ("http://host:", "port"),
            ("https://host:", "port"),
            ("http://host:65536", "65535"),
            ("http://:80", "HOST"),
            ("http://", "HOST"),
            ("http://host:80/v1", "no path"),
            ("http://me@host:80", "no user name"),
            ("http://ho st:80", "HOST"),
            ("unix:run/a.sock", "begin with '/'"),
            ("=http://host:80", "neither a gRPC service"),
            ("a..b=http://host:80", "neither a gRPC service"),
            ("/a.B=http://host:80", "neither a gRPC service"),
            ("a.B=host:80", "begins with none of"),
            ("", "begins with none of"),
        ] {
            let message = text.parse::<UpstreamAddr>().unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")), "{message}");
            assert!(
                message.contains(rule) || (rule == "HOST" && message.contains("host")),
                "{text}: {message}"
            );
        }
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        let prefix: ServicePrefix = "routeguide.".parse().unwrap();
        assert!(prefix.matches("routeguide.RouteGuide"));
        assert!(prefix.matches("routeguide.v2.RouteGuide"));
        assert!(prefix.matches("routeguide"));
        assert!(!prefix.matches("routeguide2.RouteGuide"));
        assert!(!prefix.matches("route"));
        assert!(!prefix.matches(""));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in "([a-z.]{0,5}=)?(http://|https://|unix:)?[ -~é]{0,20}") {
            if let Ok(address) = text.parse::<UpstreamAddr>() {
                prop_assert_eq!(address.to_string().parse::<UpstreamAddr>().unwrap(), address);
            }
        }
    }
}
