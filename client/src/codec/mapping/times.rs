//! Times that are none: `prost-reflect` carries over what is wrong in a `Timestamp` or a `Duration`, and writes another
//! time than the message has.

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

/// A second, in nanoseconds.
const SECOND: i32 = 1_000_000_000;

/// Says of the first time in a message that is none what is wrong with it.
pub(super) fn check(message: &DynamicMessage) -> Result<(), String> {
    let of = message.descriptor();
    match of.full_name() {
        "google.protobuf.Timestamp" => {
            let nanos = nanos(message);
            if !(0..SECOND).contains(&nanos) {
                return Err(format!(
                    "a Timestamp has nanos from 0 to 999999999, and this one has {nanos}"
                ));
            }
            Ok(())
        }
        "google.protobuf.Duration" => {
            let (seconds, nanos) = (seconds(message), nanos(message));
            if nanos.unsigned_abs() >= SECOND.unsigned_abs() {
                return Err(format!(
                    "a Duration has less than 1000000000 nanos, and this one has {nanos}"
                ));
            }
            if (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0) {
                return Err(format!(
                    "the seconds and the nanos of a Duration have one sign, and these are {seconds} and {nanos}"
                ));
            }
            Ok(())
        }
        _ => {
            for (_, value) in message.fields() {
                in_value(value)?;
            }
            for (_, value) in message.extensions() {
                in_value(value)?;
            }
            Ok(())
        }
    }
}

fn in_value(value: &Value) -> Result<(), String> {
    match value {
        Value::Message(message) => check(message),
        // What is in them is all of one kind.
        Value::List(items) if matches!(items.first(), Some(Value::Message(_))) => {
            items.iter().try_for_each(in_value)
        }
        Value::Map(entries) if matches!(entries.values().next(), Some(Value::Message(_))) => {
            entries.values().try_for_each(in_value)
        }
        _ => Ok(()),
    }
}

fn seconds(message: &DynamicMessage) -> i64 {
    let seconds = message.get_field_by_number(1);
    seconds.and_then(|seconds| seconds.as_i64()).unwrap_or_default()
}

fn nanos(message: &DynamicMessage) -> i32 {
    let nanos = message.get_field_by_number(2);
    nanos.and_then(|nanos| nanos.as_i32()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use prost_reflect::{DynamicMessage, Value};

    use super::check;
    use crate::codec::{EncodeOptions, JsonCodec, PayloadCodec as _};
    use crate::testing::message;

    fn time(name: &str, seconds: i64, nanos: i32) -> DynamicMessage {
        let mut time = DynamicMessage::new(message(name));
        time.set_field_by_number(1, Value::I64(seconds));
        time.set_field_by_number(2, Value::I32(nanos));
        time
    }

    #[test]
    fn a_time_that_is_none_is_not_written_as_another() {
        let of = |seconds, nanos| check(&time("google.protobuf.Duration", seconds, nanos));
        assert!(
            [of(-1, -1), of(1, 1), of(0, -1), of(0, 0)]
                .iter()
                .all(Result::is_ok)
        );
        for (seconds, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (0, i32::MIN)] {
            assert!(of(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        let of = |nanos| check(&time("google.protobuf.Timestamp", 1, nanos));
        assert!(of(0).is_ok() && of(999_999_999).is_ok());
        assert!(of(-1).is_err() && of(1_000_000_000).is_err());

        // Wherever it is.
        let wrong = || Value::Message(time("google.protobuf.Duration", 1, -1));
        let mut list = DynamicMessage::new(message("kitchen.Everything"));
        list.set_field_by_name("many_durations", Value::List(vec![wrong()]));
        let mut outer = DynamicMessage::new(message("kitchen.Everything"));
        outer.set_field_by_name("children", Value::List(vec![Value::Message(list)]));
        let encoded = JsonCodec::pretty().encode(&outer, EncodeOptions::default(), &mut Vec::new());
        assert!(encoded.unwrap_err().to_string().contains("have one sign"));
    }
}
