//! What all tests of the carrier share: certificates, both ends of a link, bare peers, bodies.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use quinn::TransportConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::quic::ALPN;
use crate::rh3::frame::stream_type;
use crate::rh3::settings::Settings;
use crate::rh3::{frame, head, varint};
use crate::{
    AgentLink, Body, BodyError, CallError, Carrier, Code, Dialer, HubLink, LinkError, Listener, Reset, Tuning,
};

/// No test takes longer, whatever it waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The name in the hub's certificate.
pub(crate) const HUB: &str = "hub.test";

/// The secret of the hubs' ports.
pub(crate) const SECRET: &[u8] = b"the hub's private key";

/// What a handler returns.
pub(crate) type Answer = Result<Response<Body>, Reset>;

/// Waits for `future`, and fails the test when it takes too long.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("the test took too long")
}

/// A certificate authority.
pub(crate) struct Pki(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn agent(&self) -> Identity {
        self.issue("agent.test", ExtendedKeyUsagePurpose::ClientAuth, (2020, 2120))
    }

    pub(crate) fn expired_agent(&self) -> Identity {
        self.issue("agent.test", ExtendedKeyUsagePurpose::ClientAuth, (2020, 2021))
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// TLS of a hub, which demands a certificate of this authority.
    pub(crate) fn server_tls(&self) -> rustls::ServerConfig {
        let (chain, key) = self.issue(HUB, ExtendedKeyUsagePurpose::ServerAuth, (2020, 2120));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
        rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap()
    }

    /// TLS of an agent that trusts this authority and presents `identity`.
    pub(crate) fn client_tls(&self, identity: Option<Identity>) -> rustls::ClientConfig {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Runs each of these tests by every carrier, which they are told.
macro_rules! by_each_carrier {
    ($($test:ident),+ $(,)?) => {
        mod quic {
            $(#[tokio::test] async fn $test() { super::$test(crate::Carrier::Quic).await; })+
        }
        mod tls {
            $(#[tokio::test] async fn $test() { super::$test(crate::Carrier::Tls).await; })+
        }
        mod websocket {
            $(#[tokio::test] async fn $test() { super::$test(crate::Carrier::WebSocket).await; })+
        }
    };
}
pub(crate) use by_each_carrier;

/// A hub's port, and the authority that it trusts.
pub(crate) struct Hub {
    /// How its agents come.
    by: Carrier,
    pub(crate) listener: Listener,
    pub(crate) pki: Pki,
    pub(crate) address: SocketAddr,
}

impl Hub {
    pub(crate) fn new(tuning: Tuning) -> Self {
        Self::by(Carrier::Quic, tuning)
    }

    pub(crate) fn by(carrier: Carrier, tuning: Tuning) -> Self {
        let pki = Pki::new();
        let listener = Listener::bind(loopback(), pki.server_tls(), SECRET, tuning).unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            by: carrier,
            listener,
            pki,
            address,
        }
    }

    /// The next peer, once its handshake is done.
    pub(crate) async fn accept(&self) -> HubLink {
        let handshake = within(self.listener.accept()).await.unwrap();
        within(handshake.establish()).await.unwrap()
    }

    /// An agent of ours and the hub's end of its link.
    pub(crate) async fn link(&self, tuning: Tuning) -> (HubLink, AgentLink) {
        let dialer = Dialer::new(self.pki.client_tls(Some(self.pki.agent())), tuning).unwrap();
        let dialer = dialer.proxies(crate::websocket::Proxies::none());
        let (hub, agent) = tokio::join!(self.accept(), within(dialer.dial_by(self.by, self.address, HUB)));
        (hub, agent.unwrap())
    }

    /// An agent that answers with `handler`.
    pub(crate) async fn serve<H, F>(&self, tuning: Tuning, handler: H) -> (HubLink, Serving)
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let (hub, agent) = self.link(tuning).await;
        (hub, serve(agent, handler))
    }

    /// An agent of bare quinn, and the hub's end of its link.
    pub(crate) async fn bare_agent(&self) -> (HubLink, BarePeer) {
        self.bare_agent_with(TransportConfig::default()).await
    }

    /// The same with QUIC's settings as the test wants them.
    pub(crate) async fn bare_agent_with(&self, transport: TransportConfig) -> (HubLink, BarePeer) {
        let tls = self.pki.client_tls(Some(self.pki.agent()));
        let dialing = bare_dial_with(tls, self.address, transport);
        let (hub, agent) = tokio::join!(self.accept(), within(dialing));
        (hub, agent.unwrap())
    }
}

/// An agent that serves until this is dropped.
pub(crate) type Serving = AbortOnDropHandle<LinkError>;

pub(crate) fn serve<H, F>(agent: AgentLink, handler: H) -> Serving
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move { agent.serve(handler).await }))
}

/// A hub, and one agent that answers with `handler`.
pub(crate) async fn linked<H, F>(by: Carrier, handler: H) -> (HubLink, Serving, Hub)
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let hub = Hub::by(by, Tuning::default());
    let (link, serving) = hub.serve(Tuning::default(), handler).await;
    (link, serving, hub)
}

