//! TCP sockets, TLS handshakes and WebSockets: how a link over TCP comes to be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::carrier::Carrier;
use crate::dial::DialError;
use crate::listen::{HANDSHAKE_TIMEOUT, HANDSHAKES, HandshakeError};
use crate::rh2::{self, agent, hub};
use crate::rh3::code::Code;
use crate::tuning::Tuning;
use crate::websocket::{self, Proxies, WebSocketUrl};
use crate::wire::Wire;

/// The ALPN label of HTTP/1.1, in which a WebSocket begins.
const HTTP_1: &[u8] = b"http/1.1";

/// Connections that wait in the system's queue.
const BACKLOG: i32 = 1024;

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that the system takes of a link beyond what is under way: those that wait in it can't be overtaken by a short call,
/// or by a sign of life.
const UNSENT: u32 = 128 << 10;

/// What is outermost on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outer {
    /// The link's own TLS, mutual.
    Tls,
    /// A WebSocket, because something before the hub has terminated the TLS around it. The link's own runs inside.
    Cleartext,
}

/// The hub's TCP port for agents.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    outer: Outer,
    tls: Arc<rustls::ServerConfig>,
    tuning: Arc<Tuning>,
    handshakes: Arc<Semaphore>,
    refusing: AtomicBool,
    closed: CancellationToken,
    links: Arc<Links>,
}

/// A peer that has begun to connect.
#[derive(Debug)]
pub(crate) struct Handshake {
    stream: TcpStream,
    peer: SocketAddr,
    outer: Outer,
    tls: Arc<rustls::ServerConfig>,
    tuning: Arc<Tuning>,
    links: Arc<Links>,
    _permit: OwnedSemaphorePermit,
}

/// The agent's way to a hub over TCP.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// TLS of a link itself.
    rh2: Arc<rustls::ClientConfig>,
    /// The same, of a WebSocket around a link.
    http_1: Arc<rustls::ClientConfig>,
    /// TLS of what is before a hub.
    web: Option<Arc<rustls::ClientConfig>>,
    proxies: Proxies,
    tuning: Arc<Tuning>,
}

/// The two ends of an agent's connection.
#[derive(Clone, Copy, Debug)]
struct Path {
    /// This machine's, where the system tells.
    local: Option<IpAddr>,
    /// The hub's, or that of what is before it.
    remote: SocketAddr,
}

/// The links that came through a port.
#[derive(Debug, Default)]
struct Links(Mutex<Vec<hub::Weak>>);

