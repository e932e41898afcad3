//! One link after another, to one hub and to several.

use std::time::{Duration, Instant};

use adit_proto::tunnel::v1::{Health, Services};
use adit_transport::{Code, LinkError};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::hub::{ANY_PORT, Attached, Running, World, at_once, call, soon};
use crate::builder::StartError;

#[tokio::test]
async fn a_hello_says_all_that_the_agent_was_started_with() {
    let world = World::new();
    let hub = world.hub();
    let agent = world
        .agent(&[hub.address()], at_once)
        .label("region=eu".parse().unwrap())
        .label("tier=edge".parse().unwrap())
        .exclusive(true);
    let _agent = Running::start(agent);
    let hello = hub.attach().await.hello;
    assert_eq!(hello.id, "site-a");
    assert_eq!((hello.slot, hello.generation), (0, 1));
    assert!(hello.exclusive);
    let labels = [("region", "eu"), ("tier", "edge")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(hello.labels, labels.into());
    let services = Services {
        known: true,
        names: vec!["a.B".to_owned()],
    };
    assert_eq!(hello.services, Some(services));
    assert_eq!(hello.health, Some(Health::default()));
}

#[test]
fn an_agent_that_cannot_work_says_which_setting_to_change() {
    let world = World::new();
    let good = || {
        world.agent(
            &[ANY_PORT.to_string().replace(":0", ":1").parse().unwrap()],
            at_once,
        )
    };
    good().build().unwrap();
    let label = |text: &str| text.parse().unwrap();
    let mut many = good();
    for i in 0..4097 {
        many = many.advertise(format!("a.B{i}"));
    }
    for (agent, words) in [
        (world.agent(&[], at_once), "--hub HOST:PORT"),
        (
            good().serve(tonic::service::Routes::default()),
            "--upstream PREFIX=",
        ),
        (good().advertise("a/B"), "\"a/B\""),
        (good().advertise(""), "\"\""),
        (many, "4098 services"),
        (good().label(label("a=1")).label(label("a=2")), "--label"),
    ] {
        let message = agent.build().unwrap_err().to_string();
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    let (_, credentials) = world.credentials();
    let agent = crate::Agent::builder("site-b".parse().unwrap(), credentials)
        .hub("hub:1".parse().unwrap())
        .serve(tonic::service::Routes::default());
    assert!(matches!(agent.build(), Err(StartError::OtherId(_))));
    let (id, credentials) = world.credentials();
    let agent = crate::Agent::builder(id, credentials).hub("hub:1".parse().unwrap());
    assert!(matches!(agent.build(), Err(StartError::NoUpstream)));
    // Raw TCP alone is something to do.
    let (id, credentials) = world.credentials();
    let agent = crate::Agent::builder(id, credentials).hub("hub:1".parse().unwrap());
    assert!(agent.tcp("127.0.0.1:22".parse().unwrap()).build().is_ok());
}

#[tokio::test]
async fn each_hub_has_a_slot_and_a_dead_one_delays_no_other() {
    let world = World::new();
    // Nothing answers there.
    let dead = UdpSocket::bind(ANY_PORT).await.unwrap();
    let (one, other) = (world.hub(), world.hub());
    let addresses = [dead.local_addr().unwrap(), one.address(), other.address()];
    let begun = Instant::now();
    let _agent = Running::start(world.agent(&addresses, at_once));
    let (first, second) = tokio::join!(one.attach(), other.attach());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((first.hello.slot, second.hello.slot), (1, 2));
    assert_eq!(first.hello.instance, second.hello.instance);

    // Generations count in each slot alone.
    first.link.close(Code::NO_ERROR, "go");
    let again = one.attach().await;
    assert_eq!((again.hello.slot, again.hello.generation), (1, 2));
    assert_eq!(again.hello.instance, first.hello.instance);
    soon(call(&second.link, "C")).await.unwrap();
}

#[tokio::test]
async fn a_link_that_its_hub_drains_ends_only_when_another_has_its_place() {
    let world = World::new();
    let hub = world.hub();
    let (finish, finished) = mpsc::channel::<()>(1);
    let finished = std::sync::Arc::new(tokio::sync::Mutex::new(finished));
    let slow = move |path: String| -> futures_util::future::BoxFuture<'static, _> {
        let finished = std::sync::Arc::clone(&finished);
        Box::pin(async move {
            if path == "/a.B/Slow" {
                finished.lock().await.recv().await;
            }
            http::Response::new(adit_transport::Body::empty())
        })
    };
    let _agent = Running::start(world.agent(&[hub.address()], slow));
    let mut old = hub.attach().await;
    let slow = {
        let link = old.link.clone();
        tokio::spawn(async move { call(&link, "Slow").await })
    };
    soon(call(&old.link, "C")).await.unwrap();

    let begun = Instant::now();
    old.drain().await;
    let link = old.during(hub.accept()).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "at once, and not {:?}",
        begun.elapsed()
    );
    // Linked, and not attached yet: the old link takes calls on.
    soon(call(&old.link, "C")).await.unwrap();
    let mut new = Attached::to(link).await;
    assert_eq!((new.hello.slot, new.hello.generation), (0, 2));
    assert_eq!(new.hello.instance, old.hello.instance);
    soon(call(&new.link, "C")).await.unwrap();

    // The old link goes on for the call that it has, and ends with it.
    let quiet = new.during(old.during(tokio::time::sleep(Duration::from_millis(300))));
    quiet.await;
    assert!(!slow.is_finished());
    finish.send(()).await.unwrap();
    let (reason, slow) = new.during(async { tokio::join!(old.ended(), slow) }).await;
    slow.unwrap().unwrap();
    assert!(
        matches!(&reason, LinkError::Closed(why) if why.contains("another link")),
        "{reason}"
    );
    soon(call(&new.link, "C")).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_drains_and_stops_has_its_agents_back_within_a_second_of_its_restart() {
    let world = World::new();
    let hub = world.hub();
    let address = hub.address();
    let _agent = Running::start(world.agent(&[address], at_once));
    let mut old = hub.attach().await;
    hub.refuse_new();
    old.drain().await;
    // Long enough for several attempts to be refused, so that the waits between them have grown.
    old.during(tokio::time::sleep(Duration::from_secs(3))).await;
    soon(call(&old.link, "C")).await.unwrap();
    hub.stop().await;
    drop(old);
    let hub = world.hub_again(address).await;
    let begun = Instant::now();
    let new = hub.attach().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(new.hello.generation, 2);
}

#[tokio::test]
async fn an_agent_that_its_hub_refuses_does_not_press_it() {
    let world = World::new();
    let hub = world.hub();
    let _agent = Running::start(world.agent(&[hub.address()], at_once));
    let attached = hub.attach().await;
    attached
        .link
        .close(Code::REQUEST_REJECTED, "another instance has the exclusive id");
    // The first attempt after a link that just ended comes within half a second.
    let again = tokio::time::timeout(Duration::from_secs(1), hub.accept());
    assert!(again.await.is_err(), "it was back at once");
}

#[tokio::test]
async fn a_hub_that_drains_every_link_is_not_dialled_in_a_tight_loop() {
    let world = World::new();
    let hub = world.hub();
    let _agent = Running::start(world.agent(&[hub.address()], at_once));
    let mut links = Vec::new();
    let drain_all = async {
        loop {
            let attached = hub.attach().await;
            attached.drain().await;
            links.push(attached);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), drain_all).await;
    assert!((2..=12).contains(&links.len()), "{} links", links.len());
}