/// A QUIC connection without anything of HTTP/3, and what keeps it open.
pub(crate) struct BarePeer {
    pub(crate) connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

/// Dials as an agent whose HTTP/3 is the test's own.
pub(crate) async fn bare_dial(
    tls: rustls::ClientConfig,
    address: SocketAddr,
) -> Result<BarePeer, quinn::ConnectionError> {
    bare_dial_with(tls, address, TransportConfig::default()).await
}

async fn bare_dial_with(
    mut tls: rustls::ClientConfig,
    address: SocketAddr,
    transport: TransportConfig,
) -> Result<BarePeer, quinn::ConnectionError> {
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![ALPN.to_vec()];
    }
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let connection = endpoint.connect_with(config, address, HUB).unwrap().await?;
    Ok(BarePeer {
        connection,
        _endpoint: endpoint,
    })
}

/// An agent of ours, linked to a hub of bare quinn.
pub(crate) async fn bare_hub(tuning: Tuning) -> (BarePeer, AgentLink) {
    bare_hub_with(tuning, TransportConfig::default()).await
}

/// The same with QUIC's settings as the test wants them.
pub(crate) async fn bare_hub_with(tuning: Tuning, transport: TransportConfig) -> (BarePeer, AgentLink) {
    let pki = Pki::new();
    let mut tls = pki.server_tls();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::server(config, loopback()).unwrap();
    let dialer = Dialer::new(pki.client_tls(Some(pki.agent())), tuning).unwrap();
    let accepting = async { endpoint.accept().await.unwrap().await.unwrap() };
    let address = endpoint.local_addr().unwrap();
    let (connection, agent) = within(async { tokio::join!(accepting, dialer.dial(address, HUB)) }).await;
    let peer = BarePeer {
        connection,
        _endpoint: endpoint,
    };
    (peer, agent.unwrap())
}

impl BarePeer {
    /// Opens a control stream that begins as it should, with no limit on metadata.
    pub(crate) async fn control(&self) -> quinn::SendStream {
        self.control_with(&Settings::default()).await
    }

    pub(crate) async fn control_with(&self, settings: &Settings) -> quinn::SendStream {
        let mut hello = BytesMut::new();
        varint::put(&mut hello, stream_type::CONTROL);
        settings.encode(&mut hello);
        self.uni(&hello).await
    }

    /// Opens a unidirectional stream that begins with `bytes`.
    pub(crate) async fn uni(&self, bytes: &[u8]) -> quinn::SendStream {
        let mut stream = within(self.connection.open_uni()).await.unwrap();
        within(stream.write_all(bytes)).await.unwrap();
        stream
    }

    /// Waits until the other end has read what was sent before on unidirectional streams: it stops one of a type that
    /// it does not know.
    pub(crate) async fn is_heard(&self) {
        let stream = self.uni(&[0x21]).await;
        within(stream.stopped()).await.unwrap();
    }

    /// The next call's stream.
    pub(crate) async fn accept(&self) -> (quinn::SendStream, quinn::RecvStream) {
        within(self.connection.accept_bi()).await.unwrap()
    }

    /// The application code with which the other end closed the connection.
    pub(crate) async fn closed(&self) -> Code {
        match within(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => Code(close.error_code.into_inner()),
            other => panic!("not closed with a code of HTTP/3: {other}"),
        }
    }
}

