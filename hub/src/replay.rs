//! A request's body, kept for as long as its call may have to be made a second time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use adit_transport::{Body, BodyError, Code};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Bytes of a request that are kept. A call that has sent more is made once.
pub const MAX_REPLAY: usize = 64 << 10;

/// Pieces of a request that are kept: each costs memory beside its bytes.
const MAX_PIECES: usize = 256;

/// A request's body, of which each attempt at the call is given all.
#[derive(Debug)]
pub(crate) struct Replay<B>(Arc<Mutex<Source<B>>>);

#[derive(Debug)]
struct Source<B> {
    body: B,
    /// What has come so far.
    kept: Vec<Piece>,
    bytes: usize,
    keeping: Keeping,
    /// Earlier attempts get nothing more.
    attempt: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Everything that has come is kept.
    All,
    /// Too much came: there is no further attempt.
    Overrun,
    /// The call has been answered: there is no further attempt.
    Done,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body of one attempt: what earlier ones were given, and then the rest.
#[derive(Debug)]
struct Attempt<B> {
    source: Arc<Mutex<Source<B>>>,
    number: usize,
    next: usize,
}

impl<B> Replay<B>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
{
    pub(crate) fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Source {
            body,
            kept: Vec::new(),
            bytes: 0,
            keeping: Keeping::All,
            attempt: 0,
        })))
    }

    /// The whole body for one more attempt. An earlier one gets no more of it.
    pub(crate) fn attempt(&self) -> Body {
        let mut source = lock(&self.0);
        source.attempt += 1;
        Body::new(Attempt {
            source: Arc::clone(&self.0),
            number: source.attempt,
            next: 0,
        })
    }

    /// Whether a further attempt would be given all of the body.
    pub(crate) fn is_whole(&self) -> bool {
        lock(&self.0).keeping == Keeping::All
    }

    /// There will be no further attempt: nothing is kept any more.
    pub(crate) fn answered(self) {
        lock(&self.0).keeping = Keeping::Done;
    }
}

impl<B> HttpBody for Attempt<B>
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut source = lock(&this.source);
        // However the client gives a call up, and hyper doesn't say, the agent is told that it is cancelled; and so it
        // is of an attempt that another has followed.
        let cancelled = Poll::Ready(Some(Err(BodyError::Reset(Code::REQUEST_CANCELLED))));
        if source.attempt != this.number {
            return cancelled;
        }
        if let Some(piece) = source.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(piece.clone().into())));
        }
        if source.keeping != Keeping::All && this.next > 0 {
            source.kept = Vec::new();
            this.next = 0;
        }
        match ready!(Pin::new(&mut source.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if source.keep(&frame) {
                    this.next += 1;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => cancelled,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        source.attempt == self.number && self.next >= source.kept.len() && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.source);
        if self.next >= source.kept.len() {
            source.body.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

impl<B> Source<B> {
    /// Keeps a frame, where that is still wanted and not too much.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.keeping != Keeping::All {
            return false;
        }
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return false,
        };
        self.bytes += match &piece {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        };
        if self.bytes > MAX_REPLAY || self.kept.len() >= MAX_PIECES {
            // The attempt that is under way has had all of it.
            self.keeping = Keeping::Overrun;
            return false;
        }
        self.kept.push(piece);
        true
    }
}

impl From<Piece> for Frame<Bytes> {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

fn lock<B>(source: &Mutex<Source<B>>) -> MutexGuard<'_, Source<B>> {
    // A panic in the client's body has reset the client's stream already.
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
