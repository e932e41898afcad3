//! Inputs that are wrong, or worse.

use std::time::{Duration, Instant};

use super::{codec, decode, decode_with, error};
use crate::codec::{DecodeOptions, MAX_DEPTH};
use crate::testing::message;

/// Far more than reading a small input takes, and far less than an attack would.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn yaml_errors_say_where_and_in_which_field() {
    for (text, expected) in [
        (
            "name: x\ncount: -1\n",
            "line 2, column 8: in field count: out of range integral type conversion attempted; \
             it takes an integer from 0 to 18446744073709551615",
        ),
        (
            "---\njar:\n  inner:\n  - {}\n  - lable: y\n",
            "line 5, column 5: in field jar.inner[1]: shelf.Jar has no field 'lable'; did you mean 'label'?",
        ),
        (
            "name: a\n---\neverything:\n  heat: HOTT\n",
            "line 4, column 9: in field everything.heat: kitchen.Heat has no value 'HOTT'; did you mean 'HOT'?",
        ),
    ] {
        assert_eq!(error("yaml", text), expected);
    }
    for (text, place) in [
        ("name: a\nname: b\n", "line 2, column 1: "),
        ("name: [a\n", "line 1, column 7: in field name: "),
        ("jar: [a\n", "line 1, column 6: in field jar: "),
        ("a: b: c\n", "line 1, column "),
        ("- 1\n", "line 1, column 1: "),
        ("name: \u{1}\n", "line 1, column "),
        (
            "everything: {bool: yes}\n",
            "line 1, column 14: in field everything.bool: ",
        ),
    ] {
        let said = error("yaml", text);
        assert!(said.starts_with(place), "{said}");
        assert!(!said.contains(" at line "), "{said}");
    }
}

#[test]
fn xml_errors_say_where_and_in_which_field() {
    for (text, expected) in [
        (
            "<Order>\n  <count>-1</count>\n</Order>",
            "line 2, column 10: in field count: \"-1\" is wrong here: invalid digit found in string; \
             it takes an integer from 0 to 18446744073709551615",
        ),
        (
            "<Order/>\n<Order><jar><inner/><inner><lable/></inner></jar></Order>",
            "line 2, column 28: in field jar.inner[1]: shelf.Jar has no field 'lable'; did you mean 'label'?",
        ),
        (
            "<Order><everything><by_truth><entry><key>maybe</key></entry></by_truth></everything></Order>",
            "line 1, column 42: in field everything.by_truth.key: \"maybe\" is wrong here; it takes true or false",
        ),
        (
            "<Order><everything><heat>HOTT</heat></everything></Order>",
            "line 1, column 26: in field everything.heat: kitchen.Heat has no value 'HOTT'; did you mean 'HOT'?",
        ),
        (
            "<Order><everything><word>a</word><number>1</number></everything></Order>",
            "line 1, column 34: in field everything.number: word is there as well, and choice takes one of the two",
        ),
        (
            "<Order><name>a</name><name>b</name></Order>",
            "line 1, column 22: in field name: it is there twice, and is not repeated",
        ),
        (
            "<Dish/>",
            "line 1, column 1: the element <Dish> is no kitchen.Order; it is to be <Order>",
        ),
        (
            "<Order>\n\n  text</Order>",
            "line 3, column 3: there is text, \"text\", where only elements may be",
        ),
        (
            "<Order><name><b/></name></Order>",
            "line 1, column 14: in field name: there is an element, <b>, where only text may be",
        ),
        (
            "<Order colour=\"red\"/>",
            "line 1, column 1: <Order> has no attribute 'colour'; fields are elements",
        ),
        (
            "<Order><name>&nbsp;</name></Order>",
            "line 1, column 14: in field name: there is no entity &nbsp;, only &amp; &lt; &gt; &quot; &apos; and characters by number",
        ),
        (
            "<Order><name>a",
            "line 1, column 15: in field name: the input ends in the middle of a message, which began at line 1, column 1",
        ),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><Order/>",
            "line 1, column 1: the encoding ISO-8859-1 is not UTF-8",
        ),
    ] {
        assert_eq!(error("xml", text), expected);
    }
    for text in [
        "<Order></Dish>",
        "</Order>",
        "<Order",
        "<Order a>",
        "< Order/>",
        "<Order/>>",
        "x<Order/>",
    ] {
        let said = error("xml", text);
        assert!(said.starts_with("line 1, column "), "{said}");
    }
}

