//! The fields of a message, an element for each.

use std::collections::HashSet;

use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use quick_xml::events::{BytesStart, Event};

use super::super::super::{MAX_DEPTH, mapping};
use super::super::{ANY, ENTRY, EXTENSION, KEY, VALUE, is_wrapper};
use super::{Element, Reader, Result, scalar};
use crate::suggest;

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
    /// The rest of an element that is a message of this type, in whatever form that type has.
    pub(super) fn kind_of_message(
        &mut self,
        of: &MessageDescriptor,
        element: Element,
        depth: usize,
    ) -> Result<Value> {
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

    pub(super) fn value(&mut self, kind: &Kind, element: Element, depth: usize) -> Result<Value> {
        if let Kind::Message(of) = kind {
            return self.kind_of_message(of, element, depth + 1);
        }
        let encoded = element.encoded;
        let text = self.text(element.at)?;
        scalar::value(kind, &text, encoded).map_err(|problem| self.error(problem))
    }
}
