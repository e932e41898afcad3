//! HTTP/2 made by hand: a peer that sends what no library would, and sees each frame that comes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::soon;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame (RFC 9113 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that has sent its preface.
pub(crate) struct Frames(pub(crate) TcpStream);

impl Frame {
    fn new(kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    /// The head of a gRPC call at an agent; `end` says that nothing follows.
    pub(crate) fn call(stream: u32, agent: &str, end: bool) -> Self {
        let mut block = vec![0x83, 0x86]; // POST, http
        block.extend(literals(&[
            (":path", "/a.B/C"),
            (":authority", "hub.example"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("adit-agent", agent),
        ]));
        let flags = if end {
            END_HEADERS | END_STREAM
        } else {
            END_HEADERS
        };
        Self::new(HEADERS, flags, stream, block)
    }

    /// The whole response to a call: status 0, and no message.
    pub(crate) fn answer(stream: u32) -> Self {
        let mut block = vec![0x88]; // 200
        block.extend(literals(&[
            ("content-type", "application/grpc"),
            ("grpc-status", "0"),
        ]));
        Self::new(HEADERS, END_HEADERS | END_STREAM, stream, block)
    }

    /// The peer's calls above `last` were not seen, and no further one will be: GOAWAY with NO_ERROR.
    pub(crate) fn going_away(last: u32) -> Self {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        Self::new(GOAWAY, 0, 0, payload)
    }

    /// The client gives a call up: CANCEL.
    pub(crate) fn reset(stream: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, vec![0, 0, 0, 8])
    }

    /// A question whether everything before it has been read.
    pub(crate) fn ping() -> Self {
        Self::new(PING, 0, 0, vec![7; 8])
    }

    /// The answer to it.
    pub(crate) fn is_pong(&self) -> bool {
        self.kind == PING && self.flags & ACK != 0
    }

    /// A piece of a request.
    pub(crate) fn data(stream: u32, data: &[u8]) -> Self {
        Self::new(DATA, 0, stream, data.to_vec())
    }

    /// The client takes a few more bytes of a response.
    pub(crate) fn credit(stream: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, vec![0, 0, 0, 5])
    }

    /// The end of a request.
    pub(crate) fn end(stream: u32) -> Self {
        Self::new(DATA, END_STREAM, stream, Vec::new())
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The last stream and the code of a GOAWAY.
    pub(crate) fn goaway(&self) -> (u32, u32) {
        assert_eq!(self.kind, GOAWAY, "{self:?}");
        let number = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        (number(0), number(4))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap();
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Fields as literals without indexing, with new names (RFC 7541 §6.2.2).
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

impl Frames {
    pub(crate) async fn connect(hub: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(hub).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let settings = Frame::new(SETTINGS, 0, 0, Vec::new()).bytes();
        let begin = [&PREFACE[..], &settings].concat();
        stream.write_all(&begin).await.unwrap();
        Self(stream)
    }

    /// The server's end of a connection.
    pub(crate) async fn accept(mut stream: TcpStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        soon(stream.read_exact(&mut preface)).await.unwrap();
        assert_eq!(preface, *PREFACE);
        let mut frames = Self(stream);
        let settings = Frame::new(SETTINGS, 0, 0, Vec::new());
        frames.send([settings]).await.unwrap();
        frames
    }

    /// Sends frames in one piece.
    pub(crate) async fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> std::io::Result<()> {
        let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.bytes()).collect();
        soon(self.0.write_all(&bytes)).await
    }

    /// The next frame, `None` at the end; SETTINGS and PING are acknowledged.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        soon(self.arrives()).await
    }

    /// The same of a peer that may be silent for as long as it likes.
    pub(crate) async fn arrives(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.0.read_exact(&mut header).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let echoed = if kind == PING { payload.clone() } else { Vec::new() };
            // The end is seen in what comes.
            let _ = self.send([Frame::new(kind, ACK, 0, echoed)]).await;
        }
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        Some(Frame::new(kind, flags, stream, payload))
    }

    /// The next frame that ends the response to a call, or resets it.
    pub(crate) async fn ended(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection ended");
            if frame.stream == stream && (frame.ends_stream() || frame.kind == RST_STREAM) {
                return frame;
            }
        }
    }

    /// What comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}
