#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::call::{Calls, Routing};
use crate::health::HubHealth;
use crate::ingress::{Ingress, Limits, Stopping};
use crate::registry::Registry;

/// A port without agents, in cleartext.
async fn port() -> (SocketAddr, Stopping, AbortOnDropHandle<()>) {
    let registry = Arc::new(Registry::new());
    let health = HubHealth::new(Arc::clone(&registry), CancellationToken::new());
    let calls = Arc::new(Calls::new(registry, health, Routing::default()));
    let stopping = Stopping::default();
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let clients = listener().await.unwrap();
    let clients = Ingress::new(clients, None, &Limits::default(), calls, stopping.clone());
    let port = clients.for_bytes(listener().await.unwrap(), None);
    let address = port.local_addr().unwrap();
    let serving = AbortOnDropHandle::new(tokio::spawn(port.serve()));
    (address, stopping, serving)
}

async fn told(stream: &mut TcpStream) -> String {
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    told
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_line_is_told_and_closed() {
    let (address, _stopping, _serving) = port().await;
    for said in ["", "{\"agent\":\"site-7\",", "  \r"] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let told = told(&mut client).await;
        assert!(told.contains("no line came within 10 s"), "{told}");
        assert!(begun.elapsed() >= OPENING_TIMEOUT && begun.elapsed() < 2 * OPENING_TIMEOUT);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_said_nothing_when_the_hub_drains_is_told_soon() {
    let (address, stopping, serving) = port().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    stopping.drain.cancel();
    let told = told(&mut client).await;
    assert!(told.contains("draining"), "{told}");
    assert!(begun.elapsed() < OPENING_TIMEOUT / 2);
    drop(client);
    serving.await.unwrap();
}
