//! Random messages of the test schema.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, ExtensionDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// A message shown as text: `Debug` of a message whose type holds itself never ends.
#[derive(Clone)]
pub(crate) struct Shown(pub(crate) DynamicMessage);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_text_format())
    }
}

/// JSON values with everything in them that could be taken for the end of one.
pub(crate) fn any_json() -> impl Strategy<Value = String> {
    let string =
        || r#"([a-z{}\[\],: ü€𝄞]|\\\\|\\"|\\n|\\u00e9){0,6}"#.prop_map(|inner| format!("\"{inner}\""));
    let leaf = prop_oneof![
        string(),
        "-?[1-9][0-9]{0,5}",
        Just("true".to_owned()),
        Just("null".to_owned())
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",\n"))),
            prop::collection::vec((string(), inner), 0..4).prop_map(|items| {
                let members: Vec<_> = items
                    .iter()
                    .map(|(key, value)| format!("{key} : {value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A message as it comes over the wire: fields that are set to what they have anyway are not set.
pub(crate) fn any_received(name: &str) -> impl Strategy<Value = Shown> + use<> {
    any_message(super::message(name), 3).prop_map(|message| {
        Shown(from(
            &prost_reflect::ReflectMessage::descriptor(&message),
            &message,
        ))
    })
}

/// A message with some of its fields set; NaN, which equals nothing, left out.
fn any_message(of: MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    match of.full_name() {
        "google.protobuf.Timestamp" => (
            -60_000_000_000_i64..250_000_000_000,
            prop::sample::select(vec![0, 5_000_000, 999_999_999]),
        )
            .prop_map(move |(seconds, nanos)| from(&of, &prost_types::Timestamp { seconds, nanos }))
            .boxed(),
        "google.protobuf.Duration" => (0_i64..100_000, 0..1_000_000_000, any::<bool>())
            .prop_map(move |(seconds, nanos, negative)| {
                let sign = if negative { -1 } else { 1 };
                from(
                    &of,
                    &prost_types::Duration {
                        seconds: seconds * i64::from(sign),
                        nanos: nanos * sign,
                    },
                )
            })
            .boxed(),
        "google.protobuf.FieldMask" => prop::collection::vec("[a-z]{1,5}(_[a-z]{1,5}){0,2}", 0..3)
            .prop_map(move |paths| from(&of, &prost_types::FieldMask { paths }))
            .boxed(),
        "google.protobuf.Any" => (any::<u64>(), 0..5_u8)
            .prop_map(move |(count, kind)| from(&of, &any_of(kind, count)))
            .boxed(),
        "google.protobuf.Value" | "google.protobuf.Struct" | "google.protobuf.ListValue" => {
            let value = any_json();
            value
                .prop_map(move |text| {
                    let value = match of.name() {
                        "Struct" => format!("{{\"a\": {text}}}"),
                        "ListValue" => format!("[{text}]"),
                        _ => text,
                    };
                    DynamicMessage::deserialize(of.clone(), &mut serde_json::Deserializer::from_str(&value))
                        .unwrap()
                })
                .boxed()
        }
        _ => any_fields(of, depth),
    }
}

/// An Any that holds one of several types, another Any among them.
fn any_of(kind: u8, count: u64) -> prost_types::Any {
    let (name, value) = match kind {
        0 => ("kitchen.Dish", super::dish("x", count).encode_to_vec()),
        1 => (
            "google.protobuf.Timestamp",
            prost_types::Timestamp::from(std::time::SystemTime::UNIX_EPOCH).encode_to_vec(),
        ),
        2 => (
            "google.protobuf.StringValue",
            format!("\0{count}").encode_to_vec(),
        ),
        3 => ("google.protobuf.Empty", Vec::new()),
        _ => ("google.protobuf.Any", any_of(0, count).encode_to_vec()),
    };
    prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    }
}

fn any_fields(of: MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    let fields: Vec<_> = of.fields().collect();
    let extensions: Vec<_> = of.extensions().collect();
    let chosen = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    chosen
        .prop_flat_map(move |chosen| {
            let all = fields.len() + extensions.len();
            let mut picked = Vec::new();
            let mut picked_extensions = Vec::new();
            for index in chosen.iter().filter(|_| all > 0).map(|index| index.index(all)) {
                match fields.get(index) {
                    Some(field) => picked.push(field.clone()),
                    None => picked_extensions.push(extensions[index - fields.len()].clone()),
                }
            }
            let of = of.clone();
            let values: Vec<_> = picked.iter().map(|field| any_field(field, depth)).collect();
            let extended: Vec<_> = (picked_extensions.iter())
                .map(|extension| any_extension(extension, depth))
                .collect();
            (values, extended).prop_map(move |(values, extended)| {
                let mut message = DynamicMessage::new(of.clone());
                for (field, value) in picked.iter().zip(values) {
                    if let Some(value) = value {
                        message.set_field(field, value);
                    }
                }
                for (extension, value) in picked_extensions.iter().zip(extended) {
                    if let Some(value) = value {
                        message.set_extension(extension, value);
                    }
                }
                message
            })
        })
        .boxed()
}

pub(crate) fn from(of: &MessageDescriptor, known: &impl prost::Message) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    message.transcode_from(known).unwrap();
    message
}

fn any_field(field: &prost_reflect::FieldDescriptor, depth: u32) -> BoxedStrategy<Option<Value>> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("a map is of entries")
        };
        let key = match entry.map_entry_key_field().kind() {
            Kind::Bool => any::<bool>().prop_map(MapKey::Bool).boxed(),
            Kind::Int32 => any::<i32>().prop_map(MapKey::I32).boxed(),
            Kind::Int64 | Kind::Sint64 => any::<i64>().prop_map(MapKey::I64).boxed(),
            Kind::Uint32 => any::<u32>().prop_map(MapKey::U32).boxed(),
            Kind::Uint64 => any::<u64>().prop_map(MapKey::U64).boxed(),
            _ => any_string().prop_map(MapKey::String).boxed(),
        };
        let Some(value) = any_value(&entry.map_entry_value_field().kind(), depth) else {
            return Just(None).boxed();
        };
        return prop::collection::hash_map(key, value, 0..3)
            .prop_map(|map| Some(Value::Map(map)))
            .boxed();
    }
    one_or_many(field.is_list(), any_value(&field.kind(), depth))
}

