#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

use prost_types::FileDescriptorProto;

use super::source;
use crate::connection::Connection;
use crate::schema::{Explorer, Sources, Symbol};
use crate::testing::{FILES, Offers, POOL, TestServer};
use crate::tls::Trust;

/// A file with all that has a comment or an option.
const SHELF: &str = r#"// Of the whole file, and not of the syntax.

syntax = "proto2";

package acme.v1;

import "google/protobuf/descriptor.proto";

option java_package = "com.acme";

// What can be done.
service Shelf {
  option (acme.v1.owner) = "me";
  // Takes one.
  //
  //   And then?
  rpc Take(stream acme.v1.Thing) returns (acme.v1.Thing); // behind
  rpc Put(acme.v1.Thing) returns (stream acme.v1.Thing) {
    option deprecated = true;
    option (acme.v1.rule) = { get:"/v1/things",tags:["a","b"] };
  }
}

message Thing {
  option (acme.v1.size) = 7;
  // The name.
  required string name = 1 [default = "a\"b", deprecated = true];
  optional bytes raw = 2 [default = "\001x"];
  repeated int32 many = 3 [packed = true];
  optional int32 other_name = 4 [json_name = "elsewhere"];
  // A group.
  repeated group Part = 5 {
    optional float share = 1 [default = inf];
  }
  oneof choice {
    string word = 6;
    acme.v1.Thing thing = 7;
  }
  map<string, acme.v1.Thing.Colour> by_name = 8;
  extensions 100 to 199;
  extensions 1000 to max;
  reserved 20, 30 to 39;
  reserved "old";

  message Empty {}

  enum Colour {
    option allow_alias = true;
    RED = 1; // as a tomato
    ROT = 1;
    BLUE = -3 [deprecated = true];
    reserved 5 to 7, 100 to max;
    reserved "GREEN";
  }
}

message Rule {
  optional string get = 1;
  repeated string tags = 2;
}

extend google.protobuf.ServiceOptions {
  optional string owner = 50000;
}

extend google.protobuf.MethodOptions {
  optional acme.v1.Rule rule = 50001;
}

extend google.protobuf.MessageOptions {
  optional int32 size = 50002;
}
"#;

fn shelf(folder: &Path) -> Sources {
    let path = folder.join("shelf.proto");
    std::fs::write(&path, SHELF).unwrap();
    Sources::reflection()
        .without_reflection()
        .with_files(&[path], &[], &[])
        .unwrap()
}

fn described(sources: &Sources, name: &str) -> String {
    source(&sources.symbol(name).unwrap().unwrap())
}

#[test]
fn a_file_is_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let printed = described(&shelf(folder.path()), "shelf.proto");
    // Its first comment is of nothing that has a place.
    let (_, rest) = SHELF.split_once("\n\n").unwrap();
    assert_eq!(printed, rest);
}

#[test]
fn everything_that_has_a_name_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let sources = shelf(folder.path());
    for (name, expected) in [
        (
            "acme.v1.Shelf/Take",
            "// acme.v1.Shelf.Take: a method of shelf.proto\n// Takes one.\n//\n//   And then?\nrpc Take(stream acme.v1.Thing) returns (acme.v1.Thing); // behind\n",
        ),
        (
            ".acme.v1.Thing.name",
            "// acme.v1.Thing.name: a field of shelf.proto\n// The name.\nrequired string name = 1 [default = \"a\\\"b\", deprecated = true];\n",
        ),
        (
            "acme.v1.Thing.choice",
            "// acme.v1.Thing.choice: a oneof of shelf.proto\noneof choice {\n  string word = 6;\n  acme.v1.Thing thing = 7;\n}\n",
        ),
        (
            "acme.v1.Thing.Colour.RED",
            "// acme.v1.Thing.RED: a value of an enum of shelf.proto\nRED = 1; // as a tomato\n",
        ),
        (
            "acme.v1.size",
            "// acme.v1.size: an extension of shelf.proto\nextend google.protobuf.MessageOptions {\n  optional int32 size = 50002;\n}\n",
        ),
    ] {
        assert_eq!(described(&sources, name), expected);
    }
    let value = "acme.v1.Thing.ROT";
    assert!(described(&sources, value).ends_with("\nROT = 1;\n"));
    assert!(
        described(&sources, "acme.v1.Shelf")
            .contains("  rpc Put(acme.v1.Thing) returns (stream acme.v1.Thing) {\n")
    );
}

