//! `adit call`, as a script uses it, against an ordinary gRPC server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use adit_examples::route_guide;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::world::process::NOWHERE;

/// A RouteGuide server; it ends with the test's runtime.
async fn route_guide_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = route_guide::routes().await;
    tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    url
}

/// `adit call` of a method of the server at `url`, without variables that would change what it does.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADIT_")) {
        command.env_remove(name);
    }
    // Nor what earlier calls have learnt of servers that are gone.
    command
        .env("XDG_CONFIG_HOME", NOWHERE)
        .args(["call", "--no-cache"])
        .args(["--hub", url])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

async fn adit_call(url: &str, arguments: &[&str]) -> Output {
    tokio::process::Command::from(command(url, arguments))
        .output()
        .await
        .unwrap()
}

/// What a call that succeeds prints, and nothing on standard error.
async fn succeeds(url: &str, arguments: &[&str]) -> String {
    let output = adit_call(url, arguments).await;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

/// What a call that ends with `code` says, and nothing on standard output.
async fn fails(url: &str, arguments: &[&str], code: i32) -> String {
    let output = adit_call(url, arguments).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    said
}

const PLACE: &str = r#"{"latitude": 409146138, "longitude": -746188906}"#;

#[tokio::test]
async fn every_kind_of_method() {
    let url = route_guide_server().await;
    let feature = succeeds(&url, &["routeguide.RouteGuide/GetFeature", "-d", PLACE]).await;
    assert!(feature.contains("\"longitude\": -746188906"), "{feature}");

    let area = r#"{"lo": {"latitude": 400000000, "longitude": -750000000}, "hi": {"latitude": 420000000, "longitude": -730000000}}"#;
    let features = succeeds(&url, &["routeguide.RouteGuide/ListFeatures", "-d", area]).await;
    assert!(features.matches("\"location\"").count() > 1, "{features}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{PLACE}\n{PLACE}\n{{}}").unwrap();
    let points = format!("@{}", file.path().display());
    let summary = succeeds(&url, &["routeguide.RouteGuide/RecordRoute", "-d", &points]).await;
    assert!(summary.contains("\"pointCount\": 3"), "{summary}");

    let note = r#"{"location": {"latitude": 1}, "message": "first"} {"location": {"latitude": 1}, "message": "second"}"#;
    let notes = succeeds(&url, &["routeguide.RouteGuide/RouteChat", "-d", note]).await;
    assert!(notes.contains("\"message\": \"first\""), "{notes}");
}

/// A server counts small frames that it has not come to, and ends a connection that has too many.
#[tokio::test]
async fn a_long_stream_of_small_requests_arrives() {
    const POINTS: usize = 300_000;
    let url = route_guide_server().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all("{\"latitude\": 1}\n".repeat(POINTS).as_bytes())
        .unwrap();
    let points = format!("@{}", file.path().display());
    let summary = succeeds(&url, &["routeguide.RouteGuide/RecordRoute", "-d", &points]).await;
    assert!(
        summary.contains(&format!("\"pointCount\": {POINTS}")),
        "{summary}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_once() {
    let url = route_guide_server().await;
    let wrong = ["routeguide.RouteGuide/GetFeature", "-d", r#"{"latitud": 1}"#];
    assert_eq!(
        fails(&url, &wrong, 1).await,
        "adit: the data given, line 1, column 10: routeguide.Point has no field 'latitud'; did you mean 'latitude'?\n"
    );
}

#[tokio::test]
async fn standard_input_and_output_are_a_conversation() {
    let url = route_guide_server().await;
    let mut child =
        tokio::process::Command::from(command(&url, &["routeguide.RouteGuide/RouteChat", "-d", "@-"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // The second note at a place is answered with the first, while the input is still open.
    for message in ["first", "second"] {
        let note = format!("{{\"location\": {{\"latitude\": 1}}, \"message\": \"{message}\"}}");
        input.write_all(note.as_bytes()).await.unwrap();
    }
    let mut answer = String::new();
    while !answer.contains("\"first\"") {
        assert_ne!(output.read_line(&mut answer).await.unwrap(), 0, "{answer}");
    }
    drop(input);
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_form_of_requests_and_that_of_answers_are_chosen_apart() {
    let url = route_guide_server().await;
    let method = "routeguide.RouteGuide/GetFeature";
    let xml = "<Point><latitude>401000000</latitude><longitude>-749000000</longitude></Point>";
    let yaml = "latitude: 401000000\nlongitude: -749000000\n";
    let name = "Alder Bridge";

    // Recognized, and then answered as JSON.
    let json = r#"{"latitude": 401000000, "longitude": -749000000}"#;
    for data in [json, xml, yaml, "latitude:401000000 longitude:-749000000"] {
        let answer = succeeds(&url, &[method, "-d", data]).await;
        assert!(answer.starts_with('{') && answer.contains(name), "{answer}");
    }
    // By the name of the file, which says more than its content.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("@{}", path.display())
    };
    let answer = succeeds(&url, &[method, "-d", &file("point.XML", xml), "--output", "yaml"]).await;
    assert_eq!(
        answer,
        format!("name: {name}\nlocation:\n  latitude: 401000000\n  longitude: -749000000\n")
    );
    let said = fails(&url, &[method, "-d", &file("point.yaml", xml)], 1).await;
    assert!(said.contains("point.yaml, line 1, column 1: "), "{said}");
    // A flag says more than either.
    let answer = succeeds(
        &url,
        &[
            method,
            "-d",
            &file("p.json", yaml),
            "--format",
            "yaml",
            "-o",
            "xml",
        ],
    )
    .await;
    assert!(answer.starts_with("<Feature>\n  <name>Alder Bridge"), "{answer}");
    // Alone it is for both.
    let text = "latitude: 401000000 longitude: -749000000";
    let answer = succeeds(&url, &[method, "-d", text, "--format", "text"]).await;
    assert!(answer.starts_with("name: \"Alder Bridge"), "{answer}");
    let answer = succeeds(&url, &[method, "-d", json, "-o", "ndjson"]).await;
    assert_eq!(answer.lines().count(), 1, "{answer}");

    // What one call writes another reads. The server keeps notes: three at one place are answered with none, one and
    // two; three more with three, four and five.
    let chat = "routeguide.RouteGuide/RouteChat";
    for (place, format) in ["json", "ndjson", "yaml", "xml", "text", "binary"]
        .into_iter()
        .enumerate()
    {
        let note = format!("{{\"location\": {{\"latitude\": {place}}}, \"message\": \"x\"}}");
        let notes = adit_call(&url, &[chat, "-d", &note.repeat(3), "-o", format]).await;
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(&notes.stdout).unwrap();
        let input = format!("@{}", written.path().display());
        let answers = succeeds(&url, &[chat, "-d", &input, "--format", format, "-o", "ndjson"]).await;
        assert_eq!(answers.lines().count(), 12, "{format}: {answers}");
    }
}

#[tokio::test]
async fn an_unknown_field_is_an_error_unless_it_is_allowed_and_defaults_are_shown_where_asked_for() {
    let url = route_guide_server().await;
    let method = "routeguide.RouteGuide/GetFeature";
    let said = fails(&url, &[method, "-d", "latitud: 1"], 1).await;
    assert!(
        said.contains("has no field 'latitud'; did you mean 'latitude'?"),
        "{said}"
    );
    let arguments = [
        method,
        "-d",
        "latitud: 1",
        "--allow-unknown",
        "--emit-defaults",
        "-o",
        "yaml",
    ];
    let answer = succeeds(&url, &arguments).await;
    assert_eq!(answer, "name: \"\"\nlocation:\n  latitude: 0\n  longitude: 0\n");
}

#[tokio::test]
async fn a_template_is_a_request_to_be_filled_in() {
    let url = route_guide_server().await;
    let method = "routeguide.RouteGuide/ListFeatures";
    let template = succeeds(&url, &[method, "--template", "-o", "yaml"]).await;
    assert_eq!(
        template,
        "lo:\n  latitude: 0\n  longitude: 0\nhi:\n  latitude: 0\n  longitude: 0\n"
    );
    assert_eq!(succeeds(&url, &[method, "-d", &template]).await, "");
}

#[tokio::test]
async fn verbose_tells_what_happens_beside_the_answer() {
    let url = route_guide_server().await;
    let method = "routeguide.RouteGuide/GetFeature";
    let mut metadata = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        metadata,
        "# of this test\nauthorization: Bearer s3cret\nx-team-bin: AAE"
    )
    .unwrap();
    let file = format!("@{}", metadata.path().display());
    let output = adit_call(
        &url,
        &[
            method,
            "--verbose",
            "-H",
            &file,
            "--metadata",
            "x-who: me",
            "-o",
            "ndjson",
        ],
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"location\":{}}\n");
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "* > x-who: me\n",
        "* > x-team-bin: AAE",
        "* > authorization: (not shown)\n",
        "* connected to http://127.0.0.1:",
        "* method known from reflection in ",
        "* < content-type: application/grpc\n",
        "* first message after ",
        "* OK, 1 message, ",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
    assert!(
        said.lines().all(|line| line.starts_with("* ")) && !said.contains("s3cret"),
        "{said}"
    );

    let output = adit_call(&url, &[method, "-v", "--timeout", "0s"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("* DEADLINE_EXCEEDED, "), "{said}");
}

#[tokio::test]
async fn a_proto_file_will_do_where_the_cache_and_the_server_are_not_asked() {
    let url = route_guide_server().await;
    let proto = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/route_guide/proto/route_guide.proto"
    );
    let method = "routeguide.RouteGuide/GetFeature";
    let answer = succeeds(
        &url,
        &[method, "--proto", proto, "--no-reflection", "-o", "ndjson"],
    )
    .await;
    assert_eq!(answer, "{\"location\":{}}\n");
    let said = fails(&url, &[method, "--no-reflection"], 1).await;
    assert!(said.contains("--no-reflection"), "{said}");
    let said = fails(&url, &[method, "--proto", "/no/such.proto"], 1).await;
    assert!(said.contains("/no/such.proto"), "{said}");
    let said = fails(&url, &[method, "-d", PLACE, "--max-message-size", "10B"], 1).await;
    assert!(said.contains("longer than 10 bytes"), "{said}");
    fails(&url, &[method, "--compress", "rar"], 2).await;
}

#[tokio::test]
async fn a_second_call_knows_the_method_from_the_first() {
    let url = route_guide_server().await;
    let folder = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command
            .args(["call", "routeguide.RouteGuide/GetFeature", "--hub", &url, "-v"])
            .env("XDG_CACHE_HOME", folder.path());
        let output = tokio::process::Command::from(command).output().await.unwrap();
        assert!(output.status.success());
        said.push(String::from_utf8(output.stderr).unwrap());
    }
    assert!(
        said[0].contains("method known from reflection in "),
        "{}",
        said[0]
    );
    assert!(said[1].contains("method known from the cache in "), "{}", said[1]);
}

#[tokio::test]
async fn exit_codes_tell_what_failed() {
    let url = route_guide_server().await;
    // 2: the command line.
    let said = fails(&url, &["GetFeature"], 2).await;
    assert!(said.contains("package.Service/Method"), "{said}");
    let said = fails("127.0.0.1:9090", &["a.B/C"], 2).await;
    assert!(said.contains("http://"), "{said}");
    let said = fails(&url, &["a.B/C", "-H", "no colon"], 2).await;
    assert!(said.contains("'key: value'"), "{said}");
    fails(&url, &["a.B/C", "--agent", "site-7", "--select", "a=b"], 2).await;
    fails(&url, &["a.B/C", "--format", "morse"], 2).await;

    // 1: whatever went wrong before the call.
    let said = fails(&url, &["routeguide.RouteGuide/Nowhere"], 1).await;
    assert!(
        said.contains("GetFeature, ListFeatures, RecordRoute, RouteChat"),
        "{said}"
    );
    let said = fails(
        &url,
        &[
            "routeguide.RouteGuide/GetFeature",
            "-d",
            "{\"latitude\": 1,\n \"altitude\": 2}",
        ],
        1,
    )
    .await;
    assert!(
        said.contains("line 2, column 11: routeguide.Point has no field 'altitude'"),
        "{said}"
    );
    let said = fails(&url, &["routeguide.RouteGuide/GetFeature", "-d", "{}{}"], 1).await;
    assert!(said.contains("takes one message"), "{said}");
    let said = fails(
        &url,
        &["routeguide.RouteGuide/GetFeature", "-d", "@/no/such/file"],
        1,
    )
    .await;
    assert!(said.contains("/no/such/file"), "{said}");

    // 64 and the status: the call.
    let said = fails(
        &url,
        &["routeguide.RouteGuide/RouteChat", "-d", "@-", "--timeout", "0s"],
        68,
    )
    .await;
    assert!(said.contains("DEADLINE_EXCEEDED (4)"), "{said}");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let said = fails(&url, &["a.B/C"], 1).await;
    assert!(said.contains(&url), "{said}");
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_the_call_quietly() {
    let url = route_guide_server().await;
    let area = r#"{"lo": {"latitude": -900000000, "longitude": -1800000000}, "hi": {"latitude": 900000000, "longitude": 1800000000}}"#;
    let mut child =
        tokio::process::Command::from(command(&url, &["routeguide.RouteGuide/ListFeatures", "-d", area]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn the_environment_stands_in_for_flags_and_flags_beat_it() {
    let url = route_guide_server().await;
    let mut command = command(&url, &["routeguide.RouteGuide/GetFeature", "-d", "{}"]);
    command
        .env("ADIT_CALL_HUB", "http://127.0.0.1:1")
        .env("ADIT_CALL_DATA", "not json");
    let output = tokio::process::Command::from(command).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command
        .args(["call", "routeguide.RouteGuide/GetFeature"])
        .env("XDG_CONFIG_HOME", NOWHERE)
        .env("ADIT_CALL_HUB", &url);
    let output = tokio::process::Command::from(command).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
