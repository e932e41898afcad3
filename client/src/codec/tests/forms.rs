//! What the forms look like.

use prost_reflect::{DynamicMessage, MapKey, Value};

use super::{codec, decode, encode};
use crate::codec::EncodeOptions;
use crate::testing::message;
use crate::testing::messages::from;

fn form(name: &str, message: &DynamicMessage) -> String {
    String::from_utf8(encode(&*codec(name), std::slice::from_ref(message), false)).unwrap()
}

/// A message with something of each sort in it.
fn sample() -> DynamicMessage {
    let mut sample = DynamicMessage::new(message("kitchen.Everything"));
    let mut set = |name: &str, value| sample.set_field_by_name(name, value);
    set("int64", Value::I64(-9_007_199_254_740_993));
    set("double", Value::F64(1e300));
    set("string", Value::String(" two\r\nlines & <more>".to_owned()));
    set("bytes", Value::Bytes(vec![0, 255].into()));
    set("heat", Value::EnumNumber(1));
    let many = ["first", "", "\u{1}"].map(|text| Value::String(text.to_owned()));
    set("many_strings", Value::List(many.into()));
    let truth = [(MapKey::Bool(true), 0), (MapKey::Bool(false), 99)];
    let truth = truth.map(|(key, heat)| (key, Value::EnumNumber(heat)));
    set("by_truth", Value::Map(truth.into()));
    let time = prost_types::Timestamp {
        seconds: 1_769_860_800,
        nanos: 500_000_000,
    };
    let dish = prost_types::Any {
        type_url: "type.googleapis.com/kitchen.Dish".to_owned(),
        value: prost::Message::encode_to_vec(&crate::testing::dish("soup", 0)),
    };
    let known = |name: &str, value: &dyn Fn(&mut DynamicMessage)| {
        let mut known = DynamicMessage::new(message(name));
        value(&mut known);
        Value::Message(known)
    };
    set(
        "timestamp",
        Value::Message(from(&message("google.protobuf.Timestamp"), &time)),
    );
    set(
        "any",
        Value::Message(from(&message("google.protobuf.Any"), &dish)),
    );
    set("int64_value", known("google.protobuf.Int64Value", &|_| {}));
    let wine = known("cellar.Wine", &|wine| {
        wine.set_field_by_name("label", Value::String("ü".to_owned()));
        let rating = wine.descriptor_extension("cellar.rating");
        wine.set_extension(&rating, Value::I64(7));
    });
    set("wine", wine);
    sample
}

trait Extended {
    fn descriptor_extension(&self, name: &str) -> prost_reflect::ExtensionDescriptor;
}

impl Extended for DynamicMessage {
    fn descriptor_extension(&self, name: &str) -> prost_reflect::ExtensionDescriptor {
        crate::testing::POOL.get_extension_by_name(name).unwrap()
    }
}

#[test]
fn xml_is_as_its_definition_says() {
    let expected = r#"<Everything>
  <int64>-9007199254740993</int64>
  <double>1e300</double>
  <string> two&#xD;
lines &amp; &lt;more&gt;</string>
  <bytes>AP8=</bytes>
  <heat>HOT</heat>
  <many_strings>first</many_strings>
  <many_strings></many_strings>
  <many_strings encoding="base64">AQ==</many_strings>
  <by_truth>
    <entry>
      <key>false</key>
      <value>99</value>
    </entry>
    <entry>
      <key>true</key>
      <value>MILD</value>
    </entry>
  </by_truth>
  <timestamp>2026-01-31T12:00:00.500Z</timestamp>
  <int64_value>0</int64_value>
  <any type="type.googleapis.com/kitchen.Dish">
    <name>soup</name>
  </any>
  <wine>
    <label>ü</label>
    <extension name="cellar.rating">7</extension>
  </wine>
</Everything>
"#;
    assert_eq!(form("xml", &sample()), expected);
}

#[test]
fn xml_may_be_written_in_other_ways_too() {
    let text = r#"<?xml version="1.0" encoding="UTF-8"?>
        <!-- by hand --><k:kitchen.Everything xmlns:k="urn:x" xsi:schemaLocation="y">
          <int64> -1 </int64><?pi?>
          <byTruth><entry><value>HOT</value><key>0</key></entry></byTruth>
          <many_int64>1</many_int64><bool>1</bool><many_int64>2</many_int64>
          <double>INF</double>
          <string>a<![CDATA[ <b> ]]>&#65;&#x42;&quot;&apos;</string>
          <bytes> AP8
                  A </bytes>
          <jar/>
        </k:kitchen.Everything><!-- the end -->"#
        .replace("<jar/>", "<wine/>");
    let read = decode("xml", text.as_bytes(), "kitchen.Everything", true).unwrap();
    assert_eq!(
        read[0].to_text_format(),
        "int64:-1,double:inf,bool:true,string:\"a <b> AB\\\"\\'\",bytes:\"\\000\\377\\000\",many_int64:[1,2],\
         by_truth:[{key:false,value:HOT}],wine{}"
    );
    assert_eq!(read.len(), 1);
}

