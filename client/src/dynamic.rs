//! Messages without generated code, on the wire: a tonic codec whose messages are described at run
//! time.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What is said of a message that cannot be decoded.
pub(crate) const MISMATCH: &str = "the schema does not match the service";

/// Encodes any message; decodes messages of one type.
#[derive(Clone)]
pub struct DynamicCodec {
    decoded: MessageDescriptor,
}

impl DynamicCodec {
    /// A codec that decodes messages of type `decoded`: a client's answers, a server's requests.
    pub fn new(decoded: MessageDescriptor) -> Self {
        Self { decoded }
    }
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder {
            message: self.decoded.clone(),
        }
    }
}

/// The encoding half of [`DynamicCodec`].
#[derive(Clone, Debug)]
pub struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("cannot encode the request as protobuf: {error}")))
    }
}

/// The decoding half of [`DynamicCodec`].
#[derive(Clone)]
pub struct DynamicDecoder {
    message: MessageDescriptor,
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.message.clone(), buffer)
            .map(Some)
            .map_err(|error| {
                Status::internal(format!(
                    "the message received is not a {}: {error}; {MISMATCH}",
                    self.message.full_name()
                ))
            })
    }
}
