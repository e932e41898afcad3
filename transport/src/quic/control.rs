//! The unidirectional streams of a link: settings, GOAWAY, and what HTTP/3 says of all the others.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quinn::{Connection, RecvStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::close_for;
use super::stream::{RecvHalf, SendHalf, Senders};
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::ProtocolError;
use crate::rh3::frame::{Frame, FrameDecoder, put_goaway, put_reserved, stream_type};
use crate::rh3::qpack::instructions::{DecoderInstructions, check_encoder_instructions};
use crate::rh3::settings::Settings;
use crate::rh3::varint as h3_varint;

/// How long a peer may take to let this end open its control stream.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take to show that it has heard a GOAWAY.
const HEARING_TIMEOUT: Duration = Duration::from_secs(3);

/// No GOAWAY has come.
const NO_GOAWAY: u64 = u64::MAX;

/// The wish to send a GOAWAY.
pub(super) struct GoAway {
    /// The peer's first stream that is not and will not be looked at.
    pub(super) first: u64,
    /// Told when the frame is on its way.
    pub(super) sent: oneshot::Sender<()>,
}

/// What the peer has said on its control stream.
#[derive(Debug)]
pub(super) struct Peer {
    settings: OnceLock<Settings>,
    goaway: AtomicU64,
    drained: Notify,
    /// Nothing more will be heard.
    silent: CancellationToken,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            settings: OnceLock::new(),
            goaway: AtomicU64::new(NO_GOAWAY),
            drained: Notify::new(),
            silent: CancellationToken::new(),
        }
    }

    /// Waits until all is known that the peer said before its link was lost: what had been received by then is still
    /// read.
    pub(super) async fn last_words(&self) {
        self.silent.cancelled().await;
    }

    /// Waits for a GOAWAY.
    pub(super) async fn draining(&self) {
        // Listened for before the look, so that it can't come between the two.
        let mut drained = pin!(self.drained.notified());
        drained.as_mut().enable();
        if !self.is_draining() {
            drained.await;
        }
    }

    /// The longest header section that the peer takes. Unlimited until its settings are here (RFC 9114 §7.2.4.2).
    pub(super) fn max_header_section(&self) -> u64 {
        self.settings
            .get()
            .and_then(|settings| settings.max_field_section_size)
            .unwrap_or(u64::MAX)
    }

    /// Whether a GOAWAY has come.
    pub(super) fn is_draining(&self) -> bool {
        self.goaway.load(Ordering::Relaxed) != NO_GOAWAY
    }

    /// Whether a GOAWAY says that the request on this stream was not and will not be looked at.
    pub(super) fn disowns(&self, stream: u64) -> bool {
        self.goaway.load(Ordering::Relaxed) <= stream
    }

    /// Of an agent: the first of the hub's streams that it did not and will not look at. What a hub says names a
    /// push, and stops nothing. That the id is right is the decoder's business.
    fn goaway(&self, id: u64, role: Role) {
        if role == Role::Client {
            self.goaway.store(id, Ordering::Relaxed);
            self.drained.notify_waiters();
        }
    }
}

/// Sends this end's settings, then watches the peer's unidirectional streams until the link ends, and sends what comes
/// through `goaways`.
///
/// Closes the link when the peer breaks the protocol on one of them.
pub(super) async fn watch(
    connection: &Connection,
    peer: &Peer,
    senders: &Arc<Senders>,
    role: Role,
    max_header_section: u32,
    mut goaways: mpsc::Receiver<GoAway>,
) {
    let _silent = peer.silent.clone().drop_guard();
    // Closing a control stream is an error (RFC 9114 §6.2.1): this one lives as long as the link.
    let mut control = match timeout(CONTROL_TIMEOUT, open(connection, senders, max_header_section)).await {
        Ok(Ok(control)) => control,
        Ok(Err(_)) => return,
        Err(_) => {
            let reason = "no unidirectional stream was granted for the control stream";
            return close_for(
                connection,
                &ProtocolError::connection(Code::STREAM_CREATION_ERROR, reason),
            );
        }
    };
    let seen = Seen::default();
    let follow = Notify::new();
    let mut tail = pin!(senders.tail.watch(connection, &follow));
    // Of a frame that means nothing, what has found no credit yet: whatever is written next follows it.
    let mut meaningless = Bytes::new();
    let mut readers = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(GoAway { first, sent }) = goaways.recv() => {
                let mut frame = BytesMut::from(&std::mem::take(&mut meaningless)[..]);
                put_goaway(&mut frame, first);
                // A peer that grants no room for it is told by the end of the link.
                if let Ok(Ok(())) = timeout(CONTROL_TIMEOUT, control.write(&mut [frame.freeze()])).await {
                    // Nobody may wait any more.
                    let _ = sent.send(());
                }
            }
            never = &mut tail => match never {},
            () = follow.notified() => {
                if meaningless.is_empty() {
                    let mut frame = BytesMut::new();
                    put_reserved(&mut frame);
                    meaningless = frame.freeze();
                }
                // Only the end of the link stops it, which is seen below.
                let _ = control.write_now(&mut meaningless);
            }
            accepted = connection.accept_uni() => match accepted {
                Ok(stream) => readers.push(read(stream, peer, role, &seen)),
                Err(_) => break,
            },
            Some(read) = readers.next() => if let Err(error) = read {
                // The streams of a link that has ended have ended too, which is nobody's fault.
                if connection.close_reason().is_none() {
                    close_for(connection, &error);
                }
                return;
            },
        }
    }
    // The link has ended, and with it its streams: once what they have received is read.
    while readers.next().await.is_some() {}
}

