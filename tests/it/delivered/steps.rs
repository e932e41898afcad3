//! A link that dies under calls at each step of their way, while a replica could have them.

use adit_proto::failure::Reason;
use futures_util::FutureExt as _;
use tonic::Code;

use super::{Answer, Call, ID, LARGE, MESSAGES, Operator, Seen, Upstream, connected, large, named, path};
use crate::world::process::Process;
use crate::world::raw::{RawClient, message};
use crate::world::relay::{Relay, Towards};
use crate::world::{Agent, World};

/// How the link dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    /// The agent lets it go, in the middle of everything.
    LetGo,
    /// The hub closes it, because its operator wants so.
    Kicked,
    /// The agent's process is gone, and no word comes of it.
    Killed,
}

/// The agent that has the calls.
enum Victim {
    Here(Agent),
    Process(Process),
}

#[tokio::test]
async fn a_link_that_its_agent_lets_go() {
    dies(Death::LetGo).await;
}

#[tokio::test]
async fn a_link_that_the_operator_closes() {
    dies(Death::Kicked).await;
}

#[tokio::test]
async fn a_link_whose_agent_is_killed() {
    dies(Death::Killed).await;
}

async fn dies(death: Death) {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let _replica = other.agent(&world, hub.agents);
    let apart = Call::make(&client, named("apart", path::SILENT), true).await;
    other.record.has_begun("apart").await;
    let mut operator = Operator::of(&hub);
    let replica = operator.sees(1).await.remove(0);
    // The calls are to begin their way on the other link.
    operator.drain(&replica).await;
    let way = Relay::to(hub.agents).await;
    let victim = match death {
        Death::LetGo | Death::Kicked => Victim::Here(upstream.agent(&world, way.address)),
        Death::Killed => Victim::Process(process(&world, &way, &upstream)),
    };
    connected(&client, &upstream.record).await;
    let link = operator.sees(2).await.remove(1);

    // Over before the link is.
    let ended = client.call(named("ended", path::ECHO), message(b"all")).await;
    assert_eq!(ended.unwrap().succeeded(), b"all");
    // The upstream has the request.
    let silent = Call::make(&client, named("silent", path::SILENT), true).await;
    upstream.record.has_begun("silent").await;
    // The hub has a status, and not the end of what may be more than that: nothing of it is passed on.
    let status = Call::make(&client, named("status", path::STATUS), true).await;
    upstream.record.has_begun("status").await;
    // The client has the head of the response, or half of the messages, or all of them and no trailers.
    let begun = Call::make(&client, named("begun", path::BEGIN), true).await;
    let begun = begun.begins().await;
    let half = Call::make(&client, named("half", path::STREAM), true).await;
    let half = half.has_messages().await;
    let finished = Call::make(&client, named("finished", path::FINISH), true).await;
    let finished = finished.has_messages().await;
    // The hub has sent the request, or its head, and the agent has nothing of it.
    way.hold(Towards::Agent);
    way.hold(Towards::Hub);
    let mut head = named("head", path::ECHO);
    head.headers_mut().insert("x-large", large());
    let head = Call::make(&client, head, false).await;
    way.holds(Towards::Agent, 1, LARGE).await;
    let mut part = Call::make(&client, named("part", path::ECHO), false).await;
    let request = message(&[7; 3 * LARGE]);
    part.send.send_data(request.slice(..2 * LARGE), false).unwrap();
    way.holds(Towards::Agent, 1, 3 * LARGE).await;
    // The upstream has answered all of the call, and the hub does not have the last of it.
    upstream.finish();
    upstream.record.has("finished", |seen| seen.finished == 1).await;
    way.holds(Towards::Hub, 1, LARGE).await;

    operator.resume().await;
    let mut back = None;
    match victim {
        Victim::Here(agent) if death == Death::Kicked => {
            operator.kick(&link).await;
            back = Some(agent);
        }
        Victim::Here(agent) => {
            let before = way.held(Towards::Hub);
            drop(agent);
            way.holds(Towards::Hub, before + 1, 0).await;
            // The word of the link's end overtakes the last of the response.
            way.release_last_first(Towards::Hub).await;
        }
        Victim::Process(mut process) => process.kill().await,
    }
    let calls = [head, part, silent, status, begun, half, finished];
    check(&upstream, &other, calls).await;

    // If the agent lives, the requests arrive after all, before the word of the link's end: nobody can know that here.
    way.release(Towards::Agent).await;
    way.release(Towards::Hub).await;
    operator.drain(&replica).await;
    let lives = back.is_some();
    let _back = back.unwrap_or_else(|| upstream.agent(&world, way.address));
    connected(&client, &upstream.record).await;
    for name in [
        "head", "part", "silent", "status", "begun", "half", "finished", "ended",
    ] {
        let unseen = !lives && ["head", "part"].contains(&name);
        let seen = upstream.record.of(name).begun;
        assert!(seen <= usize::from(!unseen), "{name} was seen {seen} times");
        assert_eq!(other.record.of(name), Seen::default(), "{name}");
    }
    let Answer::Awaited(response) = apart.answer else {
        panic!("nobody has answered it");
    };
    assert!(response.now_or_never().is_none(), "the other link's call ended");
}

fn process(world: &World, way: &Relay, upstream: &Upstream) -> Process {
    world.agent_files(ID);
    let (hub, url) = (way.address.to_string(), upstream.server.url());
    Process::start(&[
        "agent",
        "--certs",
        world.dir(),
        "--id",
        ID,
        "--hub",
        &hub,
        "--upstream",
        &url,
        "--service",
        "a.B",
    ])
}

/// Checks what the client is told of each call, and that it is what can be known of what the upstreams saw.
async fn check(upstream: &Upstream, other: &Upstream, calls: [Call; 7]) {
    for call in calls {
        let name = call.name.clone();
        // Before the response has begun, at once; later in its trailers.
        let (begun, finished) = match name.as_str() {
            "head" | "part" => (0, 0),
            "finished" => (1, 1),
            _ => (1, 0),
        };
        let at_once = matches!(call.answer, Answer::Awaited(_));
        let reply = call.ends().await;
        let said = reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
        assert!(said.contains(ID), "{name}: {said}");
        assert_eq!(reply.headers_only, at_once, "{name}");
        assert_eq!(
            reply.data, b"" as &[u8],
            "{name}: more than the {MESSAGES} messages"
        );
        assert_eq!(upstream.record.of(&name), Seen { begun, finished }, "{name}");
        assert_eq!(other.record.of(&name), Seen::default(), "{name}");
    }
}
