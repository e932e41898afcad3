//! What received bytes may cost: readers that have stopped, and the window that makes up for them.
//!
//! QUIC has one credit for all streams of a connection. A call whose reader has stopped keeps up to a stream window of
//! it, and a few such calls would leave nothing for the live ones. So the link's window grows by a stream window for
//! each of them and a little more, up to a ceiling for the link and one for the process. Most readers that stand still hold
//! far less than a stream window, so there may be room for more of them than the ceiling has windows for: only when the
//! peer says that it waits for credit is the call given up that has stood still longest.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};
use slab::Slab;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, warn};

use super::starved::Starved;
use super::stream::RecvHalf;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// Every busy reader stands still for a moment between two reads. The window is not raised for fewer than this many.
const SPARE: usize = 4;

/// For how many readers more than there are the window may stay raised before it is lowered.
const KEEP: usize = 16;

/// quinn grants credit again when an eighth of the window has been read. Were the window raised by no more than the
/// stopped readers hold, that eighth would outgrow what they leave to the live ones, who would wait for it for good:
/// so for each of them it is raised by this divisor's part of a stream window more.
const GRANTED_BY: u64 = 7;

/// A reader that has stood still for less than this is never given up: it may only be busy.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often a link at a ceiling is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What a peer that seems to wait at a ceiling is given beyond it, to hear whether it does.
const A_LITTLE: u64 = 16 << 10;

/// What all links of a process share: the ceiling of the memory that stopped readers hold.
#[derive(Debug)]
pub struct BufferMemory {
    limit: u64,
    /// By how much the links' windows are raised.
    used: AtomicU64,
    links: Mutex<Vec<Weak<Readers>>>,
}

/// The readers of one link.
#[derive(Debug)]
pub(super) struct Readers {
    connection: Connection,
    memory: Arc<BufferMemory>,
    link_window: u64,
    link_memory: u64,
    /// By how much the window is raised for one reader.
    step: u64,
    /// Readers that stand still.
    still: AtomicUsize,
    raised: Mutex<Raised>,
    readers: Mutex<Slab<Arc<Stream>>>,
    epoch: Instant,
    /// At a ceiling: [`look_again`] is told, and nobody else does anything about it.
    is_full: AtomicBool,
    full: Arc<Notify>,
    _looking: AbortOnDropHandle<()>,
}

/// The link's window.
#[derive(Debug)]
struct Raised {
    /// For how many readers that stand still it is raised.
    readers: usize,
    peer: Starved,
}

/// What keeps a window from being raised.
#[derive(Clone, Copy, Debug)]
enum Ceiling {
    Link,
    Process,
}

/// The stream that one reader reads.
#[derive(Debug)]
struct Stream {
    /// Microseconds after the epoch at which it was last read, and 0 while it waits for data.
    still_since: AtomicU64,
    recv: Mutex<Option<RecvHalf>>,
}

/// One call's hold on its receiving half, which the link may take away.
#[derive(Debug)]
pub(super) struct Reader {
    readers: Arc<Readers>,
    stream: Arc<Stream>,
    key: usize,
}

impl BufferMemory {
    /// A ceiling of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
            links: Mutex::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes what one more stopped reader may hold, if there is room.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&used| used <= self.limit)
            });
        taken.is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Makes room for `asking`, and says whether it is worth another try: takes back what a link has and needs no more,
    /// or else gives up the call that has stood still longest, of those whose end makes room.
    fn make_room(&self, asking: &Readers) -> bool {
        let links: Vec<_> = lock(&self.links).iter().filter_map(Weak::upgrade).collect();
        if links.iter().any(|link| link.lower(0)) {
            return true;
        }
        let holding = links
            .iter()
            .filter(|link| std::ptr::eq(&***link, asking) || lock(&link.raised).readers > 0);
        let stillest = holding.filter_map(|link| Some((link, link.stillest()?)));
        match stillest.max_by_key(|(_, (still, _))| *still) {
            Some((link, (_, stream))) => {
                link.give_up(&stream, Ceiling::Process);
                true
            }
            None => false,
        }
    }
}