impl Listener {
    pub(crate) fn bind(
        address: SocketAddr,
        outer: Outer,
        mut tls: rustls::ServerConfig,
        tuning: Tuning,
    ) -> io::Result<Self> {
        tls.alpn_protocols = match outer {
            Outer::Tls => vec![rh2::ALPN.to_vec(), HTTP_1.to_vec()],
            Outer::Cleartext => vec![rh2::ALPN.to_vec()],
        };
        Ok(Self {
            outer,
            listener: listen(address)?,
            tls: Arc::new(tls),
            tuning: Arc::new(tuning),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            refusing: AtomicBool::new(false),
            closed: CancellationToken::new(),
            links: Arc::default(),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(crate) async fn accept(&self) -> Option<Handshake> {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.closed.cancelled() => return None,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Of one connection that has ended already, or because there are too many in this process.
                    debug!(%error, "cannot accept an agent's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if self.refusing.load(Ordering::Relaxed) {
                debug!(%peer, "refused a link: this end is stopping");
                continue;
            }
            let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
                warn!(%peer, limit = HANDSHAKES, "refused a link: too many handshakes are under way");
                continue;
            };
            return Some(Handshake {
                stream,
                peer,
                outer: self.outer,
                tls: Arc::clone(&self.tls),
                tuning: Arc::clone(&self.tuning),
                links: Arc::clone(&self.links),
                _permit: permit,
            });
        }
    }

    pub(crate) fn refuse_new(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn close(&self, reason: &str) {
        self.refuse_new();
        self.closed.cancel();
        for link in self.links.all() {
            link.close(Code::NO_ERROR, reason);
        }
    }

    pub(crate) async fn closed(&self) {
        join_all(self.links.all().into_iter().map(hub::Weak::gone)).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close("the hub stopped");
    }
}

impl Links {
    fn add(&self, link: &hub::Link) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(hub::Weak::is_there);
        links.push(link.downgrade());
    }

    fn all(&self) -> Vec<hub::Weak> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Handshake {
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) async fn establish(self) -> Result<hub::Link, HandshakeError> {
        let links = Arc::clone(&self.links);
        let link = timeout(HANDSHAKE_TIMEOUT, self.finish())
            .await
            .map_err(|_| HandshakeError::Timeout)??;
        links.add(&link);
        Ok(link)
    }

    async fn finish(self) -> Result<hub::Link, HandshakeError> {
        let Self {
            stream,
            peer,
            outer,
            tls,
            tuning,
            ..
        } = self;
        prepare(&stream).map_err(HandshakeError::Tls)?;
        let tls = TlsAcceptor::from(tls);
        let (carrier, certificates, wire): (_, _, Box<dyn Wire>) = match outer {
            Outer::Tls => {
                let stream = tls.accept(stream).await.map_err(HandshakeError::Tls)?;
                let session = stream.get_ref().1;
                let certificates = certificates(session.peer_certificates());
                match session.alpn_protocol() {
                    Some(rh2::ALPN) => (Carrier::Tls, certificates, Box::new(stream)),
                    Some(HTTP_1) => {
                        let path = Some(websocket::PATH);
                        let socket = websocket::accept(Box::new(stream), websocket::SUBPROTOCOL, path).await;
                        (
                            Carrier::WebSocket,
                            certificates,
                            socket.map_err(HandshakeError::WebSocket)?,
                        )
                    }
                    _ => return Err(HandshakeError::NoCarrier),
                }
            }
            Outer::Cleartext => {
                // What is between may have a path of its own for the hub.
                let socket = websocket::accept(Box::new(stream), websocket::SUBPROTOCOL_TLS, None).await;
                let socket = socket.map_err(HandshakeError::WebSocket)?;
                let stream = tls.accept(socket).await.map_err(HandshakeError::Tls)?;
                let session = stream.get_ref().1;
                if session.alpn_protocol() != Some(rh2::ALPN) {
                    return Err(HandshakeError::NoCarrier);
                }
                let certificates = certificates(session.peer_certificates());
                (Carrier::WebSocket, certificates, Box::new(stream))
            }
        };
        hub::Link::establish(carrier, peer, certificates, wire, &tuning)
            .await
            .map_err(HandshakeError::Failed)
    }
}

impl Dialer {
    /// `tls` presents the agent's certificate to the hub.
    pub(crate) fn new(mut tls: rustls::ClientConfig, tuning: Tuning) -> Self {
        tls.enable_early_data = false;
        let with_alpn = |alpn: &[u8]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![alpn.to_vec()];
            Arc::new(tls)
        };
        Self {
            rh2: with_alpn(rh2::ALPN),
            http_1: with_alpn(HTTP_1),
            web: None,
            proxies: Proxies::from_env(),
            tuning: Arc::new(tuning),
        }
    }

    /// Has WebSockets that something before the hub terminates be verified by `web`.
    pub(crate) fn set_web(&mut self, mut web: rustls::ClientConfig) {
        web.enable_early_data = false;
        web.alpn_protocols = vec![HTTP_1.to_vec()];
        self.web = Some(Arc::new(web));
    }

    #[cfg(test)]
    pub(crate) fn set_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    /// By the carrier `tls`.
    pub(crate) async fn dial_tls(&self, address: SocketAddr, name: &str) -> Result<agent::Link, DialError> {
        let dialling = async {
            let stream = connect(address).await?;
            let path = Path::of(&stream, address);
            let stream = handshake(&self.rh2, name, address, Box::new(stream)).await?;
            self.link(Carrier::Tls, name, path, stream).await
        };
        timeout(HANDSHAKE_TIMEOUT, dialling)
            .await
            .unwrap_or(Err(DialError::TcpTimeout { address }))
    }

    /// By the carrier `websocket`, straight to the hub.
    pub(crate) async fn dial_websocket(
        &self,
        host: &str,
        port: u16,
        address: Option<SocketAddr>,
    ) -> Result<agent::Link, DialError> {
        let url = WebSocketUrl::of_hub(host, port);
        let dialling = async {
            let (stream, address) = self.reach(&url, address).await?;
            let path = Path::of(&stream, address);
            let stream = handshake(&self.http_1, host, address, Box::new(stream)).await?;
            let session = stream.get_ref().1;
            let certificates = certificates(session.peer_certificates());
            let socket = upgrade(Box::new(stream), &url, websocket::SUBPROTOCOL).await?;
            self.established(Carrier::WebSocket, host, path, certificates, socket)
                .await
        };
        bounded(dialling, &url).await
    }

