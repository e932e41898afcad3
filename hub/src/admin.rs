//! The operator's port: the hub's own health.

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::error;

/// Answers `grpc.health.v1` on `listener` until it is dropped.
pub(crate) async fn serve(listener: TcpListener) {
    // The hub serves as soon as its ports are open; the empty name stands for the process as a whole.
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    if let Err(error) = Server::builder()
        .add_service(health)
        .serve_with_incoming(incoming)
        .await
    {
        error!(%error, "the admin port failed");
    }
}
