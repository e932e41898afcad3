//! How a WebSocket begins (RFC 6455 §4): a request of HTTP/1.1, and the answer to it.

use http::{Request, StatusCode, header};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{accept_hdr_async_with_config, client_async_with_config};

use super::stream::{Messages, config};
use super::url::WebSocketUrl;
use crate::printable;
use crate::wire::Wire;

/// Characters of an answer that an error repeats.
const EXCERPT: usize = 80;

/// Why an agent got no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The answer is an ordinary response.
    #[error("the answer is {status}{said}, and no WebSocket: {advice}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What else it says, for messages.
        said: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// A WebSocket came about, and not for links.
    #[error(
        "the WebSocket is not one of a hub: it did not take the subprotocol {0:?}; check the path, and that what is between \
         passes Sec-WebSocket-Protocol on"
    )]
    Subprotocol(&'static str),
    /// The answer is not HTTP, or it ended.
    #[error("no answer of HTTP/1.1 came to the request for a WebSocket: {0}")]
    NotHttp(String),
}

/// Asks for a WebSocket at `url` on `wire`.
pub(crate) async fn request(
    wire: Box<dyn Wire>,
    url: &WebSocketUrl,
    subprotocol: &'static str,
) -> Result<Box<dyn Wire>, UpgradeError> {
    let request = Request::get(url.to_string())
        .header(header::HOST, url.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(
            header::SEC_WEBSOCKET_KEY,
            tokio_tungstenite::tungstenite::handshake::client::generate_key(),
        )
        .header(header::SEC_WEBSOCKET_PROTOCOL, subprotocol)
        .body(())
        .map_err(|error| UpgradeError::NotHttp(error.to_string()))?;
    let upgraded = client_async_with_config(request, wire, Some(config())).await;
    match upgraded {
        Ok((socket, response)) => {
            let taken = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
            if taken.is_none_or(|taken| taken != subprotocol) {
                return Err(UpgradeError::Subprotocol(subprotocol));
            }
            Ok(Box::new(Messages::new(socket)))
        }
        Err(Error::Http(response)) => Err(refused(response.status(), response.body().as_deref())),
        Err(Error::Protocol(error)) if error.to_string().contains("ubprotocol") => {
            Err(UpgradeError::Subprotocol(subprotocol))
        }
        Err(error) => Err(UpgradeError::NotHttp(printable(error.to_string().as_bytes()))),
    }
}

fn refused(status: StatusCode, body: Option<&[u8]>) -> UpgradeError {
    let text = printable(body.unwrap_or_default());
    let text: String = text.trim().chars().take(EXCERPT).collect();
    let said = if text.is_empty() {
        String::new()
    } else {
        format!(" ({text:?})")
    };
    let advice = match status.as_u16() {
        200..=299 => {
            "a web server or a captive portal answers in the hub's place; log in to the network, or check the address and the path"
        }
        300..=399 => "it sends elsewhere; use that address",
        401 | 403 | 407 => "something between does not let it pass; ask who runs the network or the proxy",
        404 | 405 => "check the path, which is /tunnel unless a proxy before the hub has another",
        426 => "what is between does not pass WebSockets on; have it pass Upgrade and Connection",
        502..=504 => {
            "what is between cannot reach the hub; check that the hub runs, with --websocket, where it looks"
        }
        _ => "check the address and the path, and the log of what answers there",
    };
    UpgradeError::Refused { status, said, advice }
}

/// Answers a request for a WebSocket on `wire`: with one, where `subprotocol` is offered and the path is `path`, if any.
pub(crate) async fn accept(
    wire: Box<dyn Wire>,
    subprotocol: &'static str,
    path: Option<&'static str>,
) -> Result<Box<dyn Wire>, String> {
    let mut reason = None;
    #[expect(clippy::result_large_err, reason = "the library's")]
    let answer = |request: &Request<()>, mut response: Response| -> Result<Response, ErrorResponse> {
        let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let offered = offered.iter().filter_map(|value| value.to_str().ok());
        let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
        let refusal = if path.is_some_and(|path| path != request.uri().path()) {
            (
                StatusCode::NOT_FOUND,
                "the hub's WebSocket is at /tunnel\n".to_owned(),
            )
        } else if !offered.any(|offered| offered == subprotocol) {
            (
                StatusCode::BAD_REQUEST,
                format!("the subprotocol {subprotocol} has to be offered\n"),
            )
        } else {
            response.headers_mut().insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(subprotocol),
            );
            return Ok(response);
        };
        let (status, said) = refusal;
        reason = Some(said.trim_end().to_owned());
        let mut refusal = ErrorResponse::new(Some(said));
        *refusal.status_mut() = status;
        Err(refusal)
    };
    match accept_hdr_async_with_config(wire, answer, Some(config())).await {
        Ok(socket) => Ok(Box::new(Messages::new(socket))),
        Err(error) => Err(reason.unwrap_or_else(|| printable(error.to_string().as_bytes()))),
    }
}
