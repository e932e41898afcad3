#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::Code;

use super::{Call, CallError, Outcome};
use crate::connection::{ConnectError, Connection};
use crate::metadata::{Route, metadata};
use crate::schema::{Cache, ResolveError, Sources};
use crate::testing::{FILES, Offers, TestServer};
use crate::tls::Trust;

const WITHIN: Duration = Duration::from_secs(10);

fn call(method: &str, data: Option<&str>) -> Call {
    Call {
        input: data.map(|data| data.parse().unwrap()),
        ..Call::new(method.parse().unwrap())
    }
}

async fn connect(server: &TestServer) -> Connection {
    Connection::open(&server.url().parse().unwrap(), &Trust::System, WITHIN)
        .await
        .unwrap()
}

/// Makes a call of a new server, and gives what it wrote.
async fn run(method: &str, data: Option<&str>) -> (Result<Outcome, CallError>, String) {
    let server = TestServer::start(Offers::V1).await;
    run_on(&server, call(method, data)).await
}

async fn run_on(server: &TestServer, call: Call) -> (Result<Outcome, CallError>, String) {
    let connection = connect(server).await;
    let mut out = Vec::new();
    let outcome = call.run(&connection, &mut out).await;
    (outcome, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn all_four_kinds_of_method() {
    let (outcome, out) = run(
        "kitchen.Kitchen/Cook",
        Some(r#"{"name": "soup", "count": "18446744073709551615"}"#),
    )
    .await;
    assert_eq!(outcome.unwrap().answers, 1);
    assert_eq!(
        out,
        "{\n  \"name\": \"soup\",\n  \"count\": \"18446744073709551615\"\n}\n"
    );

    let (outcome, out) = run("kitchen.Kitchen/Serve", Some(r#"{"name": "tea", "count": 3}"#)).await;
    assert_eq!(outcome.unwrap().answers, 3);
    assert_eq!(out, "{\n  \"name\": \"tea\",\n  \"count\": \"3\"\n}\n".repeat(3));

    let (outcome, out) = run(
        "kitchen.Kitchen/Collect",
        Some("{\"name\": \"a\"}\n{\"name\": \"b\"}{}"),
    )
    .await;
    assert_eq!(outcome.unwrap().answers, 1);
    assert_eq!(out, "{\n  \"name\": \"a,b,\",\n  \"count\": \"3\"\n}\n");

    let (outcome, out) = run("kitchen.Kitchen/Chat", Some(r#"{"name":"a"} {"name":"b"}"#)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.answers, 2);
    assert_eq!(outcome.headers.get("content-type").unwrap(), "application/grpc");
    assert_eq!(outcome.trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(out, "{\n  \"name\": \"a\"\n}\n{\n  \"name\": \"b\"\n}\n");
}

#[tokio::test]
async fn a_stream_that_was_complete_is_not_reset() {
    let server = TestServer::start(Offers::V1).await;
    let connection = connect(&server).await;
    let call = call("kitchen.Kitchen/Collect", Some("{}{}{}"));
    call.run(&connection, &mut Vec::new()).await.unwrap();
    assert_eq!(server.seen.resets.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_an_input_one_message_is_empty_and_a_stream_is_too() {
    let (outcome, out) = run("kitchen.Kitchen/Cook", None).await;
    assert_eq!((outcome.unwrap().answers, out.as_str()), (1, "{}\n"));
    let (outcome, out) = run("kitchen.Kitchen/Serve", None).await;
    assert_eq!((outcome.unwrap().answers, out.as_str()), (0, ""));
    let (outcome, out) = run("kitchen.Kitchen/Collect", None).await;
    assert_eq!((outcome.unwrap().answers, out.as_str()), (1, "{}\n"));
    let (outcome, out) = run("kitchen.Kitchen/Chat", None).await;
    assert_eq!((outcome.unwrap().answers, out.as_str()), (0, ""));
}

#[tokio::test]
async fn one_message_means_one() {
    for method in ["kitchen.Kitchen/Cook", "kitchen.Kitchen/Serve"] {
        let server = TestServer::start(Offers::V1).await;
        let (outcome, out) = run_on(&server, call(method, Some("{}\n{}"))).await;
        assert!(
            matches!(outcome, Err(CallError::ManyMessages { .. })),
            "{outcome:?}"
        );
        assert_eq!(out, "");
        let (outcome, _) = run_on(&server, call(method, Some(" \n"))).await;
        assert!(matches!(outcome, Err(CallError::NoMessage { .. })), "{outcome:?}");
        assert_eq!(server.seen.requests.lock().unwrap().len(), 0, "no call is made");
    }
}

#[tokio::test]
async fn v1alpha_does_where_v1_is_not_offered() {
    let server = TestServer::start(Offers::V1Alpha).await;
    let (outcome, out) = run_on(&server, call("kitchen.Kitchen/Cook", Some(r#"{"name":"soup"}"#))).await;
    assert_eq!(outcome.unwrap().answers, 1);
    assert_eq!(out, "{\n  \"name\": \"soup\"\n}\n");
}

#[tokio::test]
async fn no_reflection_says_so() {
    let server = TestServer::start(Offers::Nothing).await;
    let (outcome, _) = run_on(&server, call("kitchen.Kitchen/Cook", None)).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, CallError::Resolve(ResolveError::NoReflection { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("does not offer reflection"), "{error}");
    assert!(error.failure().is_none());
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    for offers in [Offers::V1, Offers::V1Alpha] {
        let server = TestServer::start(offers).await;
        let (outcome, _) = run_on(&server, call("kitchen.Pantry/Cook", None)).await;
        let error = outcome.unwrap_err().to_string();
        assert!(
            error.starts_with("there is no service \"kitchen.Pantry\"; the services are: "),
            "{error}"
        );
        assert!(error.contains("kitchen.Kitchen"), "{error}");
        let (outcome, _) = run_on(&server, call("kitchen.Kitchen/Bake", None)).await;
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "kitchen.Kitchen has no method \"Bake\"; the methods are: Cook, Serve, Collect, Chat"
        );
    }
}

/// The schema as it was before a field or a method was added.
fn outdated(change: impl FnOnce(&mut prost_types::FileDescriptorProto)) -> prost_types::FileDescriptorSet {
    let mut set = FILES.clone();
    let kitchen = set.file.iter_mut().find(|file| file.name() == "kitchen.proto");
    change(kitchen.unwrap());
    set
}

fn message_of<'a>(
    file: &'a mut prost_types::FileDescriptorProto,
    name: &str,
) -> &'a mut prost_types::DescriptorProto {
    let found = file
        .message_type
        .iter_mut()
        .find(|message| message.name() == name);
    found.unwrap()
}

/// Where the one schema in a cache is.
fn cached_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut path = folder.to_owned();
    for _ in 0..3 {
        path = std::fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

#[tokio::test]
async fn what_reflection_said_is_not_asked_again() {
    let server = TestServer::start(Offers::V1).await;
    let folder = tempfile::tempdir().unwrap();
    let cached = |data| {
        let mut call = call("kitchen.Kitchen/Cook", Some(data));
        call.schema = Arc::new(Sources::reflection().with_cache(Some(Cache::new(folder.path().to_owned()))));
        call
    };
    let reflections = || server.seen.reflections.load(Ordering::SeqCst);
    let data = r#"{"name": "soup", "count": 3}"#;
    let expected = "{\n  \"name\": \"soup\",\n  \"count\": \"3\"\n}\n";
    run_on(&server, cached(data)).await.0.unwrap();
    let asked = reflections();
    assert_ne!(asked, 0);
    let (outcome, out) = run_on(&server, cached(data)).await;
    outcome.unwrap();
    assert_eq!((out.as_str(), reflections()), (expected, asked));

    // The service has grown since: what does not fit has it asked again, before anything is printed.
    let path = cached_file(folder.path());
    for outdated in [
        outdated(|file| {
            message_of(file, "Order")
                .field
                .retain(|field| field.name() != "count");
        }),
        outdated(|file| {
            message_of(file, "Dish")
                .field
                .retain(|field| field.name() != "count");
        }),
        outdated(|file| file.service[0].method.retain(|method| method.name() != "Cook")),
    ] {
        std::fs::write(&path, prost::Message::encode_to_vec(&outdated)).unwrap();
        let before = reflections();
        let (outcome, out) = run_on(&server, cached(data)).await;
        outcome.unwrap();
        assert_eq!(out, expected);
        assert!(reflections() > before);
        let (_, out) = run_on(&server, cached(data)).await;
        assert_eq!(out, expected);
    }
    let now = reflections();
    run_on(&server, cached(data)).await.0.unwrap();
    assert_eq!(reflections(), now);

    // A type that is another now: the answer cannot be read, and the next call learns why.
    let other = outdated(|file| {
        let count = message_of(file, "Dish")
            .field
            .iter_mut()
            .find(|field| field.name() == "count");
        count
            .unwrap()
            .set_type(prost_types::field_descriptor_proto::Type::String);
    });
    std::fs::write(&path, prost::Message::encode_to_vec(&other)).unwrap();
    let error = run_on(&server, cached(data)).await.0.unwrap_err().to_string();
    assert!(error.contains("the schema does not match the service"), "{error}");
    assert_eq!(run_on(&server, cached(data)).await.1, expected);
}

#[tokio::test]
async fn files_describe_what_the_server_does_not() {
    let server = TestServer::start(Offers::Nothing).await;
    let proto = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/kitchen.proto"));
    let with_files = |method| {
        let mut call = call(method, Some("name: soup"));
        let sources = Sources::reflection().with_files(std::slice::from_ref(&proto), &[], &[]);
        call.schema = Arc::new(sources.unwrap());
        call
    };
    let (outcome, out) = run_on(&server, with_files("kitchen.Kitchen/Cook")).await;
    outcome.unwrap();
    assert_eq!(out, "{\n  \"name\": \"soup\"\n}\n");
    let error = run_on(&server, with_files("kitchen.Kitchen/Cok"))
        .await
        .0
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has no method \"Cok\"; did you mean Cook?"),
        "{error}"
    );
    // What the files do not have is asked for.
    let error = run_on(&server, with_files("kitchen.Pantry/Cook"))
        .await
        .0
        .unwrap_err();
    assert!(
        matches!(error, CallError::Resolve(ResolveError::NoReflection { .. })),
        "{error:?}"
    );
    let mut call = call("kitchen.Kitchen/Cook", None);
    call.schema = Arc::new(Sources::reflection().without_reflection());
    let error = run_on(&server, call).await.0.unwrap_err();
    assert!(error.to_string().contains("--no-reflection"), "{error}");
}

#[tokio::test]
async fn files_and_reflection_together_describe_what_is_in_an_any() {
    let server = TestServer::start(Offers::V1).await;
    let folder = tempfile::tempdir().unwrap();
    let proto = folder.path().join("leaf.proto");
    let text = "syntax = 'proto3'; package acme; message Leaf { int32 size = 1; }";
    std::fs::write(&proto, text).unwrap();
    let mut call = call("kitchen.Kitchen/Cook", Some("name: garnished"));
    call.schema = Arc::new(Sources::reflection().with_files(&[proto], &[], &[]).unwrap());
    let (outcome, out) = run_on(&server, call).await;
    outcome.unwrap();
    assert!(
        out.contains("\"@type\": \"type.googleapis.com/acme.Leaf\""),
        "{out}"
    );
    assert!(out.contains("\"size\": 1"), "{out}");
}

#[tokio::test]
async fn a_call_that_no_service_has_seen_is_made_again() {
    let server = TestServer::start(Offers::V1).await;
    let made = |data: &str, retries| {
        let mut call = call("kitchen.Kitchen/Cook", Some(data));
        call.retries = retries;
        call
    };
    let calls = || server.seen.requests.lock().unwrap().len();
    let (outcome, _) = run_on(&server, made("name: offline", 2)).await;
    assert_eq!(
        outcome.unwrap_err().failure().unwrap().tunnel_reason(),
        Some("agent-offline")
    );
    assert_eq!(calls(), 3);
    // The service's own failure is not.
    let (outcome, _) = run_on(&server, made("name: nothing", 2)).await;
    assert!(outcome.is_err());
    assert_eq!(calls(), 4);
}

#[tokio::test]
async fn requests_are_compressed_where_that_is_asked_for() {
    let server = TestServer::start(Offers::V1).await;
    let mut call = call("kitchen.Kitchen/Cook", None);
    call.compress = Some(tonic::codec::CompressionEncoding::Zstd);
    // This server takes none, and says so.
    let (outcome, _) = run_on(&server, call).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.failure().unwrap().status().code(), Code::Unimplemented);
    let seen = server.seen.requests.lock().unwrap();
    assert_eq!(seen[0].get("grpc-encoding").unwrap(), "zstd");
    let accepted = seen[0].get("grpc-accept-encoding").unwrap().to_str().unwrap();
    assert!(
        accepted.contains("gzip") && accepted.contains("zstd"),
        "{accepted}"
    );
}

#[tokio::test]
async fn messages_are_no_longer_than_allowed_on_the_wire_either() {
    let server = TestServer::start(Offers::V1).await;
    let mut call = call("kitchen.Kitchen/Cook", Some("{\"name\": \"0123456789\"}"));
    call.max_message_size = 10;
    let error = run_on(&server, call).await.0.unwrap_err().to_string();
    assert!(error.contains("longer than 10 bytes"), "{error}");
}

#[tokio::test]
async fn metadata_goes_with_the_call() {
    let server = TestServer::start(Offers::V1).await;
    let mut call = call("kitchen.Kitchen/Cook", None);
    let route = Route::Agent("site-7".parse().unwrap());
    call.metadata = metadata(&["x-raw-bin: AAH/".parse().unwrap()], Some(&route));
    call.deadline = Some(Instant::now() + WITHIN);
    run_on(&server, call).await.0.unwrap();
    let seen = server.seen.requests.lock().unwrap();
    let headers = seen.first().unwrap();
    assert_eq!(headers.get("adit-agent").unwrap(), "site-7");
    assert_eq!(headers.get("x-raw-bin").unwrap(), "AAH/");
    assert!(
        headers
            .get("user-agent")
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("adit/")
    );
    assert!(headers.contains_key("grpc-timeout"));
}

#[tokio::test]
async fn a_failure_is_the_services_own_words() {
    let (outcome, out) = run("kitchen.Kitchen/Cook", Some(r#"{"name":"nothing"}"#)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.failure().unwrap().status().code(), Code::NotFound);
    assert_eq!(
        error.to_string(),
        "NOT_FOUND (5): no such dish\n  ErrorInfo: NO_DISH (kitchen)"
    );
    assert_eq!(out, "");
}

#[tokio::test]
async fn a_failure_of_the_tunnel_is_told_as_such() {
    let (outcome, _) = run("kitchen.Kitchen/Cook", Some(r#"{"name":"offline"}"#)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.failure().unwrap().tunnel_reason(), Some("agent-offline"));
    assert!(
        error.to_string().contains("the hub reports agent-offline"),
        "{error}"
    );
}

#[tokio::test]
async fn answers_before_a_failure_are_printed_where_there_are_many() {
    let (outcome, out) = run("kitchen.Kitchen/Serve", Some(r#"{"name":"burnt","count":2}"#)).await;
    assert_eq!(
        outcome.unwrap_err().failure().unwrap().status().code(),
        Code::DataLoss
    );
    assert_eq!(out.matches("burnt").count(), 2);
    let (outcome, out) = run("kitchen.Kitchen/Cook", Some(r#"{"name":"burnt"}"#)).await;
    assert_eq!(
        outcome.unwrap_err().failure().unwrap().status().code(),
        Code::DataLoss
    );
    assert_eq!(out, "", "a call that failed has no answer");
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_leaves_nothing_half_written() {
    let (outcome, out) = run("kitchen.Kitchen/Cook", Some(r#"{"name":"garnished"}"#)).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, CallError::Encode(_)), "{error:?}");
    assert!(error.to_string().contains("acme.Leaf"), "{error}");
    assert_eq!(out, "");
}

#[tokio::test]
async fn the_deadline_ends_the_call() {
    let server = TestServer::start(Offers::V1).await;
    let mut call = call("kitchen.Kitchen/Cook", Some(r#"{"name":"never"}"#));
    call.deadline = Some(Instant::now() + Duration::from_millis(300));
    let (outcome, _) = run_on(&server, call).await;
    assert_eq!(
        outcome.unwrap_err().failure().unwrap().status().code(),
        Code::DeadlineExceeded
    );
}

#[tokio::test]
async fn malformed_input_is_placed() {
    let (outcome, _) = run("kitchen.Kitchen/Cook", Some("{\n  \"name\": soup\n}")).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "the data given, line 2, column 11: expected value"
    );
    let (outcome, _) = run("kitchen.Kitchen/Cook", Some("{\"name\": \"x\", \"colour\": 1}")).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "the data given, line 1, column 22: kitchen.Order has no field 'colour'; it has name, count, jar, everything"
    );
}

#[tokio::test]
async fn malformed_input_resets_a_stream_rather_than_ending_it() {
    let server = TestServer::start(Offers::V1).await;
    let connection = connect(&server).await;
    let (_dir, fifo) = named_pipe();
    let call = call("kitchen.Kitchen/Collect", Some(&format!("@{}", fifo.display())));
    let calling = tokio::spawn(async move { (call.run(&connection, &mut Vec::new()).await, connection) });

    let mut requests = open_to_write(&fifo).await;
    writeln!(requests, "{{\"name\": \"a\"}}").unwrap();
    eventually("the call arrives", || {
        server.seen.requests.lock().unwrap().len() == 1
    })
    .await;
    write!(requests, "{{\"nam").unwrap();
    drop(requests);

    let (outcome, _still_connected) = calling.await.unwrap();
    assert_eq!(
        outcome.unwrap_err().to_string(),
        format!(
            "{}, line 2, column 5: EOF while parsing a string; the message began at line 2, column 1",
            fifo.display()
        )
    );
    eventually("the server sees a reset", || {
        server.seen.resets.load(Ordering::SeqCst) > 0
    })
    .await;
}

#[tokio::test]
async fn files_are_read_and_missing_ones_are_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for index in 0..10_000 {
        writeln!(file, "{{\"name\": \"{index}\"}}").unwrap();
    }
    let path = format!("@{}", file.path().display());
    let (outcome, out) = run("kitchen.Kitchen/Chat", Some(&path)).await;
    assert_eq!(outcome.unwrap().answers, 10_000);
    assert!(out.ends_with("\"9999\"\n}\n"));

    let (outcome, _) = run("kitchen.Kitchen/Cook", Some("@/no/such/file")).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("cannot read /no/such/file: "), "{error}");
    let (outcome, _) = run("kitchen.Kitchen/Cook", Some("@/")).await;
    assert!(outcome.unwrap_err().to_string().starts_with("cannot read /: "));
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Connection::open(&url.parse().unwrap(), &Trust::System, WITHIN)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tcp { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&url) && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_no_longer_than_told() {
    // TLS is what waits for the other side first; over cleartext, HTTP/2 does not.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let error = Connection::open(&url.parse().unwrap(), &Trust::System, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Not HTTP/2, and then gone.
        stream.write_all(b"SSH-2.0-not_a_grpc_server\r\n").await.unwrap();
        let mut sink = Vec::new();
        let _reset = stream.read_to_end(&mut sink).await;
    });
    let connection = Connection::open(&url.parse().unwrap(), &Trust::System, WITHIN)
        .await
        .unwrap();
    let error = call("kitchen.Kitchen/Cook", None)
        .run(&connection, &mut Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.failure().unwrap().status().code(),
        Code::Unavailable,
        "{error}"
    );
    drop(connection);
    peer.await.unwrap();
}

/// A pipe whose reader has gone.
struct Closed;

impl AsyncWrite for Closed {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_broken_pipe_ends_the_call() {
    let server = TestServer::start(Offers::V1).await;
    let connection = connect(&server).await;
    let call = call("kitchen.Kitchen/Serve", Some(r#"{"count":1000000000}"#));
    let error = call.run(&connection, &mut Closed).await.unwrap_err();
    assert!(matches!(error, CallError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
}

#[tokio::test]
async fn an_answer_arrives_before_the_next_request_is_read() {
    let server = TestServer::start(Offers::V1).await;
    let connection = connect(&server).await;
    let (_dir, fifo) = named_pipe();
    let call = call("kitchen.Kitchen/Chat", Some(&format!("@{}", fifo.display())));
    let (mut output, mut out) = tokio::io::duplex(1024);
    let calling = tokio::spawn(async move {
        call.run(&connection, &mut out)
            .await
            .map(|outcome| outcome.answers)
    });

    let mut requests = open_to_write(&fifo).await;
    for name in ["first", "second"] {
        write!(requests, "{{\"name\": \"{name}\"}}").unwrap();
        let expected = format!("{{\n  \"name\": \"{name}\"\n}}\n");
        let mut answer = vec![0; expected.len()];
        output.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }
    drop(requests);
    assert_eq!(calling.await.unwrap().unwrap(), 2);
}

fn named_pipe() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("requests");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    (dir, path)
}

/// Opens a named pipe, which waits for its reader.
async fn open_to_write(fifo: &std::path::Path) -> std::fs::File {
    let fifo = fifo.to_owned();
    tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(fifo).unwrap())
        .await
        .unwrap()
}

/// Lets other tasks run until something holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {WITHIN:?}"));
}
