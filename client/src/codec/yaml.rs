//! Protobuf's JSON mapping in YAML, by `serde-saphyr`: the same names and the same values as in
//! [`json`](super::JsonCodec), as Buf's protoyaml has it. Each message is a document of its own.
//!
//! Where a field is a string, a value needs no quotes whatever it looks like: the schema decides.

mod split;

use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Options};

use super::document::{Document, DocumentDecoder, Read, too_long};
use super::{
    DecodeError, DecodeOptions, EncodeError, EncodeOptions, MAX_DEPTH, PayloadCodec, PayloadDecoder, mapping,
};
use split::Splitter;

/// How many nodes (scalars, lists, mappings) aliases may add to a document. A hundred lines of
/// aliases of aliases are as many as there are atoms in the world.
const MAX_REPLAYED: usize = 100_000;

/// The codec `yaml`.
#[derive(Clone, Copy, Debug)]
pub struct YamlCodec;

impl PayloadCodec for YamlCodec {
    fn name(&self) -> &'static str {
        "yaml"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml"]
    }

    /// A marker, a directive, an item of a list, or a key with its colon.
    fn recognizes(&self, beginning: &[u8]) -> bool {
        let starts = |marker: &[u8]| {
            let after = beginning.strip_prefix(marker).and_then(<[u8]>::first);
            after.is_some_and(u8::is_ascii_whitespace)
        };
        let line = beginning.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let name = line.iter().take_while(|byte| is_name(**byte)).count();
        let after = beginning.get(name..).unwrap_or_default();
        starts(b"---")
            || starts(b"%YAML")
            || starts(b"-")
            || (name > 0 && after.first() == Some(&b':') && after.get(1).is_some_and(u8::is_ascii_whitespace))
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(DocumentDecoder::new(
            message,
            options,
            Splitter::new(options.max_size),
            YamlReader,
        ))
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut text = String::new();
        let yaml = serde_saphyr::ser_options! { yaml_12: false };
        serde_saphyr::to_fmt_writer_with_options(&mut text, &Mapped(message, options), yaml)
            .map_err(|error| EncodeError::new(message, self.name(), error))?;
        if options.many {
            out.extend_from_slice(b"---\n");
        }
        out.extend_from_slice(text.as_bytes());
        if !text.ends_with('\n') {
            out.push(b'\n');
        }
        Ok(())
    }
}

struct Mapped<'a>(&'a DynamicMessage, EncodeOptions);

impl serde::Serialize for Mapped<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mapping::encode(self.0, serializer, self.1)
    }
}

struct YamlReader;

impl Read for YamlReader {
    fn read(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> Result<DynamicMessage, DecodeError> {
        if document.bytes.len() > options.max_size {
            return Err(too_long(document, options.max_size));
        }
        let text = document.text()?;
        serde_saphyr::with_deserializer_from_str_with_options(text, limits(options), |yaml| {
            mapping::decode(message, yaml, options)
        })
        .map_err(|error| explain(message, document, text, options, &error))
    }
}

fn explain(
    message: &MessageDescriptor,
    document: &Document,
    text: &str,
    options: DecodeOptions,
    error: &serde_saphyr::Error,
) -> DecodeError {
    let mut explained = (None, plain(error));
    let _known_to_fail = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        limits(options),
        |yaml| -> Result<(), serde_saphyr::Error> {
            explained = mapping::explain(message, yaml, options, &plain(error));
            Ok(())
        },
    );
    let place = |location: serde_saphyr::Location| {
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        document.place(number(location.line()), number(location.column()))
    };
    let (field, problem) = explained;
    DecodeError {
        position: error.location().map_or(document.start, place).into(),
        field,
        problem,
    }
}

/// What one document may be, whatever it holds.
fn limits(options: DecodeOptions) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: options.max_size,
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_recorded_anchor_events: MAX_REPLAYED,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// An error without the place, which is told on its own.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    match text.strip_prefix("budget breached: ") {
        None => text.to_owned(),
        Some(breach) if breach.starts_with("Depth") => {
            format!("messages are nested more than {MAX_DEPTH} deep here")
        }
        Some(_) => format!(
            "the document grows too large here: anchors and aliases may come to {MAX_REPLAYED} values, \
             and to no more text than a message may have"
        ),
    }
}
