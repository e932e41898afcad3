//! The two ends of a link, whatever carries it, and what can go wrong on one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, request};
use rustls::pki_types::CertificateDer;
use tokio::io::DuplexStream;

use crate::body::Body;
use crate::carrier::Carrier;
use crate::coding::{Coder, Codings};
use crate::liveness::Activity;
use crate::quic;
use crate::rh2;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// The hub's end of a link: makes calls. Clones are handles of the same link, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct HubLink {
    end: HubEnd,
    coder: Arc<Coder>,
}

#[derive(Clone, Debug)]
pub(crate) enum HubEnd {
    Quic(quic::hub::Link),
    Rh2(rh2::hub::Link),
}

/// The agent's end of a link: serves the calls that the hub makes. Dropping it ends the link.
#[derive(Debug)]
pub struct AgentLink {
    end: AgentEnd,
    coder: Arc<Coder>,
}

#[derive(Debug)]
pub(crate) enum AgentEnd {
    Quic(quic::agent::Link),
    Rh2(rh2::agent::Link),
}

/// The call is given up with this code, and the peer is told it.
///
/// What serves an [`AgentLink`] answers with one when it has no response to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call was given up: {0}")]
pub struct Reset(pub Code);

/// Among the extensions of a request or a response it says that the call is the link's own, and lasts as long as it: nobody
/// waits for its end, and what that end of the link sends on it goes before all other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing;

/// Whether anybody can have seen a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Certainly not: it is safe to make the call again.
    No,
    /// Perhaps.
    Maybe,
}

/// Why a call had no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// As many calls run on the link as the agent allows.
    #[error("the agent has no room for another call on this link")]
    Busy,
    /// The request's head is longer than the agent takes.
    #[error("the request's metadata has {size} bytes, and the agent takes {limit} at the most")]
    RequestTooLarge {
        /// Bytes, counted as RFC 9114 §4.2.2 does.
        size: u64,
        /// Bytes that the agent advertised.
        limit: u64,
    },
    /// The response's head is longer than this end takes.
    #[error("the response's metadata is longer than {limit} bytes")]
    ResponseTooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The request cannot be written as HTTP/3.
    #[error("the request cannot be carried: {0}")]
    Unsendable(String),
    /// The agent takes no new calls: its GOAWAY came before the call, or covers the call's stream (RFC 9114 §5.2).
    #[error("the agent is draining, and did not look at the call: it may be made again on another link")]
    Draining,
    /// The call was reset with `H3_REQUEST_REJECTED`, and no GOAWAY covers it: the agent's upstream refused it, as a rule.
    #[error("the agent, or its upstream, refused the call before looking at it: it may be made again")]
    Refused,
    /// The agent gave the call up.
    #[error("the agent gave the call up: {0}")]
    Reset(Code),
    /// What came was not a response of HTTP/3.
    #[error("malformed response: {0}")]
    Malformed(String),
    /// The link ended.
    #[error("the link was lost: {reason}")]
    LinkLost {
        /// Whether the request can have arrived.
        delivered: Delivered,
        /// What ended the link.
        #[source]
        reason: LinkError,
    },
}

/// What ended a link.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it in order.
    #[error("closed by the peer ({0})")]
    Closed(String),
    /// The peer will not have it, for this reason (`H3_REQUEST_REJECTED`): a further one fares no better as a rule.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer broke the protocol, or says that this end did.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The connection below the link broke, or ended without a word.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing was received for the idle timeout.
    #[error("nothing was received until the idle timeout")]
    TimedOut,
    /// The peer has no memory of the link: it was restarted.
    #[error("the peer was restarted and does not know the link")]
    Reset,
    /// This end closed it.
    #[error("closed by this end")]
    LocallyClosed,
}

impl CallError {
    /// Whether anybody can have seen the call.
    pub fn delivered(&self) -> Delivered {
        match self {
            Self::Busy
            | Self::RequestTooLarge { .. }
            | Self::Unsendable(_)
            | Self::Draining
            | Self::Refused => Delivered::No,
            Self::Reset(_) | Self::Malformed(_) | Self::ResponseTooLarge { .. } => Delivered::Maybe,
            Self::LinkLost { delivered, .. } => *delivered,
        }
    }
}

impl HubLink {
    pub(crate) fn new(end: HubEnd, codings: Codings) -> Self {
        let coder = Arc::new(Coder::new(codings));
        Self { end, coder }
    }

