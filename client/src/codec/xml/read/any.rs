//! What is in an Any.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use quick_xml::events::Event;

use super::super::{ANY, VALUE};
use super::{Element, Reader, Result, scalar};

impl Reader<'_> {
    pub(super) fn any(&mut self, of: &MessageDescriptor, element: &Element, depth: usize) -> Result<Value> {
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
}