#[test]
fn text_and_binary_errors_say_where() {
    assert_eq!(
        error("text", "name: 'x'\njar { lable: 'y' }"),
        "line 2, column 7: shelf.Jar has no field 'lable'; did you mean 'label'?"
    );
    assert_eq!(
        error("text", "count: -1"),
        "line 1, column 8: expected value to be an unsigned 64-bit integer, but the value -1 is out of range"
    );
    assert_eq!(
        error("text", "name: 'x'\x1E\neverything { heat: HOTT }"),
        "line 2, column 20: kitchen.Heat has no value 'HOTT'; did you mean 'HOT'?"
    );
    assert!(error("text", "jar {").starts_with("line 1, column 6: "));
    let read = |bytes: &[u8]| {
        decode("binary", bytes, "kitchen.Order", true)
            .unwrap_err()
            .to_string()
    };
    assert!(read(b"\x03\x0A\x01a\x09\x0A").starts_with("byte 6: the input ends in the middle"));
    assert!(read(b"\x03\x0A\x05a").starts_with("byte 1: "));
    assert!(read(&[0xFF; 11]).starts_with("byte 0: this is no length"));
}

#[test]
fn unknown_fields_are_left_out_where_that_is_allowed() {
    for (name, text) in [
        ("json", "{\"x\": {\"y\": [1]}, \"name\": \"a\"}"),
        ("yaml", "x: {y: [1]}\nname: a\n"),
        (
            "xml",
            "<Order><x><y>1</y></x><name>a</name><extension name=\"p.x\"><z/></extension></Order>",
        ),
    ] {
        let options = DecodeOptions {
            allow_unknown: true,
            ..DecodeOptions::default()
        };
        let read = decode_with(
            &*codec(name),
            &[text.as_bytes()],
            message("kitchen.Order"),
            options,
        )
        .unwrap();
        assert_eq!(read[0].to_text_format(), "name:\"a\"", "{name}");
        assert!(
            decode(name, text.as_bytes(), "kitchen.Order", true).is_err(),
            "{name}"
        );
    }
}