    /// A link on a pipe within this process: HTTP/2 as the carrier `tls` has it, without that carrier's TLS. The agent is taken for
    /// whoever is at the pipe's other end: it shows no certificate, and so no hub's port takes such a link. `peer` is what
    /// [`remote_address`](Self::remote_address) says.
    ///
    /// Ready once the agent has said that it speaks HTTP/2, however long that takes.
    ///
    /// ```
    /// use adit_transport::{AgentLink, Body, HubLink, Tuning};
    /// use http::{Request, Response};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = tokio::io::duplex(64 << 10);
    /// let (peer, tuning) = ("127.0.0.1:0".parse()?, Tuning::default());
    /// let (hub, agent) = tokio::try_join!(
    ///     HubLink::in_memory(near, peer, &tuning),
    ///     AgentLink::in_memory(far, peer, &tuning)
    /// )?;
    /// let serving = agent.serve(|request| async move {
    ///     // Sends back what it is sent.
    ///     Ok(Response::new(request.into_body()))
    /// });
    /// let (head, ()) = Request::post("https://hub/echo.Echo/Unary").body(())?.into_parts();
    /// let calling = hub.call(&head, Body::empty());
    /// let response = tokio::select! {
    ///     response = calling => response?,
    ///     ended = serving => return Err(ended.into()),
    /// };
    /// assert_eq!(response.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What is at the other end is no agent, or the pipe ended.
    pub async fn in_memory(pipe: DuplexStream, peer: SocketAddr, tuning: &Tuning) -> Result<Self, LinkError> {
        let wire = Box::new(pipe);
        let link = rh2::hub::Link::establish(Carrier::Tls, peer, Vec::new(), wire, tuning).await?;
        Ok(Self::new(HubEnd::Rh2(link), tuning.codings.clone()))
    }

    /// Makes one call on a stream of its own, and answers when the response's head is there.
    ///
    /// The head is only read, so that the same call can be made on another link. The body is sent as it comes, whether
    /// or not the response is being read. Dropping the future, or the response's body, cancels the call
    /// (`H3_REQUEST_CANCELLED` both ways).
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`CallError::delivered`] says whether the call may be made again.
    pub async fn call(&self, head: &request::Parts, body: Body) -> Result<Response<Body>, CallError> {
        let (coded, body) = self.coder.encode_request(head, body)?;
        let head = coded.as_ref().unwrap_or(head);
        let response = match &self.end {
            HubEnd::Quic(link) => link.call(head, body).await,
            HubEnd::Rh2(link) => link.call(head, body).await,
        }?;
        self.coder.decode_response(response)
    }

    /// Compresses the requests of calls with the first of `accepted`, in the agent's order, that this end knows: which one
    /// that is. Calls that are compressed already, and the link's [`Standing`] ones, go on as they are. The first word stands.
    pub fn code_with(&self, accepted: &[String]) -> Option<&'static str> {
        self.coder.send_with(accepted)
    }

    /// What the agent may compress responses with.
    pub fn known_codings(&self) -> impl Iterator<Item = &'static str> {
        self.coder.known()
    }

    /// What requests are compressed with, if anything.
    pub fn coding(&self) -> Option<&'static str> {
        self.coder.name()
    }

    /// What the link runs over.
    pub fn carrier(&self) -> Carrier {
        match &self.end {
            HubEnd::Quic(_) => Carrier::Quic,
            HubEnd::Rh2(link) => link.carrier(),
        }
    }

    /// The agent's certificate and what it sent with it, its own first. Already verified by the handshake.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match &self.end {
            HubEnd::Quic(link) => link.peer_certificates(),
            HubEnd::Rh2(link) => link.peer_certificates(),
        }
    }

    /// Where the agent's packets come from now.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.end {
            HubEnd::Quic(link) => link.remote_address(),
            HubEnd::Rh2(link) => link.remote_address(),
        }
    }

    /// The measured round-trip time of the link.
    pub fn round_trip(&self) -> Duration {
        match &self.end {
            HubEnd::Quic(link) => link.round_trip(),
            HubEnd::Rh2(link) => link.round_trip(),
        }
    }

    /// The shortest round trip that was ever measured on the link's path: what it takes when nothing queues on the way.
    pub fn shortest_round_trip(&self) -> Duration {
        match &self.end {
            HubEnd::Quic(link) => link.shortest_round_trip(),
            HubEnd::Rh2(link) => link.shortest_round_trip(),
        }
    }

    /// Whether the agent said that it takes no new calls (GOAWAY).
    pub fn is_draining(&self) -> bool {
        match &self.end {
            HubEnd::Quic(link) => link.is_draining(),
            HubEnd::Rh2(link) => link.is_draining(),
        }
    }

    /// Waits until the agent says that it takes no new calls (GOAWAY): for ever, where the link ends before.
    pub async fn draining(&self) {
        match &self.end {
            HubEnd::Quic(link) => link.draining().await,
            HubEnd::Rh2(link) => link.draining().await,
        }
    }

    /// What the link has received and sent so far.
    pub fn activity(&self) -> Activity {
        match &self.end {
            HubEnd::Quic(link) => link.activity(),
            HubEnd::Rh2(link) => link.activity(),
        }
    }

    /// Waits until the link has ended.
    pub async fn closed(&self) -> LinkError {
        match &self.end {
            HubEnd::Quic(link) => link.closed().await,
            HubEnd::Rh2(link) => link.closed().await,
        }
    }

    /// Ends the link now. Calls that run on it fail; `reason` is told to the agent.
    pub fn close(&self, code: Code, reason: &str) {
        match &self.end {
            HubEnd::Quic(link) => link.close(code, reason),
            HubEnd::Rh2(link) => link.close(code, reason),
        }
    }
}

