//! What an agent advertises follows its upstreams.

use adit_examples::route_guide;
use adit_examples::serve::{Address, Listener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use crate::world::raw::{RawClient, request};
use crate::world::sample::Sample;
use crate::world::{ANY_PORT, World, soon};

/// A server that is stopped and replaced, always on one address.
struct Replaced {
    address: Address,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Replaced {
    async fn start(address: Address, routes: Routes) -> Self {
        let listener = Listener::bind(address).await.unwrap();
        let address = listener.address().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { listener.serve(routes, stopped).await.unwrap() });
        Self {
            address,
            stop,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Waits until it has stopped: what watches its health must not hold it.
    async fn stop(self) -> Address {
        self.stop.cancel();
        let begun = std::time::Instant::now();
        soon(self.task).await.unwrap();
        assert!(
            begun.elapsed() < adit_examples::serve::DRAIN_TIMEOUT,
            "a stream held it"
        );
        self.address
    }
}

/// Reflection as older servers have it, of nothing but itself.
fn v1alpha_of_nothing() -> Routes {
    let reflection = tonic_reflection::server::Builder::configure();
    Routes::new(reflection.build_v1alpha().unwrap())
}

#[tokio::test]
async fn a_route_follows_the_services_of_an_upstream_that_is_replaced() {
    let world = World::new();
    let hub = world.hub().await;
    let stays = Sample::start().await;
    let guide = Replaced::start(Address::Tcp(ANY_PORT), route_guide::routes().await).await;
    let _stays = world.agent(&hub, "stays", &stays.url());
    let _replaced = world.agent(&hub, "replaced", &format!("http://{}", guide.address));

    let client = RawClient::connect(hub.clients).await;
    let guide_of_either = || async {
        let guide = request("/routeguide.RouteGuide/GetFeature").body(()).unwrap();
        let reply = client.get(guide).await;
        reply
            .told()
            .get("adit-error")
            .map(|error| error.to_str().unwrap().to_owned())
    };
    let until = async |expected: Option<&str>| {
        soon(async { while guide_of_either().await.as_deref() != expected {} }).await;
    };
    // As often as an upstream may be replaced.
    let mut guide = Some(guide);
    for _ in 0..2 {
        until(Some("ambiguous-route")).await;
        let address = guide.take().unwrap().stop().await;
        assert_eq!(
            guide_of_either().await.as_deref(),
            Some("ambiguous-route"),
            "what is down for a moment still has its services"
        );
        let other = Replaced::start(address, v1alpha_of_nothing()).await;
        until(None).await;
        let address = other.stop().await;
        guide = Some(Replaced::start(address, route_guide::routes().await).await);
    }
}