#[test]
fn an_any_of_an_unknown_type_and_an_empty_one_keep_their_bytes_in_xml() {
    let leaf = prost_types::Any {
        type_url: "example.com/acme.Leaf".to_owned(),
        value: vec![8, 1],
    };
    for (any, expected) in [
        (
            leaf,
            "<Any type=\"example.com/acme.Leaf\" encoding=\"base64\">CAE=</Any>\n",
        ),
        (prost_types::Any::default(), "<Any/>\n"),
    ] {
        let sent = from(&message("google.protobuf.Any"), &any);
        assert_eq!(form("xml", &sent), expected);
        let read = decode("xml", expected.as_bytes(), "google.protobuf.Any", false).unwrap();
        assert_eq!(read[0].transcode_to::<prost_types::Any>().unwrap(), any);
    }
}

#[test]
fn yaml_has_the_names_and_values_of_json() {
    let yaml = form("yaml", &sample());
    for line in [
        "int64: \"-9007199254740993\"",
        "bytes: AP8=",
        "heat: HOT",
        "timestamp: 2026-01-31T12:00:00.500Z",
        "  \"@type\": type.googleapis.com/kitchen.Dish",
        "  \"[cellar.rating]\": \"7\"",
    ] {
        let is_there = yaml
            .lines()
            .any(|found| found.replace('\'', "\"").replace('"', "") == line.replace('"', ""));
        assert!(is_there, "{line}\n{yaml}");
    }
}

#[test]
fn yaml_needs_no_quotes_where_the_schema_says_what_is_meant() {
    let text = "\
# A comment
string: 007
int64: 0x10
uint64: '18446744073709551615'
bool: true
double: .inf
float: Infinity
many_strings: [yes, 1.0, 2026-01-31]
byNumber: {1: AA==}
optionalString: ~
by_name:
  a: &jar
    int32: 1
  b: *jar
  c:
    <<: *jar
    int64: 2
struct: {x: [1, null]}
";
    let read = decode("yaml", text.as_bytes(), "kitchen.Everything", false).unwrap();
    let json = form("ndjson", &read[0]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({
        "string": "007", "int64": "16", "uint64": "18446744073709551615", "bool": true, "double": "Infinity",
        "float": "Infinity", "manyStrings": ["yes", "1.0", "2026-01-31"], "byNumber": {"1": "AA=="},
        "byName": {"a": {"int32": 1}, "b": {"int32": 1}, "c": {"int32": 1, "int64": "2"}},
        "struct": {"x": [1.0, null]},
    });
    assert_eq!(value, expected);
}

#[test]
fn yaml_documents_are_messages_and_empty_ones_are_none() {
    let text = "%YAML 1.2\n---\n# nothing\n---\nname: a\n...\n# between\n---\n---\nname: |\n  b\n  # c\n--- {name: d}\n---\n";
    let read = decode("yaml", text.as_bytes(), "kitchen.Order", true).unwrap();
    let names: Vec<_> = (read.iter())
        .map(|order| {
            order
                .get_field_by_name("name")
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["a", "b\n# c\n", "d"]);
}

#[test]
fn text_has_a_record_separator_between_messages() {
    let dishes = ["a", "b\u{1E}"].map(|name| crate::testing::dish(name, 0));
    let text = encode(&*codec("text"), &dishes, true);
    assert_eq!(text, b"name: \"a\"\n\x1E\nname: \"b\\036\"\n\x1E\n");
    let read = |text: &str, many| {
        decode("text", text.as_bytes(), "kitchen.Dish", many)
            .unwrap()
            .len()
    };
    assert_eq!(
        read("name: 'a' # \x1E \x1E\x1Ename: 'b'", true),
        4,
        "two of them have nothing set"
    );
    assert_eq!(read(" # nothing\n", true), 0);
    assert_eq!(
        read(" # nothing\n", false),
        1,
        "that is how an empty message is written"
    );
}

#[test]
fn binary_has_the_length_before_each_message_where_there_may_be_several() {
    let dish = crate::testing::dish("a", 0);
    assert_eq!(
        encode(&*codec("binary"), &[dish.clone(), dish.clone()], true),
        b"\x03\x0A\x01a\x03\x0A\x01a"
    );
    assert_eq!(
        encode(&*codec("binary"), std::slice::from_ref(&dish), false),
        b"\x0A\x01a"
    );
    assert_eq!(decode("binary", b"", "kitchen.Dish", true).unwrap().len(), 0);
    assert_eq!(decode("binary", b"", "kitchen.Dish", false).unwrap().len(), 1);
}

#[test]
fn defaults_are_written_where_they_are_asked_for() {
    let options = EncodeOptions {
        many: false,
        emit_defaults: true,
    };
    for (name, expected) in [
        ("ndjson", "{\"name\":\"\",\"count\":\"0\"}\n"),
        ("yaml", "name: \"\"\ncount: \"0\"\n"),
        ("xml", "<Dish>\n  <name></name>\n  <count>0</count>\n</Dish>\n"),
    ] {
        let mut out = Vec::new();
        let dish = crate::testing::dish("", 0);
        codec(name).encode(&dish, options, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
