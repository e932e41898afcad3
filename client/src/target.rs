//! Where a call goes: a server's URL and a method's name.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// A gRPC server: `http://HOST[:PORT]` or `https://HOST[:PORT]`. Without a port it is the scheme's
/// own, 80 or 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    origin: Uri,
    host: String,
    tls: bool,
}

impl Target {
    /// True for `https`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The DNS name or IP address, IPv6 without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Scheme and authority of each request to this server.
    pub fn origin(&self) -> &Uri {
        &self.origin
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.to_string();
        f.write_str(origin.trim_end_matches('/'))
    }
}

/// Why a text is not the URL of a gRPC server.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("{text:?} is not a URL ({source}); write http://HOST:PORT or https://HOST:PORT")]
    Malformed {
        /// The text given.
        text: String,
        /// What the parser says.
        source: http::uri::InvalidUri,
    },
    /// A port that is no number, or too large a one.
    #[error("the port in {text:?} is not a number from 1 to 65535")]
    Port {
        /// The text given.
        text: String,
    },
    /// A URL of something that gRPC is not spoken to.
    #[error(
        "{text:?} does not start with http:// or https://; write http://HOST:PORT for a server without TLS, https://HOST:PORT for one with it"
    )]
    Scheme {
        /// The text given.
        text: String,
    },
    /// More than scheme, host and port.
    #[error("{text:?} names more than a server: leave out {extra}; the method is an argument of its own")]
    Extra {
        /// The text given.
        text: String,
        /// The part that is too much.
        extra: &'static str,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let scheme_error = || TargetError::Scheme {
            text: text.to_owned(),
        };
        // `HOST:PORT` alone would be read as an authority or as a scheme with a path.
        if !text.contains("://") {
            return Err(scheme_error());
        }
        let uri: Uri = text.parse().map_err(|source| TargetError::Malformed {
            text: text.to_owned(),
            source,
        })?;
        let extra = |extra| TargetError::Extra {
            text: text.to_owned(),
            extra,
        };
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(scheme_error()),
        };
        let authority: &Authority = uri.authority().ok_or_else(scheme_error)?;
        if authority.as_str().contains('@') {
            return Err(extra("the user name and password"));
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(TargetError::Port {
                text: text.to_owned(),
            });
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(extra("everything after the port"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            origin: uri,
            host,
            tls,
        })
    }
}

/// A method by name: `package.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodName {
    /// The service's full name, with its package.
    pub service: String,
    /// The method's own name.
    pub method: String,
    path: PathAndQuery,
}

impl MethodName {
    /// The request's `:path`: `/package.Service/Method`.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}

/// A text is not the name of a method.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a method's name; write package.Service/Method, as in routeguide.RouteGuide/GetFeature")]
pub struct MethodNameError(String);

impl FromStr for MethodName {
    type Err = MethodNameError;

    fn from_str(text: &str) -> Result<Self, MethodNameError> {
        let error = || MethodNameError(text.to_owned());
        let (service, method) = text
            .strip_prefix('/')
            .unwrap_or(text)
            .split_once('/')
            .ok_or_else(error)?;
        let is_identifier = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !service.split('.').all(is_identifier) || !is_identifier(method) {
            return Err(error());
        }
        let path = format!("/{service}/{method}").parse().map_err(|_| error())?;
        Ok(Self {
            service: service.to_owned(),
            method: method.to_owned(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::{MethodName, Target, TargetError};

    #[test]
    fn a_target_is_scheme_host_and_port() {
        let target: Target = "http://[::1]:9090".parse().unwrap();
        assert_eq!((target.host(), target.is_tls()), ("::1", false));
        assert_eq!(target.to_string(), "http://[::1]:9090");
        let target: Target = "https://hub.example/".parse().unwrap();
        assert_eq!((target.host(), target.is_tls()), ("hub.example", true));
        assert_eq!(target.to_string(), "https://hub.example");
    }

    #[test]
    fn what_is_not_a_target_says_what_to_write() {
        for text in ["127.0.0.1:9090", "localhost", "", "grpc://h:1", "unix:/run/x"] {
            assert!(
                matches!(text.parse::<Target>(), Err(TargetError::Scheme { .. })),
                "{text}"
            );
        }
        for text in ["http://h:1/p.S/M", "http://h?x=1", "http://user:secret@h"] {
            assert!(
                matches!(text.parse::<Target>(), Err(TargetError::Extra { .. })),
                "{text}"
            );
        }
        assert!("http://".parse::<Target>().is_err());
        for text in ["http://h:", "http://h:0", "http://h:99999999", "http://[::1]:x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_method_has_a_service_and_a_name() {
        let name: MethodName = "/routeguide.RouteGuide/GetFeature".parse().unwrap();
        assert_eq!(
            (name.service.as_str(), name.method.as_str()),
            ("routeguide.RouteGuide", "GetFeature")
        );
        assert_eq!(name.path(), "/routeguide.RouteGuide/GetFeature");
        assert_eq!(
            "routeguide.RouteGuide/GetFeature".parse::<MethodName>().unwrap(),
            name
        );
        for text in [
            "", "/", "a.B", "a.B/", "/C", "a..B/C", "a.B/C/D", "a.B/C?d", "a.B/C d", "a.B/é",
        ] {
            assert!(text.parse::<MethodName>().is_err(), "{text}");
        }
    }
}
