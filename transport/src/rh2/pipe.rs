//! The bytes below HTTP/2: what h2 reads from and writes to, watched frame by frame.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::frames::{GoAway, PREFACE, Scanner, kind};
use crate::liveness::Activity;
use crate::rh3::Role;
use crate::wire::Wire;

/// What both the connection of h2 and its driver hold: the bytes outlive h2, because a link's last words are not h2's.
pub(super) struct Pipe {
    io: Mutex<Io>,
    /// Signs of life of the peer.
    received: AtomicU64,
    /// Frames that the peer would answer, if asked.
    sent: AtomicU64,
    /// Frames of calls that have come, and those that give credit for what was read of them.
    carried: AtomicU64,
    /// Bytes of calls' bodies that have come.
    pub(super) data: AtomicU64,
    /// The longest header section that the peer takes.
    pub(super) max_header_list: AtomicU32,
    /// The peer has said GOAWAY.
    pub(super) draining: CancellationToken,
    goaway: Mutex<Option<GoAway>>,
    /// The peer sends nothing more.
    ended: AtomicBool,
    /// Why the bytes ended, as the system says it.
    pub(super) broken: OnceLock<io::ErrorKind>,
}

struct Io {
    wire: Box<dyn Wire>,
    incoming: Scanner,
    outgoing: Scanner,
    /// No frame is begun any more.
    frozen: bool,
    /// The wire took nothing when it was last written to.
    blocked: bool,
    /// Who waits for the last frame of a stream to leave.
    ends: HashMap<u32, oneshot::Sender<()>>,
}

/// h2's handle.
pub(super) struct Tap(pub(super) Arc<Pipe>);

impl Pipe {
    /// `role` is this end's in HTTP: the client writes the preface.
    pub(super) fn new(wire: Box<dyn Wire>, role: Role) -> Arc<Self> {
        let (incoming, outgoing) = match role {
            Role::Client => (0, PREFACE),
            Role::Server => (PREFACE, 0),
        };
        Arc::new(Self {
            io: Mutex::new(Io {
                wire,
                incoming: Scanner::new(incoming),
                outgoing: Scanner::new(outgoing),
                frozen: false,
                blocked: false,
                ends: HashMap::new(),
            }),
            received: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            data: AtomicU64::new(0),
            max_header_list: AtomicU32::new(u32::MAX),
            draining: CancellationToken::new(),
            goaway: Mutex::new(None),
            ended: AtomicBool::new(false),
            broken: OnceLock::new(),
        })
    }

    pub(super) fn activity(&self) -> Activity {
        Activity {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            carried: self.carried.load(Ordering::Relaxed),
        }
    }

    /// Something that was sent before is still to be answered.
    pub(super) fn wants_sign(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// What the peer said last of its end.
    pub(super) fn goaway(&self) -> Option<GoAway> {
        lock(&self.goaway).clone()
    }

    /// Whether the peer has said that it never looked at the stream.
    pub(super) fn disowns(&self, stream: u32) -> bool {
        lock(&self.goaway)
            .as_ref()
            .is_some_and(|goaway| stream > goaway.last)
    }

    /// Whether the peer has ended its direction.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Has no further frame begin.
    pub(super) fn freeze(&self) {
        self.io().frozen = true;
    }

    /// Whether a frame may begin here.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.io().outgoing.until_boundary() == 0
    }

    /// Told when the last frame of `stream` has left. To be asked for before that frame is made.
    pub(super) fn end_of(&self, stream: u32) -> oneshot::Receiver<()> {
        let (left, told) = oneshot::channel();
        let mut io = self.io();
        io.ends.retain(|_, left| !left.is_closed());
        io.ends.insert(stream, left);
        told
    }

