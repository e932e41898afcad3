//! The connections to one upstream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::address::Target;
use super::connect::{CONNECT_TIMEOUT, ConnectError, connect};
use super::connection::{Connection, Slot};
use super::tls::TlsSettings;

/// Connections to one upstream at the most. They are opened one by one, when the others are in use.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// Calls on one connection before another one is opened, where the upstream allows more: calls on one connection share
/// its windows and the task that moves its bytes. When all connections are open, more calls go on each.
pub(super) const CALLS_PER_CONNECTION: usize = 256;

/// How long a call waits for a place: one attempt to connect, and as long again for a call to end.
pub(super) const MAX_WAIT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

/// The connections to one upstream. Idle ones are kept, and not pinged: gRPC servers close a connection that is.
#[derive(Debug)]
pub(super) struct Pool {
    /// Shared with the attempt that runs, which alone must not keep the pool.
    shared: Arc<Shared>,
}

/// A call has no place on any connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPlace {
    /// There is no connection, and none could be made.
    #[error("{0}")]
    Refused(Arc<ConnectError>),
    /// The upstream's limits are reached, and stayed so.
    #[error("no call on it ended within {} s", MAX_WAIT.as_secs())]
    Busy,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    tls: Option<TlsSettings>,
    windows: (u32, u32),
    freed: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    /// The one attempt to connect that runs.
    attempt: Option<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    outcome: watch::Receiver<Option<Outcome>>,
    _task: AbortOnDropHandle<()>,
}

type Outcome = Result<(), Arc<ConnectError>>;

/// What a call finds.
enum Found {
    Place(Slot),
    /// Another connection is being made.
    Connecting(watch::Receiver<Option<Outcome>>),
    /// All places are taken.
    Full,
}

impl Pool {
    /// `windows` are those of a stream and of a connection: what the other end may send ahead.
    pub(super) fn new(target: Target, tls: Option<TlsSettings>, windows: (u32, u32)) -> Self {
        let shared = Shared {
            target,
            tls,
            windows,
            freed: Arc::new(Notify::new()),
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.shared.target
    }

    /// A connection that is none of the pool's. `freed` and `closing` are told as for [`connect`].
    pub(super) async fn connect_apart(
        &self,
        freed: &Arc<Notify>,
        closing: &CancellationToken,
    ) -> Result<Connection, ConnectError> {
        let Shared {
            target, tls, windows, ..
        } = &*self.shared;
        connect(target, tls.as_ref(), *windows, freed, Some(closing)).await
    }

    /// A place for a call: at once where a connection has one, else on a new connection, else when a call ends.
    pub(super) async fn place(&self) -> Result<Slot, NoPlace> {
        if let Found::Place(slot) = self.shared.find() {
            return Ok(slot);
        }
        tokio::time::timeout(MAX_WAIT, self.shared.wait())
            .await
            .unwrap_or(Err(NoPlace::Busy))
    }
}

impl Shared {
    async fn wait(self: &Arc<Self>) -> Result<Slot, NoPlace> {
        loop {
            // Before looking, or a place that is freed in between would be missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let outcome = match self.find() {
                Found::Place(slot) => return Ok(slot),
                Found::Connecting(outcome) => outcome,
                Found::Full => {
                    freed.await;
                    continue;
                }
            };
            let failed = tokio::select! {
                () = &mut freed => None,
                failed = failed(outcome) => failed,
            };
            if let Some(error) = failed {
                if self.lock().connections.is_empty() {
                    return Err(NoPlace::Refused(error));
                }
                // The upstream takes no further connection: a call that ends makes room.
                freed.await;
            }
        }
    }

    /// Looks for a place, and starts to make a connection where there are not enough.
    fn find(self: &Arc<Self>) -> Found {
        let mut state = self.lock();
        let mut index = 0;
        while let Some(connection) = state.connections.get(index) {
            match connection.reserve(CALLS_PER_CONNECTION) {
                Some(slot) if connection.is_open() => return Found::Place(slot),
                None if connection.is_open() => index += 1,
                // The calls that run on it keep it until they end.
                _ => drop(state.connections.swap_remove(index)),
            }
        }
        // The sender of an attempt's outcome is there until it has one, unless the attempt panicked.
        let connecting = state
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.outcome.has_changed().is_ok());
        if !connecting && state.connections.len() < MAX_CONNECTIONS {
            state.attempt = Some(self.start());
        }
        let least_used = state
            .connections
            .iter()
            .min_by_key(|connection| connection.in_flight());
        if let Some(slot) = least_used.and_then(|connection| connection.reserve(usize::MAX)) {
            return Found::Place(slot);
        }
        match &state.attempt {
            Some(attempt) => Found::Connecting(attempt.outcome.clone()),
            None => Found::Full,
        }
    }

    /// Makes one connection. The task is its own, so that the call that wanted it may be cancelled while others wait.
    fn start(self: &Arc<Self>) -> Attempt {
        let (report, outcome) = watch::channel(None);
        let shared = Arc::downgrade(self);
        let (target, tls, freed) = (self.target.clone(), self.tls.clone(), Arc::clone(&self.freed));
        let windows = self.windows;
        let attempt = async move {
            let connected = connect(&target, tls.as_ref(), windows, &freed, None).await;
            if let Some(shared) = Weak::upgrade(&shared) {
                let mut state = shared.lock();
                let result = connected.map(|connection| state.connections.push(Arc::new(connection)));
                report.send_replace(Some(result.map_err(Arc::new)));
                state.attempt = None;
            }
        };
        Attempt {
            outcome,
            _task: AbortOnDropHandle::new(tokio::spawn(attempt.in_current_span())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state is whole at every step if it did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an attempt to end, and says why it failed if it did.
async fn failed(mut attempt: watch::Receiver<Option<Outcome>>) -> Option<Arc<ConnectError>> {
    attempt.wait_for(Option::is_some).await.ok()?.clone()?.err()
}
