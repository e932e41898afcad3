//! The text of an element.

use quick_xml::events::Event;

use super::super::is_forbidden;
use super::{Reader, Result};

impl Reader<'_> {
    /// The text of an element, up to its end.
    pub(super) fn text(&mut self, begin: usize) -> Result<String> {
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
}
