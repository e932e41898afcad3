//! Where a WebSocket goes to.

use std::fmt;
use std::str::FromStr;

use super::PATH;

/// The address of a hub's WebSocket behind something that terminates TLS: `wss://HOST[:PORT][/PATH]`, or `ws://` where nothing
/// does. In either case the link's own TLS runs inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUrl {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that is no [`WebSocketUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a WebSocket: write wss://HOST/PATH, such as wss://hub.example.com/tunnel")]
pub struct InvalidWebSocketUrl(String);

impl WebSocketUrl {
    /// Whether a text means to be one.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("wss://") || text.starts_with("ws://")
    }

    /// The name that TLS asks for: of the outer one, and of the hub inside.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether there is an outer TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The port of a hub itself.
    pub(crate) fn of_hub(host: &str, port: u16) -> Self {
        Self {
            secure: true,
            host: host.to_owned(),
            port,
            path: PATH.to_owned(),
        }
    }

    /// Host and port as HTTP writes them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for WebSocketUrl {
    type Err = InvalidWebSocketUrl;

    fn from_str(text: &str) -> Result<Self, InvalidWebSocketUrl> {
        let invalid = || InvalidWebSocketUrl(text.to_owned());
        if !Self::is_meant(text) {
            return Err(invalid());
        }
        let uri: http::Uri = text.parse().map_err(|_| invalid())?;
        let secure = uri.scheme_str() == Some("wss");
        let authority = uri.authority().ok_or_else(invalid)?;
        if authority.as_str().contains('@') {
            return Err(invalid());
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        // What a certificate can be for; this is also what TLS is going to ask.
        rustls::pki_types::ServerName::try_from(host).map_err(|_| invalid())?;
        let port = match authority.port_u16() {
            Some(0) => return Err(invalid()),
            Some(port) => port,
            // There is one, and it is none.
            None if authority.as_str() != authority.host() => return Err(invalid()),
            None if secure => 443,
            None => 80,
        };
        let path = match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
            None | Some("/") => PATH,
            Some(path) => path,
        };
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn urls_have_a_port_and_a_path() {
        for (text, shown) in [
            ("wss://hub.example.com", "wss://hub.example.com:443/tunnel"),
            ("wss://hub.example.com/", "wss://hub.example.com:443/tunnel"),
            (
                "wss://hub.example.com:8443/a/b?c=d",
                "wss://hub.example.com:8443/a/b?c=d",
            ),
            ("ws://127.0.0.1/x", "ws://127.0.0.1:80/x"),
            ("ws://[::1]:9000/x", "ws://[::1]:9000/x"),
        ] {
            assert_eq!(text.parse::<WebSocketUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "hub:4433",
            "https://hub/tunnel",
            "wss://",
            "wss:///tunnel",
            "wss://hub:0/tunnel",
            "wss://hub:70000/tunnel",
            "wss://user:secret@hub/tunnel",
            "wss://a b/tunnel",
        ] {
            let message = bad.parse::<WebSocketUrl>().unwrap_err().to_string();
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }
}