impl AgentLink {
    pub(crate) fn new(end: AgentEnd, codings: Codings) -> Self {
        let coder = Arc::new(Coder::new(codings));
        Self { end, coder }
    }

    /// The other end of a [`HubLink::in_memory`].
    ///
    /// # Errors
    ///
    /// What is at the other end is no hub, or the pipe ended.
    pub async fn in_memory(pipe: DuplexStream, peer: SocketAddr, tuning: &Tuning) -> Result<Self, LinkError> {
        let wire = Box::new(pipe);
        let link = rh2::agent::Link::establish(Carrier::Tls, peer, Vec::new(), wire, tuning).await?;
        Ok(Self::new(AgentEnd::Rh2(link), tuning.codings.clone()))
    }

    /// Answers every call of the hub with `handler` until the link ends, and says why it did.
    ///
    /// A call that the hub gives up drops the handler's future or its response's body. Calls still running when the
    /// link ends, or when this future is dropped, are dropped with it.
    pub async fn serve<H, F>(&self, handler: H) -> LinkError
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Reset>> + Send + 'static,
    {
        let coder = Arc::clone(&self.coder);
        let coded = move |request| {
            let (coder, handler) = (Arc::clone(&coder), handler.clone());
            async move {
                let response = handler(coder.decode_request(request)?).await?;
                coder.encode_response(response)
            }
        };
        match &self.end {
            AgentEnd::Quic(link) => link.serve(coded).await,
            AgentEnd::Rh2(link) => link.serve(coded).await,
        }
    }

    /// Compresses the responses of calls with the first of `accepted` that this end knows: which one that is. Calls that are
    /// compressed already, and the link's [`Standing`] ones, go on as they are. The first word stands.
    pub fn code_with(&self, accepted: &[String]) -> Option<&'static str> {
        self.coder.send_with(accepted)
    }

    /// What the link runs over.
    pub fn carrier(&self) -> Carrier {
        match &self.end {
            AgentEnd::Quic(_) => Carrier::Quic,
            AgentEnd::Rh2(link) => link.carrier(),
        }
    }

    /// The hub's certificate and what it sent with it, its own first. Already verified by the handshake.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match &self.end {
            AgentEnd::Quic(link) => link.peer_certificates(),
            AgentEnd::Rh2(link) => link.peer_certificates(),
        }
    }

    /// Where the hub's packets come from.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.end {
            AgentEnd::Quic(link) => link.remote_address(),
            AgentEnd::Rh2(link) => link.remote_address(),
        }
    }

    /// The measured round-trip time of the link.
    pub fn round_trip(&self) -> Duration {
        match &self.end {
            AgentEnd::Quic(link) => link.round_trip(),
            AgentEnd::Rh2(link) => link.round_trip(),
        }
    }

    /// What the link has received and sent so far.
    pub fn activity(&self) -> Activity {
        match &self.end {
            AgentEnd::Quic(link) => link.activity(),
            AgentEnd::Rh2(link) => link.activity(),
        }
    }

    /// Calls that run now, but for [`Standing`] ones.
    pub fn calls(&self) -> usize {
        match &self.end {
            AgentEnd::Quic(link) => link.calls(),
            AgentEnd::Rh2(link) => link.calls(),
        }
    }

    /// Calls whose requests are still being received, [`Standing`] ones among them.
    pub fn receiving(&self) -> usize {
        match &self.end {
            AgentEnd::Quic(link) => link.receiving(),
            AgentEnd::Rh2(link) => link.receiving(),
        }
    }

    /// Takes no new calls: tells the hub so (GOAWAY), and refuses unseen those that come all the same
    /// (`H3_REQUEST_REJECTED`), so that the hub may make them elsewhere. Those that run go on, for as long as
    /// [`serve`](Self::serve) is polled.
    ///
    /// Ready once the hub has heard of it, or had 3 s to, and none of them runs any more, but for [`Standing`] ones; or when
    /// the link has ended. A call runs until its response has arrived, as far as can be told: of one that ended shortly
    /// before, a packet that was lost may still have to be sent again. May be called again, and given up.
    pub async fn drain(&self) {
        match &self.end {
            AgentEnd::Quic(link) => link.drain().await,
            AgentEnd::Rh2(link) => link.drain().await,
        }
    }

    /// Ends the link now. Calls that run on it fail; `reason` is told to the hub.
    pub fn close(&self, code: Code, reason: &str) {
        match &self.end {
            AgentEnd::Quic(link) => link.close(code, reason),
            AgentEnd::Rh2(link) => link.close(code, reason),
        }
    }

    /// Waits until the hub has been told of [`close`](Self::close), or has had the time to be.
    pub async fn closed(&self) {
        match &self.end {
            AgentEnd::Quic(link) => link.closed().await,
            AgentEnd::Rh2(link) => link.closed().await,
        }
    }
}
