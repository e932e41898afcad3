#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;
use crate::failure::Reason;

fn request(agent: &str, target: &str, token: Option<&str>) -> Request {
    Request {
        agent: agent.to_owned(),
        target: target.to_owned(),
        token: token.map(|token| Token::from(token.to_owned())),
    }
}

#[test]
fn lines_are_json_that_anybody_can_write() {
    for (line, expected) in [
        (
            r#"{"agent":"site-7","target":"db:5432"}"#,
            request("site-7", "db:5432", None),
        ),
        (
            " {\"target\" : \"db:5432\", \"token\": null, \"agent\": \"site\\u002d7\"}\r",
            request("site-7", "db:5432", None),
        ),
        (
            r#"{"agent":"a","target":"b:1","token":"secret"}"#,
            request("a", "b:1", Some("secret")),
        ),
    ] {
        assert_eq!(Request::parse(line.as_bytes()), Ok(expected), "{line}");
    }
    let line = request("a", "b:1", None).to_line();
    assert_eq!(line, b"{\"agent\":\"a\",\"target\":\"b:1\"}\n");
}

#[test]
fn what_is_wrong_is_told_without_a_word_of_it() {
    for (line, expected) in [
        ("", BadLine::NotJson { at: 1 }),
        ("GET / HTTP/1.1\r", BadLine::NotJson { at: 1 }),
        (r#"{"agent":"a","target":"b:1"} x"#, BadLine::NotJson { at: 30 }),
        ("null", BadLine::Other),
        (r#"["secret"]"#, BadLine::Other),
        (r#""secret""#, BadLine::Other),
        (r#"{"agent":"a"}"#, BadLine::Other),
        (
            r#"{"agent":"a","target":"b:1","token":["secret"]}"#,
            BadLine::Other,
        ),
        (r#"{"agent":"a","target":"b:1","secret":1}"#, BadLine::Other),
        (r#"{"agent":"a","agent":"secret","target":"b:1"}"#, BadLine::Other),
    ] {
        let bad = Request::parse(line.as_bytes()).unwrap_err();
        assert_eq!(bad, expected, "{line}");
        assert!(!bad.to_string().contains("secret"), "{bad}");
    }
    // However deep, and with bytes that are no text.
    assert!(Request::parse(&[b'['; MAX_LINE]).is_err());
    assert!(Request::parse(b"{\"agent\":\"\xff\",\"target\":\"b:1\"}").is_err());
}

#[test]
fn a_token_is_bounded_and_never_shown() {
    let longest = request("a", "b:1", Some(&"t".repeat(MAX_TOKEN)));
    assert!(longest.to_line().len() < MAX_LINE);
    assert_eq!(Request::parse(&longest.to_line()), Ok(longest));
    let long = request("a", "b:1", Some(&"t".repeat(MAX_TOKEN + 1)));
    assert_eq!(
        Request::parse(&long.to_line()),
        Err(BadLine::LongToken(MAX_TOKEN + 1))
    );
    assert!(!format!("{:?}", request("a", "b:1", Some("secret"))).contains("secret"));
}

#[test]
fn an_answer_says_what_a_call_would_have_been_told() {
    assert_eq!(Answer::Connected.to_line(), b"{\"ok\":true}\n");
    let failure = Failure::new(Reason::AgentOffline, "agent \"a\"\nis not connected");
    let answer = Answer::from(&failure);
    let line = answer.to_line();
    let text = r#"{"ok":false,"reason":"agent-offline","code":14,"message":"agent \"a\"\nis not connected"}"#;
    assert_eq!(line, [text.as_bytes(), b"\n"].concat());
    assert_eq!(Answer::parse(&line), Ok(answer));
    let later = Answer::parse(br#"{"ok":true,"peer":"192.0.2.1:22"}"#);
    assert_eq!(later, Ok(Answer::Connected));
    // The longest message of any failure fits, whatever is in it.
    let long = Answer::from(&Failure::new(Reason::Denied, "\u{1}".repeat(5000)));
    assert!(long.to_line().len() <= MAX_LINE);
}

#[test]
fn targets_are_equal_where_they_are_written_alike() {
    for (text, shown) in [
        ("db.internal:5432", "db.internal:5432"),
        ("DB.Internal.:5432", "db.internal:5432"),
        ("_ldap.dc_1:389", "_ldap.dc_1:389"),
        ("192.0.2.1:22", "192.0.2.1:22"),
        ("[2001:DB8::0:1]:22", "[2001:db8::1]:22"),
        ("[::ffff:192.0.2.1]:022", "192.0.2.1:22"),
    ] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), shown, "{text}");
    }
    for (text, rule) in [
        ("", "no port"),
        ("db", "no port"),
        ("db:", "port is not a number"),
        ("db:0", "port is not a number"),
        ("db:+1", "port is not a number"),
        ("db:65536", "port is not a number"),
        (":1", "neither a DNS name nor"),
        ("a..b:1", "neither a DNS name nor"),
        ("a b:1", "neither a DNS name nor"),
        ("ä:1", "neither a DNS name nor"),
        ("-a:1", "neither a DNS name nor"),
        ("user@db:1", "neither a DNS name nor"),
        ("tcp://db:1", "in brackets"),
        ("::1:22", "in brackets"),
        ("[db]:22", "no IPv6 address"),
        ("[::1%eth0]:22", "no IPv6 address"),
        ("127.1:22", "ends in a number"),
        ("127.0.0.256:22", "ends in a number"),
        ("0x7f000001:22", "ends in a number"),
        ("2130706433:22", "ends in a number"),
    ] {
        let error = text.parse::<Target>().unwrap_err().to_string();
        assert!(error.contains(rule) && error.contains("HOST:PORT"), "{error}");
    }
}

/// What a decoder makes of a stream that comes in such pieces, and how much of it that took.
fn decode(stream: &[u8], sizes: &[usize]) -> (Result<Option<Split>, LongLine>, usize) {
    let mut decoder = LineDecoder::default();
    let (mut at, mut piece) = (0, 0);
    while at < stream.len() {
        let size = sizes.get(piece).copied().unwrap_or(stream.len()).max(1);
        let next = (at + size).min(stream.len());
        match decoder.take(&stream[at..next]) {
            Ok(None) => (at, piece) = (next, piece + 1),
            done => return (done, next),
        }
    }
    (Ok(None), at)
}

proptest! {
    #[test]
    fn a_request_is_the_same_in_any_pieces_and_nothing_behind_it_is_lost(
        agent in ".{0,80}",
        target in ".{0,80}",
        token in prop::option::of(".{0,200}"),
        behind in prop::collection::vec(any::<u8>(), 0..200),
        sizes in prop::collection::vec(1usize..100, 0..20),
    ) {
        let request = request(&agent, &target, token.as_deref());
        let mut stream = request.to_line();
        let line = stream.len();
        stream.extend_from_slice(&behind);
        let (split, taken) = decode(&stream, &sizes);
        let split = split.unwrap().unwrap();
        prop_assert_eq!(Request::parse(&split.line), Ok(request));
        prop_assert_eq!(&split.rest, &stream[line..taken]);
    }

    #[test]
    fn any_bytes_are_judged_alike_in_any_pieces_and_within_the_limit(
        bytes in prop::collection::vec(prop_oneof![9 => any::<u8>(), 1 => Just(b'\n')], 0..400),
        long in 0usize..2 * MAX_LINE,
        sizes in prop::collection::vec(1usize..5000, 0..20),
    ) {
        let stream = [&vec![b' '; long][..], &bytes].concat();
        let end = stream.iter().position(|&byte| byte == b'\n');
        let (split, taken) = decode(&stream, &sizes);
        match split {
            Ok(Some(split)) => {
                prop_assert_eq!(Some(split.line.len()), end);
                prop_assert_eq!(&split.rest, &stream[split.line.len() + 1..taken]);
                let _ = Request::parse(&split.line);
                let _ = Answer::parse(&split.line);
            }
            Ok(None) => prop_assert!(end.is_none() && stream.len() <= MAX_LINE),
            Err(LongLine) => prop_assert!(end.unwrap_or(stream.len()) > MAX_LINE),
        }
    }

    #[test]
    fn a_target_is_read_as_it_is_written(text in "[a-zA-Z0-9.:_\\[\\]-]{0,40}") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }
}
