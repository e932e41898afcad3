//! Several links of one agent to one hub: they share the calls, and nothing else.

use std::net::SocketAddr;

use adit_agent::Carrier;
use adit_proto::failure::Reason;
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::kick_request::Whom;
use adit_transport::Tuning;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tonic::Code;

use crate::world::operator::{Operator, ready};
use crate::world::process;
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::upstream::Server;
use crate::world::{Agent, World, soon};

const ALL: [Carrier; 3] = [Carrier::Quic, Carrier::Tls, Carrier::WebSocket];

/// Enough that two random picks for each leave no link out.
const CALLS: usize = 40;

/// A call that goes on until it is told to end.
struct Running {
    send: SendStream<Bytes>,
    body: RecvStream,
}

impl Running {
    async fn start(client: &RawClient) -> Self {
        let (response, mut send) = client.send(to("site-a", "/echo.Echo/Say"), false).await;
        send.send_data(message(b"first"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"first"));
        Self { send, body }
    }

    /// Ends it: whether it was on a link that lasted.
    async fn finish(mut self) -> bool {
        let lasts = self.send.send_data(message(b"last"), true).is_ok();
        let mut rest = Vec::new();
        while let Some(data) = soon(self.body.data()).await {
            rest.extend_from_slice(&data.unwrap());
        }
        let trailers = soon(self.body.trailers()).await.unwrap().unwrap();
        if trailers["grpc-status"] == "0" {
            assert!(lasts);
            assert_eq!(rest, message(b"last"));
            return true;
        }
        assert_eq!(trailers["adit-error"], Reason::LinkLost.as_str());
        assert_eq!(trailers["grpc-status"], (Code::Unavailable as i32).to_string());
        false
    }
}

fn agent(world: &World, hub: SocketAddr, echo: &Server, carrier: Carrier, links: u32) -> Agent {
    world.agent_with(hub, "site-a", &[&echo.url()], |agent| {
        agent.advertise("echo.Echo").carrier(carrier).links(links)
    })
}

async fn running(client: &RawClient) -> Vec<Running> {
    let mut running = Vec::new();
    for _ in 0..CALLS {
        running.push(Running::start(client).await);
    }
    running
}

#[tokio::test]
async fn links_share_the_calls_and_one_that_is_lost_takes_only_its_own_along() {
    for carrier in ALL {
        let world = World::new();
        let hub = world.hub().await;
        let echo = Server::echo().await;
        let agent = agent(&world, hub.agents, &echo, carrier, 3);
        let mut operator = Operator::of(&hub).await;
        let links = operator.sees(ready(3)).await;
        let mut slots: Vec<_> = links.iter().map(|link| link.slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2]);
        assert!(links.iter().all(|link| link.instance == links[0].instance));
        assert!(links.iter().all(|link| link.carrier == carrier.as_str()));

        let client = RawClient::connect(hub.clients).await;
        let calls = running(&client).await;
        let busy =
            |links: &[Link]| links.iter().map(|link| link.calls_in_flight).sum::<u32>() as usize == CALLS;
        let links = operator.sees(busy).await;
        let share: Vec<_> = links.iter().map(|link| link.calls_in_flight).collect();
        assert!(share.iter().all(|&calls| calls > 5), "{carrier}: {share:?}");

        let lost = links[1].clone();
        let kicked = operator
            .kick(Some(Whom::Link(lost.id)), "a test of one link")
            .await;
        assert_eq!(kicked.unwrap(), 1);
        let mut ended = 0;
        for call in calls {
            ended += u32::from(!call.finish().await);
        }
        assert_eq!(
            ended, lost.calls_in_flight,
            "{carrier}: calls of other links ended"
        );

        // It comes back in its place.
        let again = operator
            .sees(|links| links.len() == 3 && links.iter().all(|link| link.id != lost.id))
            .await;
        let successor = again.iter().find(|link| link.slot == lost.slot).unwrap();
        assert_eq!(successor.generation, lost.generation + 1, "{carrier}");
        agent.drain().await;
        operator.sees(<[Link]>::is_empty).await;
    }
}

#[tokio::test]
async fn a_call_finds_room_on_another_link() {
    let world = World::new();
    let hub = world.hub().await;
    let echo = Server::echo().await;
    let few = Tuning {
        // Half of them, and the link's own.
        max_calls: 21,
        ..Tuning::default()
    };
    let _agent = world.agent_with(hub.agents, "site-a", &[&echo.url()], |agent| {
        agent.advertise("echo.Echo").tuning(few).links(2)
    });
    Operator::of(&hub).await.sees(ready(2)).await;
    // As many as both links take, and not one more.
    let client = RawClient::connect(hub.clients).await;
    let calls = running(&client).await;
    let reply = client.get_at("site-a", "/echo.Echo/Say").await;
    reply.failed(Reason::AgentBusy, Code::ResourceExhausted, "no");
    for call in calls {
        assert!(call.finish().await);
    }
}

#[tokio::test]
async fn a_hub_drains_all_links_and_the_agent_is_back_with_all_of_them() {
    let world = World::new();
    let hub = world.hub().await;
    let echo = Server::echo().await;
    let _agent = agent(&world, hub.agents, &echo, Carrier::Quic, 4);
    Operator::of(&hub).await.sees(ready(4)).await;
    let client = RawClient::connect(hub.clients).await;
    let calls = running(&client).await;
    let (agents, clients) = (hub.agents, hub.clients);
    hub.drain();
    for call in calls {
        assert!(call.finish().await, "a call that ran when the hub began to drain");
    }
    soon(hub.ended()).await;
    let next = adit_hub::Hub::builder(world.hub_credentials())
        .agents(agents.into())
        .clients(clients)
        .admin(crate::world::ANY_PORT);
    let next = world.start(next).await;
    Operator::of(&next).await.sees(ready(4)).await;
}

#[tokio::test]
async fn how_many_there_may_be_is_said() {
    let world = World::new();
    for links in ["0", "17"] {
        let more = ["--upstream", "http://127.0.0.1:1", "--links", links];
        let said = process::fails(&world.agent_arguments("site-a", "127.0.0.1:1", &more), 1).await;
        assert!(said.contains("--links is from 1 to 16"), "{said}");
        assert!(said.contains(&format!("{links} links")), "{said}");
    }
}
