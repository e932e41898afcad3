//! The hub's end of a link over TCP: the HTTP client.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version, header, request};
use rustls::pki_types::CertificateDer;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::driver::{Connection, Driver, Shared};
use super::pipe::{Pipe, Tap};
use super::receive::{Failed, ReceivedBody};
use super::send::{SendError, Sending};
use super::{SEND_BUFFER, advertised_headers, carried, link_error, link_window, secret, section_size};
use crate::body::{Body, BodyError};
use crate::carrier::Carrier;
use crate::link::{CallError, Delivered, LinkError};
use crate::liveness::Activity;
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::head::EncodeError;
use crate::tuning::Tuning;
use crate::wire::Wire;

/// How long a call waits for a free place. Places come back with the agent's next packet, or not soon.
const OPEN_TIMEOUT: Duration = Duration::from_millis(250);

/// The hub's end of one link.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: SendRequest<Bytes>,
    calls: Arc<Calls>,
    max_calls: usize,
}

/// Counts the calls on a link.
#[derive(Debug)]
struct Calls {
    running: AtomicUsize,
    shared: Arc<Shared>,
}

/// A call's place on a link, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Calls>);

impl Link {
    /// Speaks HTTP/2 on `wire` until the agent's settings are in: whatever is no agent is found out before a call is made.
    pub(crate) async fn establish(
        carrier: Carrier,
        peer: SocketAddr,
        certificates: Vec<CertificateDer<'static>>,
        wire: Box<dyn Wire>,
        tuning: &Tuning,
    ) -> Result<Self, LinkError> {
        let pipe = Pipe::new(wire, Role::Client);
        let failed = |error: h2::Error| link_error(Err(error), &pipe);
        let (sender, mut connection): (SendRequest<Bytes>, _) = h2::client::Builder::new()
            .initial_window_size(tuning.stream_window)
            .initial_connection_window_size(link_window(tuning))
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(advertised_headers(tuning))
            .enable_push(false)
            // No call before the settings have come: they raise it.
            .initial_max_send_streams(0)
            // It counts for the life of a connection, and cancelling calls adds to it when the agent's frames cross the
            // reset.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(tuning.max_calls as usize)
            .handshake(Tap(Arc::clone(&pipe)))
            .await
            .map_err(failed)?;
        poll_fn(|cx| match pin!(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(link_error(ended, &pipe))),
            Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let shared = Shared::new(carrier, peer, certificates, pipe, tuning);
        let limit = connection.max_concurrent_send_streams();
        shared.max_calls.store(limit, Ordering::Relaxed);
        let ping_pong = connection.ping_pong();
        let driver = Driver::new(
            Connection::Hub(Box::new(connection)),
            ping_pong,
            Arc::clone(&shared),
            tuning,
        );
        // It ends with the link, within a second: whoever lets go of the link has it say goodbye.
        tokio::spawn(driver.run().in_current_span());
        Ok(Self(Arc::new(Inner {
            sender,
            calls: Arc::new(Calls {
                running: AtomicUsize::new(0),
                shared,
            }),
            max_calls: tuning.max_calls as usize,
        })))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.calls.shared
    }

    pub(crate) async fn call(&self, parts: &request::Parts, body: Body) -> Result<Response<Body>, CallError> {
        let shared = self.shared();
        if let Some(reason) = shared.end() {
            let delivered = Delivered::No;
            return Err(CallError::LinkLost { delivered, reason });
        }
        if shared.is_draining() {
            return Err(CallError::Draining);
        }
        let request = self.request(parts)?;
        let place = self.place().await?;
        // The head never ends the stream, even where nothing follows: gRPC wants an empty DATA frame then, and servers on
        // grpc-go before 1.84 wait for one forever.
        let sent = self.0.sender.clone().send_request(request, false);
        let (response, stream) = match sent {
            Ok(sent) => sent,
            Err(error) => return Err(self.unsent(&error).await),
        };
        let id = response.stream_id().as_u32();
        let mut sending = Some(Sending::new(body, stream));
        let mut response = pin!(response);
        let answered = poll_fn(|cx| {
            if let Some(running) = &mut sending
                && let Poll::Ready(end) = poll_sending(running, cx)
            {
                sending = None;
                if let Err(SendError::Body(error)) = end {
                    return Poll::Ready(Err(Err(error)));
                }
            }
            response.as_mut().poll(cx).map_err(Ok)
        })
        .await;
        let (head, recv) = match answered {
            Ok(response) => response.into_parts(),
            Err(Err(error)) => return Err(CallError::Reset(error.code())),
            Err(Ok(error)) => return Err(self.failed(&error, id).await),
        };
        let limit = u64::from(shared.max_header_section);
        if section_size(&head.headers) as u64 > limit {
            return Err(CallError::ResponseTooLarge { limit });
        }
        if recv.is_end_stream() {
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let sending = sending.map(|mut sending| {
            let rest = async move {
                // It has reset the stream if it failed, and the response ends with that.
                let _ = poll_fn(|cx| poll_sending(&mut sending, cx)).await;
            };
            AbortOnDropHandle::new(tokio::spawn(rest.in_current_span()))
        });
        let body = ReceivedBody::new(shared, recv).response(sending, place);
        Ok(Response::from_parts(head, Body::new(body)))
    }

    /// The request as HTTP/2 carries it, where the agent takes it.
    fn request(&self, parts: &request::Parts) -> Result<Request<()>, CallError> {
        let unsendable = |error: &dyn std::fmt::Display| CallError::Unsendable(error.to_string());
        if parts.method == Method::CONNECT {
            return Err(unsendable(&EncodeError::Connect));
        }
        let host = parts.headers.get(header::HOST);
        let authority = match (parts.uri.authority(), host) {
            (Some(authority), _) => authority.clone(),
            (None, Some(host)) => host.as_bytes().try_into().map_err(|error| unsendable(&error))?,
            (None, None) => return Err(unsendable(&EncodeError::MissingAuthority)),
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTPS);
        uri.authority = Some(authority);
        uri.path_and_query = Some(match parts.uri.path_and_query() {
            Some(path) => path.clone(),
            None => PathAndQuery::from_static("/"),
        });
        let mut headers = carried(parts.headers.clone());
        if host.is_some() {
            headers = headers_without_host(headers);
        }
        secret(&mut headers);
        let pseudo = [
            (":method", parts.method.as_str()),
            (":scheme", "https"),
            (
                ":authority",
                uri.authority.as_ref().map_or("", |authority| authority.as_str()),
            ),
            (
                ":path",
                uri.path_and_query.as_ref().map_or("/", |path| path.as_str()),
            ),
        ];
        let pseudo = pseudo
            .iter()
            .map(|(name, value)| name.len() + value.len() + super::FIELD_OVERHEAD);
        let size = (section_size(&headers) + pseudo.sum::<usize>()) as u64;
        let shared = self.shared();
        let limit = shared
            .pipe
            .max_header_list
            .load(Ordering::Relaxed)
            .min(shared.max_header_section);
        if size > u64::from(limit) {
            let limit = u64::from(limit);
            return Err(CallError::RequestTooLarge { size, limit });
        }
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).map_err(|error| unsendable(&error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// A place for one more call.
    async fn place(&self) -> Result<Place, CallError> {
        let shared = self.shared();
        let waited = async {
            loop {
                let mut room = pin!(shared.room.notified());
                room.as_mut().enable();
                if let Some(place) = self.try_place() {
                    return place;
                }
                room.await;
            }
        };
        match self.try_place() {
            Some(place) => Ok(place),
            None => tokio::time::timeout(OPEN_TIMEOUT, waited)
                .await
                .map_err(|_| CallError::Busy),
        }
    }

    fn try_place(&self) -> Option<Place> {
        let calls = &self.0.calls;
        let most = calls
            .shared
            .max_calls
            .load(Ordering::Relaxed)
            .min(self.0.max_calls);
        calls
            .running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
                (running < most).then_some(running + 1)
            })
            .ok()?;
        Some(Place(Arc::clone(calls)))
    }

    /// What it means for a call that h2 did not take it.
    async fn unsent(&self, error: &h2::Error) -> CallError {
        if self.shared().is_draining() {
            return CallError::Draining;
        }
        if error.is_io() || error.is_go_away() {
            return CallError::LinkLost {
                delivered: Delivered::No,
                reason: self.shared().ended().await,
            };
        }
        CallError::Unsendable(error.to_string())
    }

    /// What it means for the call on the stream `id` that no response's head came.
    async fn failed(&self, error: &h2::Error, id: u32) -> CallError {
        let shared = self.shared();
        match Failed::from_h2(error) {
            Failed::CleanEnd => CallError::Reset(Code::NO_ERROR),
            Failed::Call(BodyError::Reset(Code::REQUEST_REJECTED)) if shared.is_draining() => {
                CallError::Draining
            }
            Failed::Call(BodyError::Reset(Code::REQUEST_REJECTED)) => CallError::Refused,
            Failed::Call(BodyError::Reset(code)) => CallError::Reset(code),
            Failed::Call(error) => CallError::Malformed(error.to_string()),
            // That it was covered by the GOAWAY was known when it came, and the link may go on.
            Failed::Link if shared.pipe.disowns(id) => CallError::Draining,
            Failed::Link => {
                let reason = shared.ended().await;
                match shared.pipe.disowns(id) {
                    true => CallError::Draining,
                    false => CallError::LinkLost {
                        delivered: Delivered::Maybe,
                        reason,
                    },
                }
            }
        }
    }

    pub(crate) fn carrier(&self) -> Carrier {
        self.shared().carrier
    }

    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.shared().certificates
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.shared().peer
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.shared().round_trip()
    }

    pub(crate) fn shortest_round_trip(&self) -> Duration {
        self.shared().shortest_round_trip()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.shared().activity()
    }

    pub(crate) async fn draining(&self) {
        self.shared().pipe.draining.cancelled().await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared().is_draining()
    }

    pub(crate) async fn closed(&self) -> LinkError {
        self.shared().ended().await
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        self.shared().close(code, reason);
    }

    /// What does not keep the link alive.
    pub(crate) fn downgrade(&self) -> Weak {
        Weak(Arc::downgrade(self.shared()))
    }
}

/// A link that others hold.
#[derive(Clone, Debug)]
pub(crate) struct Weak(std::sync::Weak<Shared>);

impl Weak {
    /// Whether the link is there, or its last words are still being said.
    pub(crate) fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(crate) fn close(&self, code: Code, reason: &str) {
        if let Some(shared) = self.0.upgrade() {
            shared.close(code, reason);
        }
    }

    /// Waits until the agent was told why the link ended, or could have been.
    pub(crate) async fn gone(self) {
        if let Some(shared) = self.0.upgrade() {
            shared.gone().await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.calls.shared.close(Code::NO_ERROR, "the hub let the link go");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.shared.room.notify_one();
    }
}

fn headers_without_host(headers: http::HeaderMap) -> http::HeaderMap {
    super::filtered(headers, |name, _| *name != header::HOST)
}

fn poll_sending(sending: &mut Sending, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
    sending.poll(cx).map_ok(|last| sending.finish(last))
}
