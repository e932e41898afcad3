//! What received bytes may cost on a link of HTTP/2: readers that have stopped.
//!
//! A stream's window is what one stopped reader can hold. The window of all streams together is static, and as large as a link
//! may ever hold, so that stopped readers spend no live call's credit before that. When that much is held, or more than the
//! process has to give, the call that has stood still longest is given up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use h2::RecvStream;
use slab::Slab;
use tokio::task::AbortHandle;
use tracing::warn;

use super::pipe::Pipe;
use crate::quic::readers::BufferMemory;
use crate::tuning::Tuning;

/// A reader that has stood still for less than this is never given up: it may only be busy.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often a link at a ceiling is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What was taken of the process's memory is given back within this, though nothing more comes.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);

/// What is held is counted after so many bytes that came.
const COUNT_AFTER: u64 = 256 << 10;

/// What a link takes of the process's memory at a time.
const STEP: u64 = 1 << 20;

/// The readers of one link.
#[derive(Debug)]
pub(super) struct Readers {
    peer: SocketAddr,
    memory: Arc<BufferMemory>,
    /// What a link holds in any case.
    free: u64,
    /// What it holds at the most.
    most: u64,
    state: Mutex<State>,
    readers: Mutex<Slab<Arc<Stream>>>,
    epoch: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Taken of the process's memory.
    taken: u64,
    /// How much had come when it was last counted what is held.
    counted: u64,
    /// When it is to be counted at the latest: at a ceiling where nobody could be given up yet, or to give memory back.
    again: Option<Instant>,
}

/// The stream that one reader reads.
#[derive(Debug)]
struct Stream {
    /// Microseconds after the epoch at which it was last read, and 0 while it waits for data.
    still_since: AtomicU64,
    recv: Mutex<Option<RecvStream>>,
    /// What sends the other direction of a call that is given up as a whole.
    sending: OnceLock<AbortHandle>,
}

/// One call's hold on its receiving half, which the link may take away.
#[derive(Debug)]
pub(super) struct Reader {
    readers: Arc<Readers>,
    stream: Arc<Stream>,
    key: usize,
}

impl Readers {
    pub(super) fn new(peer: SocketAddr, tuning: &Tuning) -> Arc<Self> {
        let window = u64::from(super::link_window(tuning));
        // The peer must not come to the window's end before it is noticed, and h2 gives credit back in halves of a stream's.
        let margin = 2 * u64::from(tuning.stream_window) + COUNT_AFTER;
        Arc::new(Self {
            peer,
            memory: Arc::clone(&tuning.buffer_memory),
            free: u64::from(tuning.link_window).min(window),
            most: window.saturating_sub(margin).max(window / 2),
            state: Mutex::default(),
            readers: Mutex::default(),
            epoch: Instant::now(),
        })
    }

    /// Enters the receiving half of a call.
    pub(super) fn enter(self: &Arc<Self>, recv: RecvStream) -> Reader {
        let stream = Arc::new(Stream {
            // Nobody has asked for it yet.
            still_since: AtomicU64::new(self.now()),
            recv: Mutex::new(Some(recv)),
            sending: OnceLock::new(),
        });
        let key = lock(&self.readers).insert(Arc::clone(&stream));
        Reader {
            readers: Arc::clone(self),
            stream,
            key,
        }
    }

    /// How many have been entered and are not gone.
    pub(super) fn count(&self) -> usize {
        lock(&self.readers).len()
    }

    /// Sees to it that what is held stays below its ceilings. Says when to look again, at the latest.
    pub(super) fn check(&self, pipe: &Pipe) -> Option<Instant> {
        let come = pipe.data.load(Ordering::Relaxed);
        let mut state = lock(&self.state);
        let is_due =
            come - state.counted >= COUNT_AFTER || state.again.is_some_and(|again| Instant::now() >= again);
        if !is_due {
            return state.again;
        }
        state.counted = come;
        state.again = None;
        while let Some(ceiling) = self.fit(&mut state, self.held()) {
            if !self.give_up_stillest(ceiling) {
                state.again = Some(Instant::now() + LOOK);
                break;
            }
        }
        // What was taken is given back when it is no longer needed, which more data may not come to tell.
        if state.again.is_none() && state.taken > 0 {
            state.again = Some(Instant::now() + GIVE_BACK_AFTER);
        }
        state.again
    }

    /// Takes or gives back memory for what is held, and says which ceiling keeps it from that.
    fn fit(&self, state: &mut State, held: u64) -> Option<&'static str> {
        let wanted = held.saturating_sub(self.free).div_ceil(STEP) * STEP;
        if wanted > state.taken {
            if !self.memory.take(wanted - state.taken) {
                return Some("process");
            }
            state.taken = wanted;
        } else if wanted < state.taken {
            self.memory.give_back(state.taken - wanted);
            state.taken = wanted;
        }
        (held > self.most).then_some("link")
    }

    /// Bytes that have come and nobody has read.
    fn held(&self) -> u64 {
        let readers = lock(&self.readers);
        let held = readers.iter().map(|(_, stream)| match stream.recv.try_lock() {
            Ok(mut recv) => recv
                .as_mut()
                .map_or(0, |recv| recv.flow_control().used_capacity() as u64),
            // Somebody reads it just now.
            Err(_) => 0,
        });
        held.sum()
    }

    /// Takes the stream that has stood still longest from its reader, whose next read says so.
    fn give_up_stillest(&self, ceiling: &str) -> bool {
        let now = self.now();
        let patience = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
        let stillest = {
            let readers = lock(&self.readers);
            let still = readers.iter().filter_map(|(_, stream)| {
                let since = stream.still_since.load(Ordering::Relaxed);
                let holds = |stream: &Stream| {
                    let mut recv = stream.recv.try_lock().ok()?;
                    Some(recv.as_mut()?.flow_control().used_capacity() > 0)
                };
                (since > 0 && now.saturating_sub(since) >= patience && holds(stream) == Some(true))
                    .then_some((since, stream))
            });
            still
                .min_by_key(|(since, _)| *since)
                .map(|(_, stream)| Arc::clone(stream))
        };
        let Some(stream) = stillest else { return false };
        let recv = lock(&stream.recv).take();
        if let Some(sending) = stream.sending.get() {
            sending.abort();
        }
        warn!(
            peer = %self.peer,
            ceiling,
            "gave up the call whose reader has stood still longest: received bytes are at their ceiling"
        );
        // Dropped outside of the lock: its bytes are freed and their credit is given back.
        drop(recv);
        true
    }

    /// Microseconds after the epoch, and never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.memory.give_back(lock(&self.state).taken);
    }
}

impl Reader {
    /// The receiving half: `None` once it has been given up because its reader stood still.
    pub(super) fn recv(&self) -> MutexGuard<'_, Option<RecvStream>> {
        lock(&self.stream.recv)
    }

    /// What is to end with the reader, when it is given up.
    pub(super) fn gives_up(&self, sending: AbortHandle) {
        let _ = self.stream.sending.set(sending);
    }

    /// Something was handed to whoever reads, and until they ask for more they stand still.
    pub(super) fn stands_still(&self) {
        self.stream
            .still_since
            .store(self.readers.now(), Ordering::Relaxed);
    }

    /// Whoever reads asks for more.
    pub(super) fn reads(&self) {
        self.stream.still_since.store(0, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.readers.readers).try_remove(self.key);
    }
}

/// A panic elsewhere leaves these as they are: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
