//! A port of this machine whose connections go to a target of one agent, through the hub's port for raw TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::raw::{Answer, BadLine, Host, LineDecoder, LongLine, Request, Split, Target};
use adit_transport::RawSocket;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, warn};

use crate::connections::accept;

/// How long connecting to the hub may take, with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the hub may take to answer: it waits for an agent that is not connected, and for the agent's target.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A port each of whose connections is one to a target of an agent.
#[derive(Debug)]
pub struct LocalTcpPort {
    listener: TcpListener,
    way: Arc<Way>,
}

/// How connections get there.
#[derive(Debug)]
struct Way {
    hub: Target,
    tls: Option<Arc<ClientConfig>>,
    line: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum NoWay {
    #[error("cannot connect to the hub at {0}: {1}; is --via the hub's --tcp port?")]
    Connect(Target, io::Error),
    #[error("the hub at {0} did not answer within {limit}; is --via the hub's --tcp port?", limit = seconds(*.1))]
    TimedOut(Target, Duration),
    #[error(
        "TLS with the hub at {0} failed: {1}; is --via the hub's --tcp port, does it have TLS, and is its certificate for this name and from the CA in --certs?"
    )]
    Tls(Target, io::Error),
    #[error(
        "the hub at {0} ended the connection: {1}; is --via the hub's --tcp port? If that has TLS, name a folder with --certs, and a client's certificate in it with --name"
    )]
    Ended(Target, io::Error),
    #[error(
        "what answers at {0} is no hub's --tcp port: {1}; check --via, and --certs where that port has TLS"
    )]
    NoHub(Target, BadLine),
    #[error("what answers at {0} is no hub's --tcp port: {1}; check --via")]
    Endless(Target, LongLine),
    #[error("the hub refuses it: {reason}: {message}")]
    Refused { reason: String, message: String },
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

impl LocalTcpPort {
    /// Listens on `address` for connections to `target` from `agent`'s machine, by way of the port for raw TCP at `hub`, with TLS
    /// where `tls` is given.
    ///
    /// # Errors
    ///
    /// The system refuses the address.
    pub async fn bind(
        address: SocketAddr,
        hub: Target,
        tls: Option<Arc<ClientConfig>>,
        agent: &AgentId,
        target: &Target,
    ) -> io::Result<Self> {
        let request = Request {
            agent: agent.to_string(),
            target: target.to_string(),
            token: None,
        };
        let line = request.to_line();
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            way: Arc::new(Way { hub, tls, line }),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `drain` is ready: then it takes no more connections, and those that are open have `drain_timeout` to end.
    /// `stop` resets them at once. Dropping the future does, too.
    pub async fn serve(
        self,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
    ) {
        let Self { listener, way } = self;
        let mut connections = JoinSet::new();
        tokio::pin!(drain, stop);
        let carry = |stream, _| {
            let way = Arc::clone(&way);
            async move { way.connection(stream).await }
        };
        tokio::select! {
            () = accept(&listener, &mut connections, carry) => {}
            () = &mut drain => {}
            // Those that are open are dropped, and so reset.
            () = &mut stop => return,
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = all => {}
            () = stop => {}
            () = sleep(drain_timeout) => warn!("connections that are still open are reset: --drain-timeout is over"),
        }
    }
}

impl Way {
    /// The life of one connection.
    async fn connection(&self, stream: TcpStream) {
        let local = match RawSocket::new(stream) {
            Ok(local) => local,
            Err(error) => return debug!(%error, "a client left at once"),
        };
        let result = tokio::select! {
            result = self.carry(local.clone()) => result,
            () = local.broken() => return debug!("a client went away"),
        };
        if let Err(error) = result {
            warn!(%error, "a connection is reset");
        }
    }

    async fn carry(&self, local: RawSocket) -> Result<(), NoWay> {
        let hub = || self.hub.clone();
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let socket = connected.map_err(|_| NoWay::TimedOut(hub(), CONNECT_TIMEOUT))??;
        match &self.tls {
            None => self.through(socket.clone(), &socket, local).await,
            Some(tls) => {
                let secured = TlsConnector::from(Arc::clone(tls)).connect(self.name()?, socket.clone());
                let secured = timeout(CONNECT_TIMEOUT, secured).await;
                let secured = secured.map_err(|_| NoWay::TimedOut(hub(), CONNECT_TIMEOUT))?;
                let secured = secured.map_err(|error| NoWay::Tls(hub(), error))?;
                self.through(secured, &socket, local).await
            }
        }
    }

    async fn connect(&self) -> Result<RawSocket, NoWay> {
        let failed = |error| NoWay::Connect(self.hub.clone(), error);
        let stream = match &self.hub.host {
            Host::Ip(address) => TcpStream::connect((*address, self.hub.port)).await,
            Host::Name(name) => TcpStream::connect((name.as_str(), self.hub.port)).await,
        };
        RawSocket::new(stream.map_err(failed)?).map_err(failed)
    }

    fn name(&self) -> Result<ServerName<'static>, NoWay> {
        Ok(match &self.hub.host {
            Host::Ip(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|error| NoWay::Tls(self.hub.clone(), io::Error::other(error)))?,
        })
    }

    /// Says to the hub where to, and carries bytes once it says that the agent is there.
    async fn through<S>(&self, mut stream: S, socket: &RawSocket, mut local: RawSocket) -> Result<(), NoWay>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = timeout(ANSWER_TIMEOUT, self.ask(&mut stream)).await;
        let asked = asked.map_err(|_| NoWay::TimedOut(self.hub.clone(), ANSWER_TIMEOUT))?;
        let split = asked?;
        let answer = Answer::parse(&split.line).map_err(|error| NoWay::NoHub(self.hub.clone(), error))?;
        if let Answer::Refused { reason, message, .. } = answer {
            let shown = |text: String| text.chars().flat_map(char::escape_debug).collect();
            return Err(NoWay::Refused {
                reason: shown(reason),
                message: shown(message),
            });
        }
        let carried = async {
            local.write_all(&split.rest).await?;
            copy_bidirectional(&mut local, &mut stream).await
        };
        let carried = tokio::select! {
            carried = carried => carried,
            () = socket.broken() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        match carried {
            Ok((sent, received)) => {
                debug!(sent, received, "a connection ended");
                local.end();
                socket.end();
            }
            // As it would be without a hub between: either side is reset where the other one was.
            Err(error) => debug!(%error, "a connection broke"),
        }
        Ok(())
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<Split, NoWay> {
        let ended = |error| NoWay::Ended(self.hub.clone(), error);
        stream.write_all(&self.line).await.map_err(ended)?;
        stream.flush().await.map_err(ended)?;
        let mut decoder = LineDecoder::default();
        let mut piece = [0; 1024];
        loop {
            let length = stream.read(&mut piece).await.map_err(ended)?;
            if length == 0 {
                return Err(ended(io::ErrorKind::UnexpectedEof.into()));
            }
            let split = decoder.take(&piece[..length]);
            if let Some(split) = split.map_err(|error| NoWay::Endless(self.hub.clone(), error))? {
                return Ok(split);
            }
        }
    }
}
