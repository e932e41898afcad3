//! Finds out from the beginning of an input how it is written.

use std::sync::Arc;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{Codecs, DecodeError, DecodeOptions, EncodeError, EncodeOptions, PayloadCodec, PayloadDecoder};

/// How much of a first line is looked at, in bytes.
const BEGINNING: usize = 4096;

/// Reads with the first codec that recognizes the input, and as JSON what none does.
#[derive(Clone, Debug)]
pub struct GuessCodec(Codecs);

impl GuessCodec {
    /// A codec that chooses one of these.
    pub fn new(codecs: Codecs) -> Self {
        Self(codecs)
    }

    fn fallback(&self) -> Arc<dyn PayloadCodec> {
        Arc::new(super::JsonCodec::pretty())
    }
}

impl PayloadCodec for GuessCodec {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(GuessDecoder::Open {
            codec: self.clone(),
            message,
            options,
            read: Vec::new(),
        })
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.fallback().encode(message, options, out)
    }
}

enum GuessDecoder {
    /// Too little has been read.
    Open {
        codec: GuessCodec,
        message: MessageDescriptor,
        options: DecodeOptions,
        read: Vec<u8>,
    },
    Chosen(Box<dyn PayloadDecoder>),
}

impl PayloadDecoder for GuessDecoder {
    fn feed(&mut self, piece: &[u8]) {
        match self {
            Self::Open { read, .. } => {
                read.extend_from_slice(piece);
                self.choose(false);
            }
            Self::Chosen(decoder) => decoder.feed(piece),
        }
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        match self {
            Self::Open { .. } => Ok(None),
            Self::Chosen(decoder) => decoder.next(),
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if let Self::Open { .. } = self {
            self.choose(true);
            // What was kept back until now may hold more than one message.
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
        }
        match self {
            Self::Open { .. } => Ok(None),
            Self::Chosen(decoder) => match decoder.next()? {
                Some(message) => Ok(Some(message)),
                None => decoder.finish(),
            },
        }
    }
}

impl GuessDecoder {
    /// Chooses a codec if what was read is enough for it, or at the input's end.
    fn choose(&mut self, ended: bool) {
        let Self::Open {
            codec,
            message,
            options,
            read,
        } = self
        else {
            return;
        };
        let beginning = beginning(read);
        let recognized =
            (codec.0.0.iter()).find(|codec| !beginning.is_empty() && codec.recognizes(beginning));
        let enough = ended || beginning.contains(&b'\n') || beginning.len() >= BEGINNING;
        let chosen = match recognized {
            Some(codec) => codec.clone(),
            None if enough => codec.fallback(),
            None => return,
        };
        let mut decoder = chosen.decoder(message.clone(), *options);
        decoder.feed(read);
        *self = Self::Chosen(decoder);
    }
}

/// What was read without white space and comments (`#`) before it.
fn beginning(read: &[u8]) -> &[u8] {
    let mut rest = read.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(read);
    loop {
        rest = rest.trim_ascii_start();
        if !rest.starts_with(b"#") {
            return rest;
        }
        match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => rest = rest.get(end..).unwrap_or_default(),
            None => return &[],
        }
    }
}
