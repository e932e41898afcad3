//! Connections to a port of this machine: taken, and served beside each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{Instrument as _, info_span, warn};

/// Clients' connections at once; a further one waits for one of them to end.
const MAX_CONNECTIONS: usize = 1024;

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections and has each served by a task among `connections`, until this future is dropped: what runs then goes on.
pub(crate) async fn accept<S, F>(listener: &TcpListener, connections: &mut JoinSet<()>, serve: S)
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accept = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        tokio::select! {
            (accepted, permit) = accept => match accepted {
                Ok((stream, client)) => {
                    let serving = serve(stream, client);
                    let serving = async move {
                        let _permit = permit;
                        serving.await;
                    };
                    connections.spawn(serving.instrument(info_span!("client", %client)));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a client's connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