    /// Says `goaway` in place of anything else, and [hears the peer out](Self::hear_out). To be called when h2 is gone.
    pub(super) async fn say_goodbye(&self, goaway: &GoAway) -> io::Result<()> {
        let mut last_words = goaway.encode();
        while last_words.has_remaining() {
            let written =
                std::future::poll_fn(|cx| Pin::new(&mut self.io().wire).poll_write(cx, &last_words));
            match written.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => last_words.advance(written),
            }
        }
        std::future::poll_fn(|cx| Pin::new(&mut self.io().wire).poll_flush(cx)).await?;
        self.hear_out().await
    }

    /// Ends this direction, and reads what comes until the peer ends the other: a socket that is closed with bytes unread throws
    /// away those that are on their way.
    pub(super) async fn hear_out(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| Pin::new(&mut self.io().wire).poll_shutdown(cx)).await?;
        let mut scrap = [0; 4096];
        loop {
            let mut scrap = ReadBuf::new(&mut scrap);
            std::future::poll_fn(|cx| Pin::new(&mut self.io().wire).poll_read(cx, &mut scrap)).await?;
            if scrap.filled().is_empty() {
                return Ok(());
            }
        }
    }

    /// Has the wire's end not wait for the peer.
    pub(super) fn abort(&self) {
        self.io().wire.abort();
    }

    /// Lets go of the wire, which closes it: whoever still holds the pipe has only its numbers.
    pub(super) fn let_go(&self) {
        self.io().wire = Box::new(tokio::io::empty());
    }

    fn io(&self) -> MutexGuard<'_, Io> {
        lock(&self.io)
    }

    fn came(&self, io: &mut Io, bytes: &[u8]) {
        self.received.fetch_add(1, Ordering::Relaxed);
        io.incoming.scan(bytes, |frame| {
            if let Some(limit) = frame.max_header_list() {
                self.max_header_list.store(limit, Ordering::Relaxed);
            }
            if let Some(goaway) = frame.goaway() {
                *lock(&self.goaway) = Some(goaway);
                self.draining.cancel();
            }
            let credit = frame.kind == kind::WINDOW_UPDATE;
            self.carried
                .fetch_add(u64::from(frame.stream != 0 || credit), Ordering::Relaxed);
            if frame.kind == kind::DATA {
                self.data.fetch_add(frame.length as u64, Ordering::Relaxed);
            }
        });
    }

    fn left(&self, io: &mut Io, slices: &[io::IoSlice<'_>], mut written: usize) {
        let Io { outgoing, ends, .. } = io;
        let mut sent = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(written)];
            written -= part.len();
            outgoing.scan(part, |frame| {
                sent += u64::from(frame.wants_sign());
                if !ends.is_empty() && frame.ends_stream() {
                    // Dropped, where nobody waits any more.
                    let _ = ends.remove(&frame.stream).map(|left| left.send(()));
                }
            });
            if written == 0 {
                break;
            }
        }
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

    fn note<T>(&self, result: &io::Result<T>) {
        if let Err(error) = result {
            let _ = self.broken.set(error.kind());
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut guard = self.io();
        let io = &mut *guard;
        let first;
        let slices = if io.frozen {
            let most = io.outgoing.until_boundary();
            let slice = slices.iter().find(|slice| !slice.is_empty());
            match slice {
                // The driver sees to what follows: nothing of h2's does.
                _ if most == 0 => return Poll::Pending,
                Some(slice) => {
                    first = [io::IoSlice::new(&slice[..slice.len().min(most)])];
                    &first[..]
                }
                None => slices,
            }
        } else {
            slices
        };
        let wire = Pin::new(&mut io.wire);
        let written = match slices {
            [slice] => wire.poll_write(cx, slice),
            slices => wire.poll_write_vectored(cx, slices),
        };
        if written.is_pending() {
            io.blocked = true;
            return Poll::Pending;
        }
        let written = ready!(written);
        self.note(&written);
        let written = written?;
        if std::mem::take(&mut io.blocked) {
            // Room is there again because the other end's system has acknowledged what was sent before.
            self.received.fetch_add(1, Ordering::Relaxed);
        }
        self.left(io, slices, written);
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pipe = &*self.0;
        let mut io = pipe.io();
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut io.wire).poll_read(cx, buf));
        pipe.note(&read);
        read?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() {
            pipe.ended.store(true, Ordering::Relaxed);
        } else {
            pipe.came(&mut io, bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.io().wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.0.io().wire).poll_flush(cx));
        self.0.note(&flushed);
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.io().wire).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe")
            .field("activity", &self.activity())
            .finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves these as they are: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