impl Readers {
    /// To be called on a runtime, for the task that looks again.
    pub(super) fn new(connection: Connection, tuning: &Tuning) -> Arc<Self> {
        let stream_window = u64::from(tuning.stream_window);
        let readers = Arc::new_cyclic(|this| {
            let full = Arc::new(Notify::new());
            let looking = look_again(Weak::clone(this), Arc::clone(&full));
            Self {
                connection,
                step: stream_window + stream_window.div_ceil(GRANTED_BY),
                link_window: u64::from(tuning.link_window),
                link_memory: u64::from(tuning.link_memory),
                still: AtomicUsize::new(0),
                raised: Mutex::new(Raised {
                    readers: 0,
                    peer: Starved::unknown(0),
                }),
                readers: Mutex::default(),
                epoch: Instant::now(),
                memory: Arc::clone(&tuning.buffer_memory),
                is_full: AtomicBool::new(false),
                full,
                _looking: AbortOnDropHandle::new(tokio::spawn(looking.in_current_span())),
            }
        });
        let mut links = lock(&readers.memory.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&readers));
        drop(links);
        readers
    }

    /// Enters the receiving half of a call.
    pub(super) fn enter(self: &Arc<Self>, recv: RecvHalf) -> Reader {
        let stream = Arc::new(Stream {
            still_since: AtomicU64::new(0),
            recv: Mutex::new(Some(recv)),
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

    /// A reader has stopped, for a moment or for good.
    fn one_more(&self) {
        if self.still.fetch_add(1, Ordering::Relaxed) >= SPARE {
            self.raise();
        }
    }

    /// A reader reads on, or is gone.
    fn one_less(&self) {
        let still = self.still.fetch_sub(1, Ordering::Relaxed) - 1;
        // Only who crosses a multiple looks closer, so that most need no lock.
        if still.is_multiple_of(KEEP) {
            self.lower(if still == 0 { 0 } else { KEEP });
        }
    }

    /// For how many readers the window should be raised.
    fn wanted(&self) -> usize {
        self.still.load(Ordering::Relaxed).saturating_sub(SPARE)
    }

    /// Raises the window to what is wanted, or leaves a ceiling that it meets to [`look_again`].
    fn raise(&self) {
        if self.try_raise().is_some() && !self.is_full.swap(true, Ordering::Relaxed) {
            self.full.notify_one();
        }
    }

    /// At a ceiling, gives up one reader if the peer waits for credit.
    fn relieve(&self) {
        let Some(ceiling) = self.try_raise() else { return };
        if !self.is_starved() {
            return;
        }
        let relieved = match ceiling {
            Ceiling::Link => self.stillest().is_some_and(|(_, stream)| {
                self.give_up(&stream, ceiling);
                true
            }),
            Ceiling::Process => self.memory.make_room(self),
        };
        if relieved {
            // Small credit is not granted before more comes together. This grants it, and asks whether it is enough.
            let mut raised = lock(&self.raised);
            raised.peer.ask(self.blocked(), Instant::now());
            self.apply(&raised);
        }
    }

    /// Whether the peer waits for credit, as far as it is known by now.
    fn is_starved(&self) -> bool {
        let mut raised = lock(&self.raised);
        let asked = raised.peer.is_asked();
        let rtt = self.connection.min_rtt();
        raised.peer.look(self.blocked(), Instant::now(), rtt);
        if raised.peer.is_asked() != asked {
            self.apply(&raised);
        }
        raised.peer.is_so()
    }

    /// How often the peer has said that it waits for the link's credit.
    fn blocked(&self) -> u64 {
        self.connection.stats().frame_rx.data_blocked
    }

    /// Raises the window as far as it may be, and says what kept it from more.
    fn try_raise(&self) -> Option<Ceiling> {
        let mut raised = lock(&self.raised);
        let before = raised.readers;
        let ceiling = loop {
            if raised.readers >= self.wanted() {
                break None;
            }
            if self.window(raised.readers + 1) > self.link_memory {
                break Some(Ceiling::Link);
            }
            if !self.memory.take(self.step) {
                break Some(Ceiling::Process);
            }
            raised.readers += 1;
        };
        if raised.readers > before {
            raised.peer = Starved::unknown(self.blocked());
            self.apply(&raised);
        }
        ceiling
    }

    /// Lowers the window to what is wanted, if it is above that for more than `keep` readers. Says whether it was.
    fn lower(&self, keep: usize) -> bool {
        let mut raised = lock(&self.raised);
        let wanted = self.wanted();
        if raised.readers <= wanted + keep {
            return false;
        }
        self.memory
            .give_back((raised.readers - wanted) as u64 * self.step);
        raised.readers = wanted;
        self.apply(&raised);
        true
    }

    fn window(&self, readers: usize) -> u64 {
        self.link_window + readers as u64 * self.step
    }

    fn apply(&self, raised: &Raised) {
        let little = if raised.peer.is_asked() { A_LITTLE } else { 0 };
        let window = VarInt::from_u64(self.window(raised.readers) + little).unwrap_or(VarInt::MAX);
        self.connection.set_receive_window(window);
    }

    /// The stream that has stood still longest, and for how long.
    fn stillest(&self) -> Option<(Duration, Arc<Stream>)> {
        let now = self.epoch.elapsed();
        let readers = lock(&self.readers);
        let still = readers.iter().filter_map(|(_, stream)| {
            let since = stream.still_since.load(Ordering::Relaxed);
            let still = now.saturating_sub(Duration::from_micros(since));
            (since > 0 && still >= PATIENCE).then_some((still, stream))
        });
        still
            .max_by_key(|(still, _)| *still)
            .map(|(still, stream)| (still, Arc::clone(stream)))
    }

    /// Takes a stream from its reader, whose next read says so. Its bytes are freed and their credit is given back.
    fn give_up(&self, stream: &Stream, ceiling: Ceiling) {
        if stream.still_since.swap(0, Ordering::Relaxed) == 0 {
            // It reads on, just now.
            return;
        }
        let still = self.still.fetch_sub(1, Ordering::Relaxed) - 1;
        if let Some(mut recv) = lock(&stream.recv).take() {
            recv.stop(Code::EXCESSIVE_LOAD);
            warn!(
                peer = %self.connection.remote_address(),
                ?ceiling,
                still,
                "gave up the call whose reader has stood still longest: received bytes are at their ceiling"
            );
        }
        self.lower(0);
    }
}

/// Looks after a link at a ceiling for as long as it is there: its readers stand still, so it may be that nobody else does.
async fn look_again(readers: Weak<Readers>, full: Arc<Notify>) {
    loop {
        full.notified().await;
        tokio::time::sleep(LOOK).await;
        let Some(readers) = readers.upgrade() else { return };
        readers.relieve();
        readers.is_full.store(false, Ordering::Relaxed);
        readers.raise();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let raised = lock(&self.raised).readers;
        self.memory.give_back(raised as u64 * self.step);
    }
}

impl Reader {
    /// The receiving half: `None` once it has been given up because its reader stood still.
    pub(super) fn recv(&self) -> MutexGuard<'_, Option<RecvHalf>> {
        lock(&self.stream.recv)
    }

    /// The link's connection, to be closed when the peer breaks a rule that concerns more than this stream.
    pub(super) fn connection(&self) -> &Connection {
        &self.readers.connection
    }

    /// Something was handed to whoever reads, and until they ask for more they stand still.
    pub(super) fn stands_still(&self) {
        let now = u64::try_from(self.readers.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        if self.stream.still_since.swap(now.max(1), Ordering::Relaxed) == 0 {
            self.readers.one_more();
        }
    }

    /// Whoever reads asks for more.
    pub(super) fn reads(&self) {
        if self.stream.still_since.swap(0, Ordering::Relaxed) != 0 {
            self.readers.one_less();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reads();
        lock(&self.readers.readers).try_remove(self.key);
    }
}

/// A panic elsewhere leaves these as they are: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
