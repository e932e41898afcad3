//! A message from XML.

mod scalar;

use std::collections::HashSet;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    Value,
};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader as Xml, XmlVersion};

use super::super::document::Document;
use super::super::{DecodeError, DecodeOptions, MAX_DEPTH, mapping};
use super::{ANY, BASE64, ENCODING, ENTRY, EXTENSION, KEY, NAME, TYPE, VALUE, is_forbidden, is_wrapper};
use crate::suggest;

/// How a document type declaration begins.
const DOCTYPE: &[u8] = b"<!DOCTYPE";

/// Reads the one element of a document.
pub(super) fn document(
    message: &MessageDescriptor,
    document: &Document,
    options: DecodeOptions,
) -> Result<DynamicMessage, DecodeError> {
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

/// What an element inside a message is.
enum Slot {
    Field(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Slot {
    fn kind(&self) -> Kind {
        match self {
            Self::Field(field) => field.kind(),
            Self::Extension(extension) => extension.kind(),
        }
    }

    fn is_list(&self) -> bool {
        match self {
            Self::Field(field) => field.is_list(),
            Self::Extension(extension) => extension.is_list(),
        }
    }

    fn is_map(&self) -> bool {
        matches!(self, Self::Field(field) if field.is_map())
    }

    fn number(&self) -> u32 {
        match self {
            Self::Field(field) => field.number(),
            Self::Extension(extension) => extension.number(),
        }
    }

    fn value<'m>(&self, message: &'m mut DynamicMessage) -> &'m mut Value {
        match self {
            Self::Field(field) => message.get_field_mut(field),
            Self::Extension(extension) => message.get_extension_mut(extension),
        }
    }
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

    /// The rest of an element that is a message of this type, in whatever form that type has.
    fn kind_of_message(&mut self, of: &MessageDescriptor, element: Element, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("messages are nested more than {MAX_DEPTH} deep here")));
        }
        match of.full_name() {
            ANY => self.any(of, &element, depth),
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
                let text = self.text(element.at)?;
                let read = DynamicMessage::deserialize(of.clone(), serde_json::Value::from(text.trim()));
                let takes = mapping::takes(&Kind::Message(of.clone())).unwrap_or_default();
                read.map(Value::Message)
                    .map_err(|error| self.error(format!("{error}; it takes {takes}")))
            }
            "google.protobuf.FieldMask" => {
                let text = self.text(element.at)?;
                let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
                let mut mask = DynamicMessage::new(of.clone());
                mask.set_field_by_number(
                    1,
                    Value::List(paths.map(|path| Value::String(path.to_owned())).collect()),
                );
                Ok(Value::Message(mask))
            }
            name if is_wrapper(name) => {
                let mut wrapper = DynamicMessage::new(of.clone());
                if let Some(field) = of.get_field(1) {
                    let value = self.value(&field.kind(), element, depth)?;
                    wrapper.set_field(&field, value);
                }
                Ok(Value::Message(wrapper))
            }
            _ => self.message(of, depth).map(Value::Message),
        }
    }

    /// The fields of a message, up to its end.
    fn message(&mut self, of: &MessageDescriptor, depth: usize) -> Result<DynamicMessage> {
        let mut message = DynamicMessage::new(of.clone());
        let mut seen = HashSet::new();
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    match self.slot(of, &element)? {
                        Some(slot) => self.field(&mut message, &mut seen, &slot, element, depth)?,
                        None => self.skip(&start)?,
                    }
                }
                Event::End(_) => return Ok(message),
                Event::Eof => return Err(self.unfinished()),
                event => self.ignorable(&event)?,
            }
        }
    }

    /// The field that an element stands for; `None` if it is none and that is no error.
    fn slot(&self, of: &MessageDescriptor, element: &Element) -> Result<Option<Slot>> {
        if let (EXTENSION, Some(name)) = (element.name.as_str(), &element.extension) {
            let extension = of.extensions().find(|extension| extension.full_name() == name);
            return match extension {
                Some(extension) => Ok(Some(Slot::Extension(extension))),
                None if self.options.allow_unknown => Ok(None),
                None => Err(self.error(format!("{} has no extension '{name}'", of.full_name()))),
            };
        }
        let field =
            (of.get_field_by_name(&element.name)).or_else(|| of.get_field_by_json_name(&element.name));
        match field {
            Some(field) => Ok(Some(Slot::Field(field))),
            None if self.options.allow_unknown => Ok(None),
            None => {
                let names: Vec<String> = of.fields().map(|field| field.name().to_owned()).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(self.error(suggest::unknown(of.full_name(), "field", &element.name, &names)))
            }
        }
    }

    fn skip(&mut self, start: &BytesStart<'_>) -> Result<()> {
        match self.xml.read_to_end(start.name()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(format!("this is not XML: {error}"))),
        }
    }

    fn field(
        &mut self,
        message: &mut DynamicMessage,
        seen: &mut HashSet<u32>,
        slot: &Slot,
        element: Element,
        depth: usize,
    ) -> Result<()> {
        let name = match slot {
            Slot::Field(field) => field.name().to_owned(),
            Slot::Extension(extension) => format!("[{}]", extension.full_name()),
        };
        if slot.is_map() {
            self.path.push(name);
            self.map(slot.value(message), &slot.kind(), depth)?;
        } else if slot.is_list() {
            let index = slot.value(message).as_list().map_or(0, <[Value]>::len);
            self.path.push(format!("{name}[{index}]"));
            let value = self.value(&slot.kind(), element, depth)?;
            if let Some(list) = slot.value(message).as_list_mut() {
                list.push(value);
            }
        } else {
            self.path.push(name);
            if !seen.insert(slot.number()) {
                return Err(self.error("it is there twice, and is not repeated".to_owned()));
            }
            if let Slot::Field(field) = slot
                && let Some(oneof) = field.containing_oneof()
                && let Some(other) = oneof
                    .fields()
                    .find(|other| other != field && seen.contains(&other.number()))
            {
                return Err(self.error(format!(
                    "{} is there as well, and {} takes one of the two",
                    other.name(),
                    oneof.name()
                )));
            }
            let value = self.value(&slot.kind(), element, depth)?;
            *slot.value(message) = value;
        }
        self.path.pop();
        Ok(())
    }

    fn map(&mut self, map: &mut Value, kind: &Kind, depth: usize) -> Result<()> {
        let (Kind::Message(entry), Some(map)) = (kind, map.as_map_mut()) else {
            return Err(self.error("the map has no entries".to_owned()));
        };
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    if element.name != ENTRY {
                        return Err(self.error(format!("a map has no <{}>; it has <entry>", element.name)));
                    }
                    let (key, value) = self.entry(entry, depth)?;
                    if map.insert(key, value).is_some() {
                        return Err(self.error("this key is there twice".to_owned()));
                    }
                }
                Event::End(_) => return Ok(()),
                Event::Eof => return Err(self.unfinished()),
                event => self.ignorable(&event)?,
            }
        }
    }

    fn entry(&mut self, of: &MessageDescriptor, depth: usize) -> Result<(MapKey, Value)> {
        let begin = self.at;
        let (mut key, mut value) = (None, None);
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    let (part, field) = match element.name.as_str() {
                        KEY => (&mut key, of.map_entry_key_field()),
                        VALUE => (&mut value, of.map_entry_value_field()),
                        name => {
                            return Err(
                                self.error(format!("an entry has no <{name}>; it has <key> and <value>"))
                            );
                        }
                    };
                    self.path.push(element.name.clone());
                    let read = self.value(&field.kind(), element, depth)?;
                    if part.replace(read).is_some() {
                        return Err(self.error("it is there twice".to_owned()));
                    }
                    self.path.pop();
                }
                Event::End(_) => break,
                Event::Eof => return Err(self.unfinished()),
                event => self.ignorable(&event)?,
            }
        }
        self.at = begin;
        let missing = |what: &str| self.error(format!("the entry has no <{what}>"));
        let key = key.ok_or_else(|| missing(KEY))?;
        let key = key.into_map_key().ok_or_else(|| missing(KEY))?;
        Ok((key, value.ok_or_else(|| missing(VALUE))?))
    }

    fn value(&mut self, kind: &Kind, element: Element, depth: usize) -> Result<Value> {
        if let Kind::Message(of) = kind {
            return self.kind_of_message(of, element, depth + 1);
        }
        let encoded = element.encoded;
        let text = self.text(element.at)?;
        scalar::value(kind, &text, encoded).map_err(|problem| self.error(problem))
    }

    fn any(&mut self, of: &MessageDescriptor, element: &Element, depth: usize) -> Result<Value> {
        let mut any = DynamicMessage::new(of.clone());
        let Some(url) = element.of.clone() else {
            let text = self.text(element.at)?;
            return match text.trim() {
                "" => Ok(Value::Message(any)),
                _ => Err(self.error("an Any needs the attribute type".to_owned())),
            };
        };
        let name = url.rsplit('/').next().unwrap_or_default();
        let bytes = if element.encoded {
            let text = self.text(element.at)?;
            scalar::base64(&text).map_err(|problem| self.error(problem))?
        } else {
            let inner = self.types.get_message_by_name(name).ok_or_else(|| {
                self.error(format!(
                    "the type {name} is not in the schema; its bytes may be written as base64, with encoding=\"base64\""
                ))
            })?;
            let element = Element {
                of: None,
                at: element.at,
                ..Element::default()
            };
            let value = if name == ANY {
                self.nested_any(&inner, depth)?
            } else {
                self.kind_of_message(&inner, element, depth + 1)?
            };
            value
                .as_message()
                .map(|inner| inner.encode_to_vec())
                .unwrap_or_default()
                .into()
        };
        any.set_field_by_number(1, Value::String(url));
        any.set_field_by_number(2, Value::Bytes(bytes));
        Ok(Value::Message(any))
    }

    /// An Any in an Any, which is in an element of its own.
    fn nested_any(&mut self, of: &MessageDescriptor, depth: usize) -> Result<Value> {
        let mut inner = Value::Message(DynamicMessage::new(of.clone()));
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.element(&start)?;
                    if element.name != VALUE {
                        return Err(self.error("an Any in an Any is in the element <value>".to_owned()));
                    }
                    inner = self.kind_of_message(of, element, depth + 1)?;
                }
                Event::End(_) => return Ok(inner),
                Event::Eof => return Err(self.unfinished()),
                event => self.ignorable(&event)?,
            }
        }
    }

    /// The text of an element, up to its end.
    fn text(&mut self, begin: usize) -> Result<String> {
        let mut text = String::new();
        let mut at = None;
        loop {
            match self.event()? {
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::CData(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(name) => {
                    let name = name.xml10_content();
                    text.push(self.reference(&name)?);
                }
                Event::Start(start) => {
                    let name = start.local_name().into_inner().to_owned();
                    return Err(self.error(format!("there is an element, <{name}>, where only text may be")));
                }
                Event::End(_) => break,
                Event::Eof => return Err(self.unfinished()),
                _ => {}
            }
            at.get_or_insert(self.at);
        }
        // What is wrong with the text is told at its beginning.
        self.at = at.unwrap_or(begin);
        match text.chars().find(|character| is_forbidden(*character)) {
            Some(character) => Err(self.error(format!(
                "the character {character:?} has no place in XML; base64 with encoding=\"base64\" has one for it"
            ))),
            None => Ok(text),
        }
    }

    /// The character that `&name;` stands for: of the entities, XML's own five.
    fn reference(&self, name: &str) -> Result<char> {
        let number = match name.strip_prefix('#') {
            Some(hex) if hex.starts_with('x') => u32::from_str_radix(hex.trim_start_matches('x'), 16).ok(),
            Some(decimal) => decimal.parse().ok(),
            None => {
                return match name {
                    "amp" => Ok('&'),
                    "lt" => Ok('<'),
                    "gt" => Ok('>'),
                    "quot" => Ok('"'),
                    "apos" => Ok('\''),
                    name => Err(self.error(format!(
                        "there is no entity &{name};, only &amp; &lt; &gt; &quot; &apos; and characters by number"
                    ))),
                };
            }
        };
        number
            .and_then(char::from_u32)
            .ok_or_else(|| self.error(format!("&{name}; is no character")))
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
