//! `adit describe`: a name in a schema as proto source.

use crate::world::operator::{Operator, ready};
use crate::world::process;
use crate::world::sample::Sample;
use crate::world::{ANY_PORT, World};

const PROTO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/route_guide/proto/route_guide.proto"
);

/// What is printed of what is there.
async fn describes(arguments: &[&str]) -> String {
    let output = process::output(&[&["describe"], arguments].concat()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(0), ""),
        "{arguments:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_agents_service_is_described_through_the_hub() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let _agents = ["a", "b"].map(|id| world.agent(&hub, id, &sample.url()));
    Operator::of(&hub).await.sees(ready(2)).await;
    let url = format!("http://{}", hub.clients);
    let of_a = ["--hub", &url, "--agent", "a"];

    let service = describes(&[&["routeguide.RouteGuide"], &of_a[..]].concat()).await;
    assert!(
        service.starts_with("// routeguide.RouteGuide: a service of "),
        "{service}"
    );
    let method = "  rpc ListFeatures(routeguide.Rectangle) returns (stream routeguide.Feature);\n";
    assert!(service.contains(method), "{service}");
    let message = describes(&[&["routeguide.Point"], &of_a[..]].concat()).await;
    assert!(message.contains("message Point {\n"), "{message}");
    assert!(message.contains("  int32 latitude = 1;\n"), "{message}");
    let all = describes(&of_a).await;
    assert!(
        all.contains("\nservice RouteGuide {\n") && all.contains("\nservice ServerReflection {\n"),
        "{all}"
    );

    let wrong = [&["describe", "routeguide.Pint"], &of_a[..]].concat();
    let said = process::fails(&wrong, 1).await;
    assert!(
        said.contains("there is no \"routeguide.Pint\"; did you mean routeguide.Point?"),
        "{said}"
    );
    // Two agents could be asked, and none is named.
    let said = process::fails(&["describe", "routeguide.Point", "--hub", &url], 64 + 9).await;
    assert!(said.contains("several agents could take the call"), "{said}");
}

#[tokio::test]
async fn files_are_described_without_a_server() {
    let files = ["--proto", PROTO, "--hub", "http://127.0.0.1:1"];
    let field = describes(&[&["routeguide.Feature.name"], &files[..]].concat()).await;
    let source = std::fs::read_to_string(PROTO).unwrap();
    let (comment, line) = field
        .split_once("\n")
        .unwrap()
        .1
        .rsplit_once('\n')
        .unwrap()
        .0
        .rsplit_once('\n')
        .unwrap();
    assert_eq!(line, "string name = 1;");
    assert!(comment.starts_with("//") && source.contains(comment), "{field}");

    let all = describes(&files).await;
    assert_eq!(all.matches("\nservice ").count(), 1, "{all}");
    let file = describes(&[&["route_guide.proto"], &files[..]].concat()).await;
    assert!(
        file.contains("syntax = \"proto3\";\n") && file.contains("\nmessage RouteNote {\n"),
        "{file}"
    );

    let wrong = [
        "describe",
        "routeguide.Featur",
        "--proto",
        PROTO,
        "--no-reflection",
    ];
    let said = process::fails(&wrong, 1).await;
    assert!(said.contains("did you mean routeguide.Feature?"), "{said}");
    let free = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let said = process::fails(&["describe", "a.B", "--hub", &nobody], 1).await;
    assert!(said.contains("cannot connect to"), "{said}");
}
