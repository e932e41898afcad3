//! Calls that cross an agent's word that it drains: refused unseen, which is certain only once the word has arrived.

use std::sync::Arc;

use adit_proto::failure::Reason;
use adit_transport::{AgentLink, Body, Code, Dialer, Tuning};
use http::Response;
use tokio_util::task::AbortOnDropHandle;

use super::{CALL, Call, ID, Operator, Record, Upstream, connected, named, path};
use crate::world::raw::{RawClient, Reply, message};
use crate::world::relay::{Relay, Towards};
use crate::world::{Hub, World, soon};

/// An agent made by hand, which drains and ends its link when the test wants it to.
struct ByHand {
    link: Arc<AgentLink>,
    record: Record,
    _serves: AbortOnDropHandle<()>,
}

impl ByHand {
    async fn connect(world: &World, way: &Relay) -> Self {
        let tls = world.agent_credentials(ID).client_config().unwrap();
        let dialer = Dialer::new(tls, Tuning::default()).unwrap();
        let link = Arc::new(dialer.dial(way.address, "127.0.0.1").await.unwrap());
        let record = Record::default();
        let serves = {
            let (link, record) = (Arc::clone(&link), record.clone());
            let answers = move |request: http::Request<Body>| {
                let response = match request.headers().get(CALL) {
                    Some(call) => {
                        record.note(call.to_str().unwrap(), |seen| seen.begun += 1);
                        Response::builder()
                            .header("content-type", "application/grpc")
                            .header("grpc-status", "0")
                    }
                    // The hub's own call, which it need not know.
                    None => Response::builder().status(404),
                };
                async move { Ok(response.body(Body::empty()).unwrap()) }
            };
            tokio::spawn(async move { drop(link.serve(answers).await) })
        };
        Self {
            link,
            record,
            _serves: AbortOnDropHandle::new(serves),
        }
    }

    /// Takes no new calls from now on, which nobody hears.
    async fn drain(&self, way: &Relay) -> AbortOnDropHandle<()> {
        way.hold(Towards::Hub);
        let link = Arc::clone(&self.link);
        let drains = tokio::spawn(async move { link.drain().await });
        way.holds(Towards::Hub, 1, 0).await;
        AbortOnDropHandle::new(drains)
    }

    async fn end(&self) {
        self.link.close(Code::NO_ERROR, "the agent stopped");
        soon(self.link.closed()).await;
    }
}

/// Makes a call to an agent that drains unheard and ends, and then hears of it as `hears` wants: what it comes to, and
/// how often the other replica has seen it.
async fn cross(hears: impl AsyncFnOnce(&Relay)) -> (Reply, usize) {
    let world = World::new();
    let hub: Hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let way = Relay::to(hub.agents).await;
    let agent = ByHand::connect(&world, &way).await;
    connected(&client, &agent.record).await;
    let _drains = agent.drain(&way).await;
    let mut call = Call::make(&client, named("crossing", path::ECHO), false).await;
    call.send.send_data(message(b"on the way"), true).unwrap();

    let other = Upstream::start().await;
    let _replica = other.agent(&world, hub.agents);
    Operator::of(&hub).sees(2).await;
    agent.end().await;
    hears(&way).await;
    let reply = call.ends().await;
    assert_eq!(agent.record.of("crossing").begun, 0);
    (reply, other.record.of("crossing").begun)
}

#[tokio::test]
async fn it_is_made_again_once_when_the_word_comes_before_the_end() {
    let (reply, seen) = cross(async |way| way.release(Towards::Hub).await).await;
    assert_eq!(reply.succeeded(), b"on the way");
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn it_is_not_made_again_when_the_end_comes_first() {
    let (reply, seen) = cross(async |way| way.release_last_first(Towards::Hub).await).await;
    // The hub can't know that nobody has seen it.
    reply.failed_at_once(Reason::LinkLost, tonic::Code::Unavailable, "maybe");
    assert_eq!(seen, 0);
}
