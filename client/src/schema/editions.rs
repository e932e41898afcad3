//! Files of an edition, told in the words of proto2 and proto3, which is what `prost-reflect` knows.
//!
//! An edition (<https://protobuf.dev/editions/overview/>) says of each field by features what the
//! syntaxes say of all at once; proto3 can say nearly all of it of a single field too. What it cannot
//! have is an enum that does not begin with zero, so a file with one becomes proto2, in which fields
//! without presence have presence: what is written explicitly as the default is sent, and means the
//! same.

use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto,
};

/// What the syntax of a file of an edition is called.
const EDITIONS: &str = "editions";

// Values of the enums in `google.protobuf.FeatureSet`.
const IMPLICIT: i32 = 2;
const LEGACY_REQUIRED: i32 = 3;
const EXPANDED: i32 = 2;
const DELIMITED: i32 = 2;

/// The features that change what is on the wire or what is set.
#[derive(Clone, Copy, Default)]
struct Features {
    implicit: bool,
    required: bool,
    expanded: bool,
    delimited: bool,
}

/// The file as proto3 or proto2, if it is of an edition, which the result says; `encoded` is the same file.
pub(super) fn lower(file: &mut FileDescriptorProto, encoded: &[u8]) -> bool {
    if file.syntax() != EDITIONS {
        return false;
    }
    let whole = DescriptorPool::global()
        .get_message_by_name("google.protobuf.FileDescriptorProto")
        .and_then(|of| DynamicMessage::decode(of, encoded).ok());
    // Features are options that `prost-types` has no fields for.
    if let Some(whole) = whole {
        let features = Features::default().refined(&whole);
        for (message, described) in file.message_type.iter_mut().zip(list(&whole, "message_type")) {
            lower_message(message, &described, features);
        }
        for (extension, described) in file.extension.iter_mut().zip(list(&whole, "extension")) {
            lower_field(extension, features.refined(&described), true);
        }
    }
    let begins_with_zero =
        |of: &EnumDescriptorProto| of.value.first().is_none_or(|value| value.number() == 0);
    let as_proto3 =
        file.enum_type.iter().all(begins_with_zero) && all_enums(&file.message_type, &begins_with_zero);
    file.syntax = Some(if as_proto3 { "proto3" } else { "proto2" }.to_owned());
    true
}

fn lower_message(message: &mut DescriptorProto, described: &DynamicMessage, inherited: Features) {
    let features = inherited.refined(described);
    let is_entry = message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry());
    for (field, described) in message.field.iter_mut().zip(list(described, "field")) {
        let features = if is_entry {
            // Maps are as they are in proto3, whatever holds for what they hold.
            Features {
                implicit: true,
                ..Features::default()
            }
        } else {
            features.refined(&described)
        };
        lower_field(field, features, field.oneof_index.is_some());
    }
    for (extension, described) in message.extension.iter_mut().zip(list(described, "extension")) {
        lower_field(extension, features.refined(&described), true);
    }
    for (nested, described) in message.nested_type.iter_mut().zip(list(described, "nested_type")) {
        lower_message(nested, &described, features);
    }
}

fn lower_field(field: &mut FieldDescriptorProto, features: Features, has_presence: bool) {
    if field.r#type() == Type::Message && features.delimited {
        field.set_type(Type::Group);
    }
    let is_message = matches!(field.r#type(), Type::Message | Type::Group);
    match field.label() {
        Label::Repeated if !is_message && !matches!(field.r#type(), Type::String | Type::Bytes) => {
            let options = field.options.get_or_insert_with(FieldOptions::default);
            options.packed = Some(!features.expanded);
        }
        Label::Repeated => {}
        _ if features.required => {
            field.set_label(Label::Required);
            field.proto3_optional = Some(true);
        }
        _ if !features.implicit && !is_message && !has_presence => field.proto3_optional = Some(true),
        _ => {}
    }
}

impl Features {
    /// These, as far as the options of what is described do not say otherwise.
    fn refined(mut self, described: &DynamicMessage) -> Self {
        let part = |message: &DynamicMessage, name: &str| {
            let field = message.get_field_by_name(name)?;
            field.as_message().cloned()
        };
        let features = part(described, "options").and_then(|options| part(&options, "features"));
        let said = |name: &str| {
            let features = features.as_ref()?;
            if !features.has_field_by_name(name) {
                return None;
            }
            features.get_field_by_name(name)?.as_enum_number()
        };
        if let Some(presence) = said("field_presence") {
            (self.implicit, self.required) = (presence == IMPLICIT, presence == LEGACY_REQUIRED);
        }
        if let Some(encoding) = said("repeated_field_encoding") {
            self.expanded = encoding == EXPANDED;
        }
        if let Some(encoding) = said("message_encoding") {
            self.delimited = encoding == DELIMITED;
        }
        self
    }
}

fn all_enums(messages: &[DescriptorProto], holds: &impl Fn(&EnumDescriptorProto) -> bool) -> bool {
    messages
        .iter()
        .all(|message| message.enum_type.iter().all(holds) && all_enums(&message.nested_type, holds))
}

/// The messages in a repeated field.
fn list(of: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let field = of.get_field_by_name(name);
    let items = field
        .as_ref()
        .and_then(|value| value.as_list())
        .unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_message().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use prost_reflect::{Cardinality, Syntax};

    use crate::testing::message;

    #[test]
    fn each_field_is_what_its_features_say() {
        let safe = message("vault.Safe");
        let field = |name: &str| safe.get_field_by_name(name).unwrap();
        assert!(!field("implicit").supports_presence());
        assert!(field("explicit").supports_presence());
        assert_eq!(field("required").cardinality(), Cardinality::Required);
        assert!(field("packed").is_packed());
        assert!(!field("expanded").is_packed());
        assert!(field("lock").is_group() && field("bolt").is_group());
        assert!(field("by_name").is_map());
        assert!(field("gold").containing_oneof().is_some());
        assert!(field("room").supports_presence() && !field("room").is_group());
        assert_eq!(safe.parent_file().syntax(), Syntax::Proto3);
    }

    #[test]
    fn an_enum_that_does_not_begin_with_zero_is_taken() {
        let room = message("strongroom.Room");
        assert_eq!(room.parent_file().syntax(), Syntax::Proto2);
        assert!(room.get_field_by_name("guard").unwrap().supports_presence());
        let number = room.get_field_by_name("number").unwrap();
        assert_eq!(number.default_value().as_i32(), Some(7));
    }

    #[test]
    fn what_another_program_sends_is_read() {
        // Field 6, a group, with field 1 in it; field 5, not packed.
        let bytes = b"\x33\x0A\x01k\x34\x28\x07\x28\x08";
        let safe = prost_reflect::DynamicMessage::decode(message("vault.Safe"), &bytes[..]).unwrap();
        assert_eq!(safe.to_text_format(), "expanded:[7,8],Lock{key:\"k\"}");
        assert_eq!(safe.unknown_fields().count(), 0);
    }
}
