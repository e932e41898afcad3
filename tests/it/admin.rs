//! The port for operators.

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{World, soon};

#[tokio::test]
async fn the_hub_says_that_it_serves() {
    let world = World::new();
    let hub = world.hub().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", hub.admin)).unwrap();
    let mut health = HealthClient::new(endpoint.connect_lazy());
    let request = HealthCheckRequest::default();
    let health = soon(health.check(request)).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
}
