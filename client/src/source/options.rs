//! Options, those of one's own included.

use prost_reflect::{DynamicMessage, Value};

/// A statement for each option.
pub(super) fn statements(options: &DynamicMessage) -> Vec<String> {
    let statement = |(name, value)| format!("option {name} = {value};");
    set(options).into_iter().map(statement).collect()
}

/// The options of a field or a value in brackets, after others that are options in the source alone.
pub(super) fn listed(options: &DynamicMessage, first: Vec<(String, String)>) -> String {
    let all = first.into_iter().chain(set(options));
    let all: Vec<String> = all.map(|(name, value)| format!("{name} = {value}")).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(" [{}]", all.join(", ")),
    }
}

/// Names and values of what is set.
fn set(options: &DynamicMessage) -> Vec<(String, String)> {
    let own = options.fields().filter(|(field, _)| {
        // Whether a message is the entry of a map is in how the map is written.
        !matches!(field.name(), "map_entry" | "uninterpreted_option")
    });
    let own = own.map(|(field, value)| (field.name().to_owned(), value));
    let others = options.extensions();
    let others = others.map(|(extension, value)| (format!("({})", extension.full_name()), value));
    own.chain(others)
        .flat_map(|(name, value)| match value {
            // One of several is said like one of one.
            Value::List(values) => values
                .iter()
                .map(|value| (name.clone(), written(value)))
                .collect(),
            value => vec![(name, written(value))],
        })
        .collect()
}

fn written(value: &Value) -> String {
    match value {
        Value::Message(message) => format!("{{ {} }}", message.to_text_format()),
        value => value.to_string(),
    }
}
