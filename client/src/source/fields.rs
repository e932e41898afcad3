//! Fields, and extensions, which are fields elsewhere.

use prost_reflect::{Cardinality, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, Syntax};
use prost_types::FieldDescriptorProto;

use super::Source;
use super::options::listed;

/// What a field and an extension have in common.
pub(super) struct Declared<'a> {
    said: &'a FieldDescriptorProto,
    path: &'a [i32],
    number: u32,
    kind: Kind,
    label: &'static str,
    is_map: bool,
    is_group: bool,
    options: DynamicMessage,
}

impl<'a> From<&'a FieldDescriptor> for Declared<'a> {
    fn from(field: &'a FieldDescriptor) -> Self {
        let said = field.field_descriptor_proto();
        let in_oneof = field
            .containing_oneof()
            .is_some_and(|oneof| !oneof.is_synthetic());
        let syntax = field.parent_file().syntax();
        Self {
            said,
            path: field.path(),
            number: field.number(),
            kind: field.kind(),
            label: match field.cardinality() {
                _ if field.is_map() || in_oneof => "",
                Cardinality::Repeated => "repeated ",
                Cardinality::Required => "required ",
                Cardinality::Optional if syntax == Syntax::Proto2 || said.proto3_optional() => "optional ",
                Cardinality::Optional => "",
            },
            is_map: field.is_map(),
            is_group: field.is_group(),
            options: field.options(),
        }
    }
}

impl<'a> From<&'a ExtensionDescriptor> for Declared<'a> {
    fn from(extension: &'a ExtensionDescriptor) -> Self {
        let said = extension.field_descriptor_proto();
        let syntax = extension.parent_file().syntax();
        Self {
            said,
            path: extension.path(),
            number: extension.number(),
            kind: extension.kind(),
            label: match extension.cardinality() {
                Cardinality::Repeated => "repeated ",
                _ if syntax == Syntax::Proto2 || said.proto3_optional() => "optional ",
                _ => "",
            },
            is_map: false,
            is_group: extension.is_group(),
            options: extension.options(),
        }
    }
}

impl Source {
    pub(super) fn field(&mut self, field: &Declared<'_>) {
        let options = listed(&field.options, field.first_options());
        if let (true, Kind::Message(group)) = (field.is_group, &field.kind) {
            let head = format!(
                "{}group {} = {}{options}",
                field.label,
                group.name(),
                field.number
            );
            // Compilers give the comments to the field or to its message.
            let path = match self.comments.has(field.path) {
                true => field.path,
                false => group.path(),
            };
            return self.block(path, &head, |source| source.in_message(group));
        }
        let line = format!(
            "{}{} {} = {}{options};",
            field.label,
            field.type_name(),
            field.said.name(),
            field.number
        );
        self.statement(field.path, &line);
    }

    pub(super) fn extension(&mut self, extension: &ExtensionDescriptor) {
        let head = format!("extend {}", extension.containing_message().full_name());
        // The comments are those of the field.
        self.block(&[], &head, |source| source.field(&extension.into()));
    }
}

impl Declared<'_> {
    fn type_name(&self) -> String {
        match &self.kind {
            Kind::Message(entry) if self.is_map => format!(
                "map<{}, {}>",
                type_name(&entry.map_entry_key_field().kind()),
                type_name(&entry.map_entry_value_field().kind())
            ),
            kind => type_name(kind),
        }
    }

    /// What is written like an option, and is none to a descriptor.
    fn first_options(&self) -> Vec<(String, String)> {
        let mut options = Vec::new();
        if let Some(default) = &self.said.default_value {
            let default = match self.kind {
                Kind::String => format!("\"{}\"", default.escape_default()),
                // It is escaped in the descriptor.
                Kind::Bytes => format!("\"{default}\""),
                _ => default.clone(),
            };
            options.push(("default".to_owned(), default));
        }
        // An extension has none of its own.
        if let Some(name) = &self.said.json_name
            && self.said.extendee.is_none()
            && *name != usual_json_name(self.said.name())
        {
            options.push(("json_name".to_owned(), format!("{name:?}")));
        }
        options
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        // Its `Debug` is as the language has it: `int32`, `string`.
        scalar => format!("{scalar:?}"),
    }
}

/// The name that a field has in JSON unless another is said: without underscores, and what follows one
/// in capitals.
fn usual_json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut after = false;
    for character in name.chars() {
        match character {
            '_' => after = true,
            character if after => {
                json.push(character.to_ascii_uppercase());
                after = false;
            }
            character => json.push(character),
        }
    }
    json
}
