//! A TCP path between agents and a hub, which can be held up or cut. To whom it leads may be a Unix socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::ANY_PORT;

/// Where a path leads.
#[derive(Clone, Debug)]
pub(crate) enum Far {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What a path does with bytes, and with connections to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Passes,
    /// Neither end learns of it: connections stay, and nothing comes through them any more.
    Holds,
}

/// A path; it ends when it is dropped, with all connections on it.
pub(crate) struct TcpPath {
    pub(crate) address: SocketAddr,
    does: Arc<watch::Sender<Does>>,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl TcpPath {
    pub(crate) async fn to(far: Far) -> Self {
        let near = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = near.local_addr().unwrap();
        let does = Arc::new(watch::Sender::new(Does::Passes));
        let connections = Arc::new(AtomicUsize::new(0));
        let task = carry(near, far, Arc::clone(&does), Arc::clone(&connections));
        Self {
            address,
            does,
            connections,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// Lets nothing through any more, and tells nobody.
    pub(crate) fn hold(&self) {
        self.does.send_replace(Does::Holds);
    }

    /// Lets through what comes, and what was held.
    pub(crate) fn pass(&self) {
        self.does.send_replace(Does::Passes);
    }

    /// How many connections there were so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(near: TcpListener, far: Far, does: Arc<watch::Sender<Does>>, connections: Arc<AtomicUsize>) {
    let mut flows = JoinSet::new();
    loop {
        let (agent, _) = near.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        agent.set_nodelay(true).unwrap();
        let (far, does) = (far.clone(), does.subscribe());
        flows.spawn(async move {
            match far {
                Far::Tcp(address) => match TcpStream::connect(address).await {
                    Ok(hub) => {
                        hub.set_nodelay(true).unwrap();
                        both(agent, hub, does).await;
                    }
                    Err(_) => drop(agent),
                },
                Far::Unix(path) => match UnixStream::connect(path).await {
                    Ok(hub) => both(agent, hub, does).await,
                    Err(_) => drop(agent),
                },
            }
        });
        while flows.try_join_next().is_some() {}
    }
}

async fn both(
    near: impl AsyncRead + AsyncWrite,
    far: impl AsyncRead + AsyncWrite,
    does: watch::Receiver<Does>,
) {
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    tokio::join!(
        one_way(near_read, far_write, does.clone()),
        one_way(far_read, near_write, does)
    );
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut does: watch::Receiver<Does>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        // Also the end of it is not let through.
        if does.wait_for(|does| *does == Does::Passes).await.is_err() {
            return;
        }
        match read {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}
