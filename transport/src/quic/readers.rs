//! What received bytes may cost: readers that have stopped, and the window that makes up for them.
//!
//! QUIC has one credit for all streams of a connection. A call whose reader has stopped keeps up to a stream window of
//! it, and a few such calls would leave nothing for the live ones. So the link's window grows by a stream window for
//! each of them, up to a ceiling for the link and one for the process; past either, the call that has stood still
//! longest is given up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};
use slab::Slab;
use tracing::warn;

use super::stream::RecvHalf;
use crate::rh3::code::Code;
use crate::tuning::Tuning;

/// Every busy reader stands still for a moment between two reads. The window is not raised for fewer than this many.
const SPARE: usize = 4;

/// How far the window may stay above what is needed before it is lowered.
const KEEP: usize = 16;

/// A reader that has stood still for less than this is never given up: it may only be busy.
const PATIENCE: Duration = Duration::from_millis(200);

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
    stream_window: u64,
    link_window: u64,
    link_memory: u64,
    /// Readers that stand still.
    still: AtomicUsize,
    /// For how many of them the window is raised.
    raised: Mutex<usize>,
    readers: Mutex<Slab<Arc<Stream>>>,
    epoch: Instant,
}

/// The stream that one reader reads.
#[derive(Debug)]
struct Stream {
    /// Milliseconds after the epoch at which it was last read, and 0 while it waits for data.
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

    /// Takes what one more stopped reader may hold, if there is room.
    fn take(&self, bytes: u64) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&used| used <= self.limit)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives up the call that has stood still longest, on whichever link.
    fn give_up_stillest(&self) {
        let links: Vec<_> = lock(&self.links).iter().filter_map(Weak::upgrade).collect();
        let stillest = links.iter().filter_map(|link| Some((link, link.stillest()?)));
        if let Some((link, (_, stream))) = stillest.max_by_key(|(_, (still, _))| *still) {
            link.give_up(&stream, "process");
        }
    }
}

impl Readers {
    pub(super) fn new(connection: Connection, tuning: &Tuning) -> Arc<Self> {
        let readers = Arc::new(Self {
            connection,
            stream_window: u64::from(tuning.stream_window),
            link_window: u64::from(tuning.link_window),
            link_memory: u64::from(tuning.link_memory),
            still: AtomicUsize::new(0),
            raised: Mutex::new(0),
            readers: Mutex::default(),
            epoch: Instant::now(),
            memory: Arc::clone(&tuning.buffer_memory),
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

    /// A reader has stopped, for a moment or for good.
    fn one_more(&self) {
        let still = self.still.fetch_add(1, Ordering::Relaxed) + 1;
        if still > SPARE {
            self.raise(still - SPARE);
        }
    }

    /// A reader reads on, or is gone.
    fn one_less(&self) {
        let still = self.still.fetch_sub(1, Ordering::Relaxed) - 1;
        // Only who crosses a multiple looks closer, so that most need no lock.
        if still.is_multiple_of(KEEP) {
            self.lower(still.saturating_sub(SPARE));
        }
    }

    fn raise(&self, wanted: usize) {
        let mut raised = lock(&self.raised);
        while *raised < wanted {
            let above = self.link_window + (*raised as u64 + 1) * self.stream_window;
            if above > self.link_memory {
                if let Some((_, stream)) = self.stillest() {
                    self.give_up(&stream, "link");
                }
                break;
            }
            if !self.memory.take(self.stream_window) {
                self.memory.give_up_stillest();
                break;
            }
            *raised += 1;
        }
        self.apply(*raised);
    }

    fn lower(&self, wanted: usize) {
        let mut raised = lock(&self.raised);
        if *raised > wanted {
            self.memory
                .give_back((*raised - wanted) as u64 * self.stream_window);
            *raised = wanted;
            self.apply(wanted);
        }
    }

    fn apply(&self, raised: usize) {
        let window = self.link_window + raised as u64 * self.stream_window;
        self.connection
            .set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
    }

    /// The stream that has stood still longest, and for how long.
    fn stillest(&self) -> Option<(Duration, Arc<Stream>)> {
        let now = self.epoch.elapsed();
        let readers = lock(&self.readers);
        let still = readers.iter().filter_map(|(_, stream)| {
            let since = stream.still_since.load(Ordering::Relaxed);
            let still = now.saturating_sub(Duration::from_millis(since));
            (since > 0 && still >= PATIENCE).then_some((still, stream))
        });
        still
            .max_by_key(|(still, _)| *still)
            .map(|(still, stream)| (still, Arc::clone(stream)))
    }

    /// Takes a stream from its reader, whose next read says so. Its bytes are freed and their credit is given back.
    fn give_up(&self, stream: &Stream, ceiling: &'static str) {
        if stream.still_since.swap(0, Ordering::Relaxed) == 0 {
            // It reads on, just now.
            return;
        }
        let still = self.still.fetch_sub(1, Ordering::Relaxed) - 1;
        if let Some(mut recv) = lock(&stream.recv).take() {
            recv.stop(Code::EXCESSIVE_LOAD);
            warn!(
                peer = %self.connection.remote_address(),
                ceiling,
                still,
                "gave up the call whose reader has stood still longest: received bytes are at their ceiling"
            );
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let raised = *lock(&self.raised);
        self.memory.give_back(raised as u64 * self.stream_window);
    }
}

impl Reader {
    /// The receiving half: `None` once it has been given up because its reader stood still.
    pub(super) fn recv(&self) -> MutexGuard<'_, Option<RecvHalf>> {
        lock(&self.stream.recv)
    }

    /// Something was handed to whoever reads, and until they ask for more they stand still.
    pub(super) fn stands_still(&self) {
        let now = u64::try_from(self.readers.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
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
