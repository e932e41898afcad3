//! The other way round: a port of this machine whose calls go to one agent, through its hub.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_transport::{Body, LinkError, LocalConnection, Reset, Tuning};
use http::{HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::connections::accept;
use crate::upstream::Upstream;

/// Names the agent that a call is for.
const AGENT: HeaderName = HeaderName::from_static("adit-agent");

/// How long a client may take to say that it speaks HTTP/2.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// A port that is one agent, for gRPC clients that cannot set metadata: cleartext HTTP/2, whose every call goes to a hub with
/// `adit-agent`, and is passed on as it is otherwise.
#[derive(Debug)]
pub struct LocalPort {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hub: Upstream,
    agent: HeaderValue,
    tuning: Tuning,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl LocalPort {
    /// Listens on `address` for calls of `agent`'s services at `hub`, which is made by [`Upstream::hub`].
    ///
    /// # Errors
    ///
    /// The system refuses the address.
    pub async fn bind(address: SocketAddr, hub: Upstream, agent: &AgentId) -> io::Result<Self> {
        let agent = HeaderValue::from_str(agent.as_str()).map_err(io::Error::other)?;
        let shared = Shared {
            hub,
            agent,
            tuning: Tuning::default(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            shared: Arc::new(shared),
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

    /// Serves until `drain` is ready: then it takes no more connections and calls, and the running calls have
    /// `drain_timeout` to end. `stop` ends them at once. Dropping the future does, too.
    pub async fn serve(
        self,
        drain: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
    ) {
        let Self { listener, shared } = self;
        let mut connections = JoinSet::new();
        tokio::pin!(drain, stop);
        let serve = |stream, client| {
            let shared = Arc::clone(&shared);
            async move { shared.connection(stream, client).await }
        };
        tokio::select! {
            () = accept(&listener, &mut connections, serve) => {}
            () = &mut drain => {}
            () = &mut stop => shared.stop.cancel(),
        }
        drop(listener);
        shared.drain.cancel();
        let all = async { while connections.join_next().await.is_some() {} };
        tokio::pin!(all);
        tokio::select! {
            () = &mut all => return,
            () = stop => {}
            () = sleep(drain_timeout) => warn!("calls that still run are ended: --drain-timeout is over"),
        }
        shared.stop.cancel();
        // Each has a second for its last words.
        all.await;
    }
}

impl Shared {
    /// The life of one connection.
    async fn connection(self: &Arc<Self>, stream: TcpStream, client: SocketAddr) {
        // Small messages must not wait for the acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot turn Nagle's algorithm off");
        }
        let establish = LocalConnection::establish(stream, client, &self.tuning);
        let established = tokio::select! {
            established = timeout(OPENING_TIMEOUT, establish) => established,
            () = self.drain.cancelled() => return,
        };
        let connection = match established {
            Ok(Ok(connection)) => connection,
            Ok(Err(LinkError::Protocol(error))) => {
                return warn!(
                    %error,
                    "closed a connection that does not begin with HTTP/2: this is a gRPC port without TLS, called with plaintext (insecure) credentials"
                );
            }
            Ok(Err(error)) => return debug!(%error, "a client left before its first call"),
            Err(_elapsed) => return debug!("a client took too long to open its connection"),
        };
        let shared = Arc::clone(self);
        let serve = connection.serve(move |request| {
            let shared = Arc::clone(&shared);
            async move { shared.call(request).await }
        });
        let drained = async {
            self.drain.cancelled().await;
            connection.drain().await;
        };
        let reason = tokio::select! {
            ended = serve => return debug!(%ended, "a client's connection ended"),
            () = self.stop.cancelled() => "adit connect stopped",
            () = drained => "adit connect drained",
        };
        connection.close(reason).await;
    }

    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, Reset> {
        // The port is that agent, whatever the client says. The other metadata keeps its order.
        request.headers_mut().insert(AGENT, self.agent.clone());
        self.hub.call(request).await
    }
}
