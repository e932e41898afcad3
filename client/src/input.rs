//! Where requests come from: the command line itself, a file, or standard input; read in pieces,
//! cut into messages as they arrive.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::mpsc;

use crate::codec::{DecodeError, DecodeOptions, PayloadCodec, PayloadDecoder};

/// How much is read from a file or a pipe at once, in bytes.
const PIECE: usize = 64 * 1024;
/// How many pieces may wait to be decoded.
const PIECES_WAITING: usize = 2;

/// What `-d` says: `DATA`, `@FILE`, or `@-` for standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The messages themselves.
    Inline(String),
    /// A file that holds them.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// What has been read of an input: see [`Input::hold`].
    Held {
        /// All of it.
        bytes: Bytes,
        /// What was read.
        of: Box<Input>,
    },
}

impl FromStr for Input {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            Some("-") => Self::Stdin,
            Some(path) => Self::File(path.into()),
            None => Self::Inline(text.to_owned()),
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("the data given"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
            Self::Held { of, .. } => of.fmt(f),
        }
    }
}

impl Input {
    /// The same input, read to its end, so that several calls can be given it: a pipe can be read once.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has more than `limit` bytes.
    pub async fn hold(self, limit: usize) -> Result<Self, InputError> {
        if matches!(self, Self::Inline(_) | Self::Held { .. }) {
            return Ok(self);
        }
        let failed = |source| InputError::Read {
            input: self.clone(),
            source,
        };
        let mut pieces = Pieces::open(&self).map_err(failed)?;
        let mut all = BytesMut::new();
        while let Some(piece) = pieces.next().await.map_err(failed)? {
            if all.len() + piece.len() > limit {
                return Err(InputError::TooLong { input: self, limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(Self::Held {
            bytes: all.freeze(),
            of: Box::new(self),
        })
    }
}

/// Why no (further) message came out of an input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The bytes cannot be read.
    #[error("cannot read {input}: {source}")]
    Read {
        /// What was read.
        input: Input,
        /// What the operating system says.
        source: io::Error,
    },
    /// All of it was to be held, and that is too much.
    #[error(
        "{input} has more than {limit} bytes, and all of it is held for several calls; --max-message-size takes more"
    )]
    TooLong {
        /// What was read.
        input: Input,
        /// How much is held.
        limit: usize,
    },
    /// The bytes are not a message of the method.
    #[error("{input}, {source}")]
    Decode {
        /// What was read.
        input: Input,
        /// Where and why.
        source: DecodeError,
    },
}

/// The messages of an input, one at a time.
pub(crate) struct Messages {
    input: Input,
    pieces: Pieces,
    decoder: Box<dyn PayloadDecoder>,
    ended: bool,
}

impl Messages {
    /// Opens the input. A file that is missing is an error here, before any call is made.
    pub(crate) fn open(
        input: Input,
        codec: &dyn PayloadCodec,
        message: MessageDescriptor,
        options: DecodeOptions,
    ) -> Result<Self, InputError> {
        let pieces = Pieces::open(&input).map_err(|source| InputError::Read {
            input: input.clone(),
            source,
        })?;
        Ok(Self {
            input,
            pieces,
            decoder: codec.decoder(message, options),
            ended: false,
        })
    }

    /// The next message as soon as its last byte is there; `None` at the end of the input.
    pub(crate) async fn next(&mut self) -> Result<Option<DynamicMessage>, InputError> {
        loop {
            let decoded = if self.ended {
                self.decoder.finish()
            } else {
                self.decoder.next()
            };
            match decoded {
                Ok(None) if !self.ended => {}
                Ok(message) => return Ok(message),
                Err(source) => {
                    return Err(InputError::Decode {
                        input: self.input.clone(),
                        source,
                    });
                }
            }
            match self.pieces.next().await {
                Ok(Some(piece)) => self.decoder.feed(&piece),
                Ok(None) => self.ended = true,
                Err(source) => {
                    return Err(InputError::Read {
                        input: self.input.clone(),
                        source,
                    });
                }
            }
        }
    }
}

/// The bytes of an input, in pieces.
enum Pieces {
    Whole(Option<Bytes>),
    Read(mpsc::Receiver<io::Result<Bytes>>),
}

impl Pieces {
    fn open(input: &Input) -> io::Result<Self> {
        match input {
            Input::Inline(data) => Ok(Self::Whole(Some(Bytes::from(data.clone())))),
            Input::File(path) => {
                let file = File::open(path)?;
                if file.metadata()?.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Self::read(file)
            }
            Input::Stdin => Self::read(io::stdin()),
            Input::Held { bytes, .. } => Ok(Self::Whole(Some(bytes.clone()))),
        }
    }

    /// Reads on a thread of its own. A read of a terminal or a pipe cannot be interrupted, and a
    /// thread of the runtime's would hold up the runtime's end until somebody typed something; this
    /// one ends with its receiver or, while it is inside a read, with the process.
    fn read(mut source: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                let mut buffer = vec![0; PIECE];
                loop {
                    let piece = match source.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(read) => Ok(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default())),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => Err(error),
                    };
                    let failed = piece.is_err();
                    if sender.blocking_send(piece).is_err() || failed {
                        return;
                    }
                }
            })?;
        Ok(Self::Read(receiver))
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Whole(bytes) => Ok(bytes.take()),
            Self::Read(receiver) => receiver.recv().await.transpose(),
        }
    }
}