#[test]
fn what_is_printed_compiles_to_what_was_described() {
    let folder = tempfile::tempdir().unwrap();
    let named = |name: &str| Symbol::File(POOL.get_file_by_name(name).unwrap());
    // Without those of an edition, which are told as proto2 and proto3.
    let names = ["kitchen.proto", "cellar.proto", "pantry.proto", "shelf.proto"];
    for name in names {
        std::fs::write(folder.path().join(name), source(&named(name))).unwrap();
    }
    let printed = protox::compile(names, [folder.path()]).unwrap();
    for name in names {
        let of = |files: &[FileDescriptorProto]| {
            let mut file = files.iter().find(|file| file.name() == name).unwrap().clone();
            file.source_code_info = None;
            // The pool has public imports as plain ones.
            file.dependency.sort();
            file.public_dependency.clear();
            file
        };
        let pool: Vec<_> = POOL.file_descriptor_protos().cloned().collect();
        assert_eq!(of(&printed.file), of(&pool), "{name}: {}", source(&named(name)));
    }
}

#[test]
fn a_terminal_obeys_nothing_that_is_in_a_schema() {
    let mut set = FILES.clone();
    let file = set
        .file
        .iter_mut()
        .find(|file| file.name() == "shelf.proto")
        .unwrap();
    file.source_code_info = Some(prost_types::SourceCodeInfo {
        location: vec![prost_types::source_code_info::Location {
            path: vec![4, 0],
            leading_comments: Some(" red: \u{1b}[31m\n\ttab\n".to_owned()),
            ..Default::default()
        }],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.binpb");
    std::fs::write(&path, prost::Message::encode_to_vec(&set)).unwrap();
    let sources = Sources::reflection().with_files(&[], &[], &[path]).unwrap();
    let printed = described(&sources, "shelf.Jar");
    assert!(
        printed.contains("\n// red: \\u{1b}[31m\n//    tab\nmessage Jar {\n"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_server_is_asked_for_what_files_do_not_have() {
    for offers in [Offers::V1, Offers::V1Alpha] {
        let server = TestServer::start(offers).await;
        let url = server.url().parse().unwrap();
        let within = std::time::Duration::from_secs(10);
        let connection = Connection::open(&url, &Trust::System, within).await.unwrap();
        let sources = Sources::reflection();
        let mut explorer = Explorer::new(&sources, &connection, Default::default());
        for (name, kind) in [
            ("kitchen.Kitchen", "a service"),
            ("kitchen.Kitchen/Cook", "a method"),
            ("kitchen.Dish", "a message"),
            ("kitchen.Dish.name", "a field"),
            ("kitchen.Everything.choice", "a oneof"),
            ("kitchen.Heat", "an enum"),
            ("kitchen.Heat.HOT", "a value of an enum"),
            ("kitchen.HOT", "a value of an enum"),
            ("cellar.rating", "an extension"),
            ("kitchen.proto", "a file"),
        ] {
            let symbol = explorer.symbol(name).await.unwrap();
            assert_eq!(symbol.kind(), kind, "{name}");
        }
        for (name, meant) in [
            (
                "kitchen.Dihs",
                "; did you mean kitchen.Dish?; the services are: grpc.reflection",
            ),
            ("Dish", "; did you mean kitchen.Dish?"),
            ("kitchen.Kitchen/Cok", "; did you mean kitchen.Kitchen.Cook?"),
            ("kitchen.Dish.nmae", "; did you mean kitchen.Dish.name?"),
            ("kitchen.Heat.HOTT", "; did you mean kitchen.Heat.HOT?"),
            (
                "nothing.like.it",
                "there is no \"nothing.like.it\"; the services are: grpc.reflection",
            ),
        ] {
            let said = explorer.symbol(name).await.unwrap_err().to_string();
            assert!(said.contains(meant), "{said}");
        }
        let services = explorer.services().await.unwrap();
        assert!(
            services
                .iter()
                .any(|service| service.full_name() == "kitchen.Kitchen")
        );
    }
}
