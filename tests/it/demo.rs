//! `adit demo`.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::world::ANY_PORT;
use crate::world::process::{self, Process};
use crate::world::sample;

const KINDS: [(&str, &str); 4] = [
    ("GetFeature", "unary"),
    ("ListFeatures", "server streaming"),
    ("RecordRoute", "client streaming"),
    ("RouteChat", "bidirectional"),
];

#[tokio::test]
async fn once_makes_a_call_of_each_kind_and_ends() {
    let output = process::output(&["demo", "--once"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{stderr}");
    for (method, kind) in KINDS {
        let line = said.lines().find(|line| line.starts_with(method));
        let line = line.unwrap_or_else(|| panic!("no {method} in {said}"));
        assert!(line.contains(kind) && line.contains(" ms "), "{line}");
    }
}

#[tokio::test]
async fn it_serves_any_client_until_it_is_told_to_stop() {
    let mut demo = Process::start(&["demo", "--clients", "127.0.0.1:0"]);
    let line = demo.says(&["hub ", "clients call"]).await;
    let clients: SocketAddr = line
        .split_once("clients call ")
        .and_then(|(_, rest)| rest.split(',').next())
        .unwrap()
        .parse()
        .unwrap();
    sample::four_kinds(clients, Some("demo")).await;
    sample::four_kinds(clients, None).await;
    assert_eq!(demo.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for once in [&[][..], &["--once"]] {
        let arguments = [&["demo", "--clients", &address], once].concat();
        let stderr = process::fails(&arguments, 1).await;
        assert!(
            stderr.contains(&format!("--clients {address}")) && stderr.contains("in use"),
            "{stderr}"
        );
    }
}
