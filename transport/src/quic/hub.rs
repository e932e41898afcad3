//! The hub's end of a `quic` link: the HTTP client.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::poll;
use http::{Response, request};
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::control::{self, Peer};
use super::readers::Readers;
use super::receive::{MessageReader, ReceiveError, ReceivedBody};
use super::send::{SendError, send_message};
use super::stream::{RecvHalf, SendHalf, Senders};
use super::{activity, certificates, close};
use crate::body::Body;
use crate::link::{CallError, Delivered, LinkError, Standing};
use crate::liveness::Activity;
use crate::rh3::code::Code;
use crate::rh3::{Role, head};
use crate::tuning::Tuning;

/// How long a call waits for a free stream. Streams come back with the agent's next packet, or not soon.
const OPEN_TIMEOUT: Duration = Duration::from_millis(250);

/// The hub's end of one link.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    certificates: Vec<CertificateDer<'static>>,
    peer: Arc<Peer>,
    readers: Arc<Readers>,
    senders: Arc<Senders>,
    max_header_section: u32,
    _control: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) fn new(connection: Connection, tuning: &Tuning) -> Self {
        let peer = Arc::new(Peer::new());
        let senders = Arc::new(Senders::default());
        let control = {
            let (connection, peer, senders) = (connection.clone(), Arc::clone(&peer), Arc::clone(&senders));
            let max_header_section = tuning.max_header_section;
            // A hub sends no GOAWAY: what it would say stops nothing.
            let (_, goaway) = mpsc::channel(1);
            async move {
                control::watch(
                    &connection,
                    &peer,
                    &senders,
                    Role::Client,
                    max_header_section,
                    goaway,
                )
                .await;
            }
        };
        Self(Arc::new(Inner {
            readers: Readers::new(connection.clone(), tuning),
            certificates: certificates(&connection),
            connection,
            peer,
            senders,
            max_header_section: tuning.max_header_section,
            _control: AbortOnDropHandle::new(tokio::spawn(control.in_current_span())),
        }))
    }

    pub(crate) async fn call(&self, parts: &request::Parts, body: Body) -> Result<Response<Body>, CallError> {
        let Inner { peer, .. } = &*self.0;
        if peer.is_draining() {
            return Err(CallError::Draining);
        }
        let mut head = BytesMut::with_capacity(512);
        let size = head::encode_request(parts, &mut head)
            .map_err(|error| CallError::Unsendable(error.to_string()))?;
        let limit = peer.max_header_section();
        if size > limit {
            return Err(CallError::RequestTooLarge { size, limit });
        }

        let (mut send, recv) = self.open().await?;
        let id = send.id();
        if parts.extensions.get::<Standing>().is_some() {
            send.raise_priority();
        }
        let mut sending = Box::pin(async move { send_message(&mut send, head, body).await });
        // One poll sends the whole of most requests. What is left goes on beside the response, so that neither
        // direction waits for the other, and ends with it.
        let sending = match poll!(&mut sending) {
            Poll::Ready(Ok(()) | Err(SendError::Stopped)) => None,
            Poll::Ready(Err(SendError::LinkLost(lost))) => {
                // Of a long message an earlier part may have left before.
                return Err(self.failed(ReceiveError::LinkLost(lost), id).await);
            }
            Poll::Ready(Err(SendError::Body(error))) => {
                return Err(CallError::Reset(error.code()));
            }
            Poll::Pending => Some(AbortOnDropHandle::new(tokio::spawn(sending.in_current_span()))),
        };

        let mut reader = MessageReader::new(
            Role::Client,
            self.0.readers.enter(recv),
            self.0.max_header_section,
        );
        match reader.response_head(&parts.method).await {
            Ok(response) => Ok(response.map(|()| Body::new(ReceivedBody::new(reader, sending)))),
            Err(error) => Err(self.failed(error, id).await),
        }
    }

    async fn open(&self) -> Result<(SendHalf, RecvHalf), CallError> {
        let mut opening = pin!(self.0.connection.open_bi());
        // A free stream is there at once as a rule: no timer then.
        let opened = match poll!(&mut opening) {
            Poll::Ready(opened) => opened,
            Poll::Pending => tokio::time::timeout(OPEN_TIMEOUT, opening)
                .await
                .map_err(|_| CallError::Busy)?,
        };
        let (send, recv) = opened.map_err(|lost| CallError::LinkLost {
            delivered: Delivered::No,
            reason: lost.into(),
        })?;
        Ok((
            SendHalf::new(send, &self.0.senders),
            RecvHalf::new(recv, Code::REQUEST_CANCELLED),
        ))
    }

    /// What it means for the call on the stream `id` that no response's head came.
    async fn failed(&self, error: ReceiveError, id: u64) -> CallError {
        if let ReceiveError::LinkLost(_) = error {
            // A GOAWAY may have come just before, and not been read yet.
            self.0.peer.last_words().await;
        }
        match error {
            ReceiveError::Reset(_) | ReceiveError::LinkLost(_) if self.0.peer.disowns(id) => {
                CallError::Draining
            }
            ReceiveError::Reset(Code::REQUEST_REJECTED) => CallError::Refused,
            ReceiveError::Reset(code) => CallError::Reset(code),
            ReceiveError::LinkLost(lost) => CallError::LinkLost {
                delivered: Delivered::Maybe,
                reason: lost.into(),
            },
            // A head is read by this end itself, which never stands still.
            ReceiveError::SlowReader => CallError::Reset(Code::INTERNAL_ERROR),
            ReceiveError::HeaderSectionTooLarge => CallError::ResponseTooLarge {
                limit: u64::from(self.0.max_header_section),
            },
            ReceiveError::Malformed(error) => CallError::Malformed(error.to_string()),
        }
    }

    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.0.connection.remote_address()
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.0.connection.rtt()
    }

    pub(crate) fn shortest_round_trip(&self) -> Duration {
        self.0.connection.min_rtt()
    }

    pub(crate) fn activity(&self) -> Activity {
        activity(&self.0.connection)
    }

    pub(crate) async fn draining(&self) {
        self.0.peer.draining().await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.peer.is_draining()
    }

    pub(crate) async fn closed(&self) -> LinkError {
        self.0.connection.closed().await.into()
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        close(&self.0.connection, code, reason.as_bytes());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        close(&self.connection, Code::NO_ERROR, b"the hub let the link go");
    }
}