#[test]
fn no_bomb_goes_off() {
    let begun = Instant::now();
    let entities =
        "<!DOCTYPE Order [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>\n<Order><name>&b;</name></Order>";
    assert!(error("xml", entities).starts_with("line 1, column 1: this is a DTD, and none is taken"));
    let external = "<!DOCTYPE Order SYSTEM \"file:///etc/passwd\"><Order/>";
    assert!(error("xml", external).starts_with("line 1, column 1: this is a DTD"));

    // Each line has nine times what the line before has.
    let mut laughs = "a0: &a0 ha\n".to_owned();
    for line in 1..30 {
        let aliases = vec![format!("*a{}", line - 1); 9].join(", ");
        laughs.push_str(&format!("a{line}: &a{line} [{aliases}]\n"));
    }
    let indented: String = laughs.lines().map(|line| format!("    {line}\n")).collect();
    let said = error("yaml", &format!("everything:\n  struct:\n{indented}"));
    assert!(
        said.contains("the document grows too large here: anchors and aliases"),
        "{said}"
    );
    // The same with few aliases of something large.
    let limit = DecodeOptions {
        max_size: 1 << 16,
        ..DecodeOptions::default()
    };
    let large = "x".repeat(1 << 12);
    let aliases = vec!["*a"; 1000].join(", ");
    let text = format!("name: &a {large}\neverything:\n  many_strings: [{aliases}]\n");
    let read = decode_with(
        &*codec("yaml"),
        &[text.as_bytes()],
        message("kitchen.Order"),
        limit,
    );
    let said = read.unwrap_err().to_string();
    assert!(said.contains("the document grows too large here"), "{said:.200}");
    let said = error("yaml", "everything: &a {children: [*a]}\n");
    assert!(said.starts_with("line 1, column "), "{said}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn nobody_digs_deeper_than_the_stack() {
    // What the first thread of a process has. Frames are several times as large as in a release.
    let digging = std::thread::Builder::new().stack_size(8 << 20);
    digging.spawn(dig).unwrap().join().unwrap();
}

fn dig() {
    let begun = Instant::now();
    let deep = 100_000;
    for (name, open) in [
        ("json", "{\"everything\":{\"order\":"),
        ("json", "{\"everything\":{\"list\":[[[[["),
        ("yaml", "{everything: {order: "),
        ("yaml", "[["),
        ("yaml", "- - "),
        ("xml", "<Order><everything><order>"),
        ("text", "everything{order{"),
        ("text", "everything<order<"),
    ] {
        let said = error(name, &open.repeat(deep));
        assert!(said.len() < 100_000, "{name}: {} bytes", said.len());
    }
    // So deep as is allowed is allowed, and one more is not.
    let nested = |open: &str, close: &str, times| format!("{}{}", open.repeat(times), close.repeat(times));
    let jars = |times| format!("jar {{ {} }}", nested("inner {", "}", times));
    assert!(decode("text", jars(MAX_DEPTH - 1).as_bytes(), "kitchen.Order", false).is_ok());
    assert!(error("text", &jars(MAX_DEPTH)).contains("nested more than 100 deep"));
    let jars = |times| {
        format!(
            "<Order><jar>{}</jar></Order>",
            nested("<inner>", "</inner>", times)
        )
    };
    assert!(decode("xml", jars(MAX_DEPTH - 1).as_bytes(), "kitchen.Order", false).is_ok());
    assert!(error("xml", &jars(MAX_DEPTH)).contains("nested more than 100 deep"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn no_codec_reads_past_the_limit() {
    let options = |many| DecodeOptions {
        many,
        max_size: 1000,
        ..DecodeOptions::default()
    };
    let long = "x".repeat(2000);
    for (name, text) in [
        ("json", format!("{{\"name\": \"{long}")),
        ("yaml", format!("name: {long}")),
        ("yaml", format!("name: a\n# {long}\n")),
        ("yaml", format!("name: {long}\n---\n")),
        ("xml", format!("<Order><name>{long}")),
        ("xml", format!("<!-- {long}")),
        ("text", format!("name: '{long}")),
        ("binary", format!("\u{7F}{long}")),
    ] {
        let many = name != "binary";
        let error = decode_with(
            &*codec(name),
            &[text.as_bytes()],
            message("kitchen.Order"),
            options(many),
        )
        .unwrap_err();
        assert!(
            error.problem.contains("longer than 1000 bytes"),
            "{name}: {error}"
        );
        assert!(error.problem.contains("--max-message-size"), "{name}: {error}");
    }
    let length: &[u8] = b"\xFF\xFF\xFF\x7F";
    let error = decode_with(
        &*codec("binary"),
        &[length],
        message("kitchen.Order"),
        options(true),
    )
    .unwrap_err();
    assert!(error.problem.contains("268435455 bytes long"), "{error}");
}

#[test]
fn a_long_line_and_a_long_comment_take_no_longer_for_coming_in_small_pieces() {
    let begun = Instant::now();
    let long = "x".repeat(1 << 20);
    for (name, text) in [
        ("json", format!("{{\"name\": \"{long}\"}}")),
        ("yaml", format!("name: {long}\n")),
        ("xml", format!("<Order><!--{long}--><name>{long}</name></Order>")),
        ("text", format!("name: '{long}'\n")),
    ] {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(64).collect();
        let read = decode_with(
            &*codec(name),
            &pieces,
            message("kitchen.Order"),
            DecodeOptions::default(),
        );
        assert_eq!(read.unwrap().len(), 1, "{name}");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}
