//! A message from XML.

mod any;
mod message;
mod scalar;
mod text;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader as Xml, XmlVersion};

use super::super::document::{Document, Read};
use super::super::{DecodeError, DecodeOptions};
use super::{BASE64, ENCODING, NAME, TYPE};

/// How a document type declaration begins.
const DOCTYPE: &[u8] = b"<!DOCTYPE";

/// Reads the one element of a document.
pub(super) struct XmlReader;

impl Read for XmlReader {
    fn read(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> Result<DynamicMessage> {
        let mut xml = Xml::from_str(document.text()?);
        xml.config_mut().expand_empty_elements = true;
        let mut reader = Reader {
            xml,
            document,
            options,
            types: message.parent_pool().clone(),
            at: 0,
            path: Vec::new(),
        };
        let element = reader.root(message)?;
        match reader.kind_of_message(message, element, 0)? {
            Value::Message(message) => Ok(message),
            _ => Err(reader.error("the element is no message".to_owned())),
        }
    }
}

struct Reader<'a> {
    xml: Xml<&'a [u8]>,
    document: &'a Document,
    options: DecodeOptions,
    /// What an Any may hold.
    types: DescriptorPool,
    /// Where what is read now began.
    at: usize,
    /// The fields that it is in.
    path: Vec<String>,
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// An element's name and the attributes that mean something here.
#[derive(Default)]
struct Element {
    name: String,
    /// Of the message in an Any.
    of: Option<String>,
    /// The text is base64.
    encoded: bool,
    /// Of an extension.
    extension: Option<String>,
    at: usize,
}

impl Reader<'_> {
    /// The first element, which is of the message's name.
    fn root(&mut self, message: &MessageDescriptor) -> Result<Element> {
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    if element.name == message.name() || element.name == message.full_name() {
                        return Ok(element);
                    }
                    return Err(self.error(format!(
                        "the element <{}> is no {}; it is to be <{}>",
                        element.name,
                        message.full_name(),
                        message.name()
                    )));
                }
                Event::Eof => return Err(self.error("there is no element".to_owned())),
                event => self.ignorable(&event)?,
            }
        }
    }

    /// The next event that is not a comment or an instruction.
    fn event(&mut self) -> Result<Event<'static>> {
        loop {
            self.at = self.xml.buffer_position().try_into().unwrap_or(usize::MAX);
            // Whole or not: none is even parsed.
            let rest = self.document.bytes.get(self.at..).unwrap_or_default();
            if rest
                .get(..DOCTYPE.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(DOCTYPE))
            {
                return Err(self.error(
                    "this is a DTD, and none is taken: a message needs no declarations and no entities"
                        .to_owned(),
                ));
            }
            match self.xml.read_event() {
                Ok(Event::Decl(declaration)) => {
                    let encoding = declaration.encoding().and_then(std::result::Result::ok);
                    if let Some(encoding) = encoding
                        && !matches!(encoding.to_ascii_lowercase().as_str(), "utf-8" | "us-ascii")
                    {
                        return Err(self.error(format!("the encoding {encoding} is not UTF-8")));
                    }
                }
                Ok(Event::Comment(_) | Event::PI(_)) => {}
                Ok(event) => return Ok(event.into_owned()),
                Err(error) => {
                    self.at = self.xml.error_position().try_into().unwrap_or(usize::MAX);
                    return Err(self.error(format!("this is not XML: {error}")));
                }
            }
        }
    }

    /// White space may stand anywhere between elements, and nothing else.
    fn ignorable(&mut self, event: &Event<'_>) -> Result<()> {
        let text = match event {
            Event::Text(text) => text.xml10_content().into_owned(),
            Event::CData(text) => text.xml10_content().into_owned(),
            Event::GeneralRef(name) => format!("&{};", name.xml10_content()),
            _ => String::new(),
        };
        let blank = text.len() - text.trim_start().len();
        if blank == text.len() {
            return Ok(());
        }
        self.at += blank;
        let excerpt: String = text.trim().chars().take(20).collect();
        Err(self.error(format!("there is text, {excerpt:?}, where only elements may be")))
    }

    fn element(&self, start: &BytesStart<'_>) -> Result<Element> {
        let mut element = Element {
            name: start.local_name().into_inner().to_owned(),
            at: self.at,
            ..Element::default()
        };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| self.error(format!("this is not XML: {error}")))?;
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|error| self.error(format!("this is not XML: {error}")))?
                .into_owned();
            match attribute.key.into_inner() {
                TYPE => element.of = Some(value),
                NAME => element.extension = Some(value),
                ENCODING if value == BASE64 => element.encoded = true,
                ENCODING => {
                    return Err(self.error(format!("there is no encoding {value:?}; base64 is the one")));
                }
                // Of schemas and editors, not of the message.
                key if key == "xmlns" || key.contains(':') => {}
                key => {
                    return Err(self.error(format!(
                        "<{}> has no attribute '{key}'; fields are elements",
                        element.name
                    )));
                }
            }
        }
        Ok(element)
    }

    fn unfinished(&self) -> DecodeError {
        self.error(format!(
            "the input ends in the middle of a message, which began at {}",
            self.document.start
        ))
    }

    fn error(&self, problem: String) -> DecodeError {
        DecodeError {
            position: self.document.at(self.at).into(),
            field: (!self.path.is_empty()).then(|| self.path.join(".")),
            problem,
        }
    }
}