    /// By the carrier `websocket`, to something before the hub.
    pub(crate) async fn dial_url(&self, url: &WebSocketUrl) -> Result<agent::Link, DialError> {
        let dialling = async {
            let (stream, address) = self.reach(url, None).await?;
            let path = Path::of(&stream, address);
            let stream: Box<dyn Wire> = if url.is_secure() {
                let web = self.web.as_ref().ok_or(DialError::NoWebTls)?;
                Box::new(handshake(web, url.host(), address, Box::new(stream)).await?)
            } else {
                Box::new(stream)
            };
            let socket = upgrade(stream, url, websocket::SUBPROTOCOL_TLS).await?;
            let stream = handshake(&self.rh2, url.host(), address, socket).await?;
            self.link(Carrier::WebSocket, url.host(), path, stream).await
        };
        bounded(dialling, url).await
    }

    /// A connection to a WebSocket's host, or through a proxy, and whose address that is.
    async fn reach(
        &self,
        url: &WebSocketUrl,
        address: Option<SocketAddr>,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let Some(proxy) = self.proxies.find(url) else {
            if let Some(address) = address {
                return Ok((connect(address).await?, address));
            }
            return connect_to(url.host(), url.port()).await;
        };
        let (host, port) = proxy.address()?;
        debug!(%proxy, %url, "dialling through a proxy");
        let (mut stream, address) = connect_to(&host, port).await?;
        websocket::tunnel(&mut stream, &proxy).await?;
        Ok((stream, address))
    }

    /// A link on TLS of which it is not known yet whether a hub is at its other end.
    async fn link(
        &self,
        carrier: Carrier,
        name: &str,
        path: Path,
        stream: TlsStream<Box<dyn Wire>>,
    ) -> Result<agent::Link, DialError> {
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(rh2::ALPN) {
            return Err(DialError::NoHub { address: path.remote });
        }
        let certificates = certificates(session.peer_certificates());
        self.established(carrier, name, path, certificates, Box::new(stream))
            .await
    }

    async fn established(
        &self,
        carrier: Carrier,
        name: &str,
        path: Path,
        certificates: Vec<CertificateDer<'static>>,
        wire: Box<dyn Wire>,
    ) -> Result<agent::Link, DialError> {
        let address = path.remote;
        let link = agent::Link::establish(carrier, address, certificates, wire, &self.tuning)
            .await
            .map_err(|reason| DialError::Handshake {
                name: name.to_owned(),
                address,
                reason,
            })?;
        Ok(match path.local {
            Some(local) => link.bound_to(local),
            None => link,
        })
    }
}

impl Path {
    fn of(stream: &TcpStream, remote: SocketAddr) -> Self {
        let local = stream.local_addr().ok().map(|address| address.ip());
        Self { local, remote }
    }
}

async fn bounded(
    dialling: impl Future<Output = Result<agent::Link, DialError>>,
    url: &WebSocketUrl,
) -> Result<agent::Link, DialError> {
    timeout(HANDSHAKE_TIMEOUT, dialling)
        .await
        .unwrap_or_else(|_| Err(DialError::WebSocketTimeout { url: url.to_string() }))
}

async fn upgrade(
    wire: Box<dyn Wire>,
    url: &WebSocketUrl,
    subprotocol: &'static str,
) -> Result<Box<dyn Wire>, DialError> {
    websocket::request(wire, url, subprotocol)
        .await
        .map_err(|reason| DialError::Upgrade {
            url: url.to_string(),
            reason,
        })
}

async fn handshake(
    tls: &Arc<rustls::ClientConfig>,
    name: &str,
    address: SocketAddr,
    wire: Box<dyn Wire>,
) -> Result<TlsStream<Box<dyn Wire>>, DialError> {
    let server = ServerName::try_from(name.to_owned()).map_err(|error| DialError::Address {
        name: name.to_owned(),
        address,
        reason: error.to_string(),
    })?;
    TlsConnector::from(Arc::clone(tls))
        .connect(server, wire)
        .await
        .map_err(|source| DialError::TlsHandshake {
            name: name.to_owned(),
            address,
            source,
        })
}

/// Connects to the first address of `host` that answers.
async fn connect_to(host: &str, port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
    let failed = |source| DialError::Host {
        host: host.to_owned(),
        port,
        source,
    };
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    prepare(&stream).map_err(failed)?;
    let address = stream.peer_addr().map_err(failed)?;
    Ok((stream, address))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, DialError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| DialError::Connect { address, source })?;
    prepare(&stream).map_err(|source| DialError::Connect { address, source })?;
    Ok(stream)
}

/// A call is small writes in both directions: each would wait for the acknowledgement of the one before it.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Where the system has no such setting, more waits in it.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // One socket for both families, where the system has both, as for UDP.
        let _ = socket.set_only_v6(false);
    }
    // A hub that is started again must not wait for the last connections of the one before.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn certificates(sent: Option<&[CertificateDer<'static>]>) -> Vec<CertificateDer<'static>> {
    sent.map(<[_]>::to_vec).unwrap_or_default()
}