fn any_extension(extension: &ExtensionDescriptor, depth: u32) -> BoxedStrategy<Option<Value>> {
    one_or_many(extension.is_list(), any_value(&extension.kind(), depth))
}

fn one_or_many(is_list: bool, value: Option<BoxedStrategy<Value>>) -> BoxedStrategy<Option<Value>> {
    match value {
        None => Just(None).boxed(),
        Some(value) if is_list => prop::collection::vec(value, 0..3)
            .prop_map(|list| Some(Value::List(list)))
            .boxed(),
        Some(value) => value.prop_map(Some).boxed(),
    }
}

/// Strings, and among them what some format or other takes for something else.
fn any_string() -> BoxedStrategy<String> {
    let misleading = [
        "",
        " ",
        "null",
        "~",
        "true",
        "no",
        "0x1F",
        "1e3",
        "01",
        "1_000",
        "12:30",
        ".inf",
        ".nan",
        "NaN",
        "---",
        "...",
        "- a",
        "a: b",
        "a #b",
        "? a",
        " lead",
        "trail ",
        "\u{FEFF}",
        "2026-01-01",
        "<<",
        "=",
        "!tag",
        "&a",
        "*a",
        "%a",
        "@a",
        "`a`",
        "{}",
        "[]",
        "<a/>",
        "]]>",
        "&amp;",
        "<![CDATA[",
        "a\r\nb",
        "\ra",
        "a\nb\n",
        "\n\na\n\n",
        "\t",
        "a\n---\nb",
        "\0",
        "\u{7F}\u{85}\u{9B}\u{2028}\u{FFFE}",
        "'",
        "\"",
        "\\",
        "\\n",
        "'a\"b\\",
        "a text that is rather long, so that what folds long texts has a reason to fold it here or there  or there",
    ];
    prop_oneof![
        "(?s).{0,8}",
        "[a-z\\-:#\\[\\]{},&*!|>'\"%@` \n\t]{0,8}",
        prop::sample::select(misleading.to_vec()).prop_map(str::to_owned),
    ]
    .boxed()
}

fn any_value(kind: &Kind, depth: u32) -> Option<BoxedStrategy<Value>> {
    use prop::num::{f32, f64};

    Some(match kind {
        Kind::Double => (f64::NORMAL | f64::SUBNORMAL | f64::ZERO | f64::INFINITE | f64::NEGATIVE)
            .prop_map(Value::F64)
            .boxed(),
        Kind::Float => (f32::NORMAL | f32::SUBNORMAL | f32::ZERO | f32::INFINITE | f32::NEGATIVE)
            .prop_map(Value::F32)
            .boxed(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Uint32 | Kind::Fixed32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 | Kind::Fixed64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::String => any_string().prop_map(Value::String).boxed(),
        Kind::Bytes => prop::collection::vec(any::<u8>(), 0..8)
            .prop_map(|bytes| Value::Bytes(bytes.into()))
            .boxed(),
        Kind::Enum(of) if of.name() == "NullValue" => Just(Value::EnumNumber(0)).boxed(),
        // An open enum: a number without a name is kept.
        Kind::Enum(of) => {
            let mut numbers: Vec<i32> = of.values().map(|value| value.number()).collect();
            if of.parent_file().syntax() == prost_reflect::Syntax::Proto3 {
                numbers.push(99);
            }
            prop::sample::select(numbers).prop_map(Value::EnumNumber).boxed()
        }
        Kind::Message(of) => any_message(of.clone(), depth.checked_sub(1)?)
            .prop_map(Value::Message)
            .boxed(),
    })
}