/// Passes packets between an agent and the hub that is there now. To the agent it is one address, as the port of a hub
/// that was started again is; the hub before never learns that it is gone, as one that was killed does not either.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Arc<Mutex<SocketAddr>>,
    _passing: AbortOnDropHandle<()>,
}

impl Port {
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        let agents = UdpSocket::bind(loopback()).await.unwrap();
        let address = agents.local_addr().unwrap();
        let hub = Arc::new(Mutex::new(hub));
        let passing = tokio::spawn(pass(agents, Arc::clone(&hub)));
        Self {
            address,
            hub,
            _passing: AbortOnDropHandle::new(passing),
        }
    }
}

async fn pass(agents: UdpSocket, hub: Arc<Mutex<SocketAddr>>) {
    let hubs = UdpSocket::bind(loopback()).await.unwrap();
    let mut agent = None;
    let (mut out, mut back) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            received = agents.recv_from(&mut out) => {
                let (len, from) = received.unwrap();
                agent = Some(from);
                let hub = *hub.lock().unwrap();
                hubs.send_to(&out[..len], hub).await.unwrap();
            }
            received = hubs.recv_from(&mut back) => {
                let (len, from) = received.unwrap();
                let is_current = from == *hub.lock().unwrap();
                if let (Some(agent), true) = (agent, is_current) {
                    agents.send_to(&back[..len], agent).await.unwrap();
                }
            }
        }
    }
}

/// A request of `path` with this body.
pub(crate) fn request(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("https://{HUB}{path}")).body(body).unwrap()
}

/// Makes the call that `request` describes.
pub(crate) async fn call(link: &HubLink, request: Request<Body>) -> Result<Response<Body>, CallError> {
    let (head, body) = request.into_parts();
    link.call(&head, body).await
}

/// The HEADERS frame of [`request`].
pub(crate) fn request_head(path: &str) -> Bytes {
    let mut out = BytesMut::new();
    let (parts, _) = request(path, Body::empty()).into_parts();
    head::encode_request(&parts, &mut out).unwrap();
    out.freeze()
}

/// The HEADERS frame of a response with these fields.
pub(crate) fn response_head(fields: &HeaderMap) -> Bytes {
    let mut out = BytesMut::new();
    head::encode_response(http::StatusCode::OK, fields, &mut out);
    out.freeze()
}

/// A DATA frame.
pub(crate) fn data(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::put_data_header(&mut out, payload.len() as u64);
    out.extend_from_slice(payload);
    out.freeze()
}

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::new(http_body_util::Full::new(bytes.into()).map_err(|never| match never {}))
}

/// A body of these frames, all of them ready.
pub(crate) fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    Body::new(StreamBody::new(futures_util::stream::iter(
        frames.into_iter().map(Ok),
    )))
}

/// Where a test feeds a [`channel`] body. Its `closed` tells when the body was dropped.
pub(crate) type Feed = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

/// A body that comes as the test says, and ends when the [`Feed`] is dropped.
pub(crate) fn channel() -> (Feed, Body) {
    let (feed, frames) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(frames, async |mut frames: mpsc::Receiver<_>| {
        Some((frames.recv().await?, frames))
    });
    (feed, Body::new(StreamBody::new(frames)))
}

/// All of a body: its bytes, and its trailers if it has any.
pub(crate) async fn read(body: Body) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
    let collected = within(body.collect()).await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// The next bytes of a body.
pub(crate) async fn next_data(body: &mut Body) -> Option<Bytes> {
    let frame = within(body.frame()).await?;
    Some(frame.unwrap().into_data().expect("data, not trailers"))
}

/// All that a stream of the `h3` crate's buffers holds.
pub(crate) fn bytes_of(mut buffer: impl Buf) -> Bytes {
    buffer.copy_to_bytes(buffer.remaining())
}

/// Fields with these names and values, in order.
pub(crate) fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|&(name, value)| {
        (
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        )
    });
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(name, value);
    }
    fields
}

/// `len` bytes that differ from place to place.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len)
        .map(|at| (at * 31 + (at >> 8)) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// Waits until `condition` holds. Between two looks whatever else is to be done gets its turn.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
