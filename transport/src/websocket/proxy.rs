//! HTTP CONNECT (RFC 9110 §9.3.6) through the proxy that the environment names.

use std::fmt;
use std::sync::Arc;

use http::{StatusCode, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::url::WebSocketUrl;

/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 16 << 10;

/// Why a proxy opened no way.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Only HTTP proxies that are reached in cleartext are known.
    #[error(
        "the environment names the proxy {0:?}, and only http:// proxies can be used: change HTTPS_PROXY, or list the hub in NO_PROXY"
    )]
    Scheme(String),
    /// It refuses.
    #[error("the proxy {proxy} refuses CONNECT to {target} with {status}: {advice}")]
    Refused {
        /// The proxy.
        proxy: String,
        /// Where it should have connected to.
        target: String,
        /// What it answers.
        status: StatusCode,
        /// What to do about it.
        advice: &'static str,
    },
    /// Its answer is none.
    #[error(
        "the proxy {proxy} does not answer CONNECT to {target} as HTTP does ({reason}): check that it is an HTTP proxy"
    )]
    NotHttp {
        /// The proxy.
        proxy: String,
        /// Where it should have connected to.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Which hosts are reached through which proxy.
#[derive(Clone)]
pub(crate) struct Proxies(Arc<Matcher>);

/// The proxy for one host.
pub(crate) struct Proxy {
    intercept: Intercept,
    target: String,
}

impl Proxies {
    /// HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as many programs understand them.
    pub(crate) fn from_env() -> Self {
        Self(Arc::new(Matcher::from_env()))
    }

    /// No proxy, whatever the environment of a test names.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Arc::new(Matcher::builder().build()))
    }

    #[cfg(test)]
    pub(crate) fn all(proxy: &str) -> Self {
        Self(Arc::new(Matcher::builder().all(proxy.to_owned()).build()))
    }

    /// The proxy for `url`, if there is one.
    pub(crate) fn find(&self, url: &WebSocketUrl) -> Option<Proxy> {
        let scheme = if url.is_secure() { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{}/", url.authority()).parse().ok()?;
        let intercept = self.0.intercept(&uri)?;
        Some(Proxy {
            intercept,
            target: url.authority(),
        })
    }
}

impl Proxy {
    /// Its host and port.
    pub(crate) fn address(&self) -> Result<(String, u16), ProxyError> {
        let uri = self.intercept.uri();
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        // Without its user information, which may hold a password.
        let host = host.ok_or_else(|| ProxyError::Scheme(self.to_string()))?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Ok((host.to_owned(), uri.port_u16().unwrap_or(80)))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.intercept.uri();
        write!(
            f,
            "{}://{}",
            uri.scheme_str().unwrap_or(""),
            uri.host().unwrap_or("")
        )?;
        uri.port_u16().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Has `proxy`, to which `stream` is connected, connect it on.
pub(crate) async fn tunnel(stream: &mut TcpStream, proxy: &Proxy) -> Result<(), ProxyError> {
    let target = &proxy.target;
    let broken = |reason: String| ProxyError::NotHttp {
        proxy: proxy.to_string(),
        target: target.clone(),
        reason,
    };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credentials) = proxy.intercept.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream
        .write_all(&request)
        .await
        .map_err(|error| broken(error.to_string()))?;

    let mut head = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() >= MAX_HEAD {
            return Err(broken(format!(
                "its answer's head is longer than {MAX_HEAD} bytes"
            )));
        }
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err(broken("it closed the connection".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(broken(error.to_string())),
        }
    };
    let status = status(&head).ok_or_else(|| broken("its first line is no status line".to_owned()))?;
    if !status.is_success() {
        return Err(ProxyError::Refused {
            proxy: proxy.to_string(),
            target: target.clone(),
            status,
            advice: match status.as_u16() {
                407 => "give it a user and a password, as in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
                403 | 405 => "ask who runs it to allow this host and port, or use port 443",
                502..=504 => "it cannot reach the hub; check the hub's name and port",
                _ => "see its log",
            },
        });
    }
    // TLS and HTTP begin on this side: nobody may have said anything yet.
    match head.len() == end {
        true => Ok(()),
        false => Err(broken("something follows the head of its answer".to_owned())),
    }
}

/// The status in `HTTP/1.1 200 Connection established`.
fn status(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let code = rest.get(2..5).filter(|_| rest.get(1) == Some(&b' '))?;
    StatusCode::from_bytes(code).ok()
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}