/// Waits until the peer has received what was sent so far, or has had the time to.
///
/// QUIC tells a sender only of single streams what has arrived. So one that means nothing is sent after all others: a
/// peer that takes no such streams stops it once it has come to it, after what came before, and any other's QUIC
/// acknowledges it. What was lost on the way may still be late.
pub(super) async fn heard(connection: &Connection, senders: &Arc<Senders>) {
    let hearing = async {
        let mut marker = SendHalf::new(connection.open_uni().await.ok()?, senders);
        marker.let_all_others_go_first();
        let mut kind = BytesMut::new();
        h3_varint::put(&mut kind, stream_type::RESERVED);
        marker.write(&mut [kind.freeze()]).await.ok()?;
        marker.finish();
        marker.stopped().await.ok()
    };
    // A link that is lost meanwhile has nobody to hear.
    let _ = timeout(HEARING_TIMEOUT, hearing).await;
}

async fn open(
    connection: &Connection,
    senders: &Arc<Senders>,
    max_header_section: u32,
) -> Result<SendHalf, quinn::WriteError> {
    let mut control = SendHalf::new(connection.open_uni().await?, senders);
    control.raise_priority();
    let mut hello = BytesMut::new();
    h3_varint::put(&mut hello, stream_type::CONTROL);
    Settings::new(u64::from(max_header_section)).encode(&mut hello);
    control.write(&mut [hello.freeze()]).await?;
    Ok(control)
}

/// Which of the streams that there may be only one of have come.
#[derive(Default)]
struct Seen {
    control: OnceLock<()>,
    encoder: OnceLock<()>,
    decoder: OnceLock<()>,
}

/// Reads one unidirectional stream of the peer to its end.
async fn read(stream: RecvStream, peer: &Peer, role: Role, seen: &Seen) -> Result<(), ProtocolError> {
    let mut stream = Reader {
        recv: RecvHalf::new(stream, Code::STREAM_CREATION_ERROR),
        segments: VecDeque::new(),
    };
    let Some(kind) = stream.kind().await else {
        return Ok(());
    };
    let first = match kind {
        stream_type::CONTROL => seen.control.set(()),
        stream_type::QPACK_ENCODER => seen.encoder.set(()),
        stream_type::QPACK_DECODER => seen.decoder.set(()),
        // The hub asked for no pushes, and an agent takes none: RFC 9114 §4.6, §6.2.2.
        stream_type::PUSH => {
            let code = match role {
                Role::Client => Code::ID_ERROR,
                Role::Server => Code::STREAM_CREATION_ERROR,
            };
            return Err(ProtocolError::connection(
                code,
                "a push stream, and no push was allowed",
            ));
        }
        // RFC 9114 §6.2: of an unknown type, reading may be aborted. The drop does that.
        _ => return Ok(()),
    };
    if first.is_err() {
        return Err(ProtocolError::connection(
            Code::STREAM_CREATION_ERROR,
            format!("a second unidirectional stream of type {kind:#x}"),
        ));
    }
    match kind {
        stream_type::CONTROL => {
            let mut frames = FrameDecoder::control(role);
            while let Some(segment) = stream.next().await {
                frames.push(segment);
                while let Some(frame) = frames.next_frame()? {
                    match frame {
                        Frame::Settings(settings) => {
                            let _ = peer.settings.set(settings);
                        }
                        Frame::GoAway(id) => peer.goaway(id, role),
                        Frame::Headers(_) | Frame::Data(_) => {}
                    }
                }
            }
        }
        stream_type::QPACK_ENCODER => {
            while let Some(segment) = stream.next().await {
                check_encoder_instructions(&segment)?;
            }
        }
        _ => {
            let mut instructions = DecoderInstructions::default();
            while let Some(segment) = stream.next().await {
                instructions.check(&segment)?;
            }
        }
    }
    Err(ProtocolError::connection(
        Code::CLOSED_CRITICAL_STREAM,
        format!("the unidirectional stream of type {kind:#x} was closed"),
    ))
}

/// A unidirectional stream's bytes, as they come.
struct Reader {
    recv: RecvHalf,
    segments: VecDeque<Bytes>,
}

impl Reader {
    /// `None` at the end, and when the stream or the link is lost: the loop over it then ends as well.
    async fn next(&mut self) -> Option<Bytes> {
        while self.segments.is_empty() {
            poll_fn(|cx| self.recv.poll_read(cx, &mut self.segments))
                .await
                .ok()
                .flatten()?;
        }
        self.segments.pop_front()
    }

    /// The stream's type.
    async fn kind(&mut self) -> Option<u64> {
        let mut kind = h3_varint::Decoder::default();
        loop {
            let mut segment = self.next().await?;
            if let Some(kind) = kind.take(&mut segment) {
                self.segments.push_front(segment);
                return Some(kind);
            }
        }
    }
}
