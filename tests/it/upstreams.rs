//! What an agent can stand before.

use adit_agent::{Upstream, UpstreamAddr, UpstreamTls};
use adit_certs::{ClientName, CredentialFiles, Credentials, Role, Subject, UpstreamName};
use adit_examples::route_guide;
use adit_examples::serve::Listener;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, message, request, to};
use crate::world::sample::{self, Sample};
use crate::world::upstream::{self, Server, answer};
use crate::world::{ANY_PORT, World, soon};

#[tokio::test]
async fn each_prefix_has_an_upstream() {
    let world = World::new();
    let hub = world.hub().await;
    let orders = Server::start(|exchange| answer(exchange, message(b"orders"))).await;
    let guide = Sample::start().await;
    let upstreams = [format!("shop.Orders={}", orders.url()), guide.url()];
    let upstreams = upstreams.each_ref().map(String::as_str);
    let _agent = world.agent_with(hub.agents, "site-a", &upstreams, |agent| agent);
    let client = RawClient::connect(hub.clients).await;
    let reply = client.get_at("site-a", "/shop.Orders/List").await;
    assert_eq!(reply.succeeded(), b"orders");
    sample::four_kinds(hub.clients, Some("site-a")).await;
}

#[tokio::test]
async fn an_upstream_on_a_unix_socket() {
    let world = World::new();
    let hub = world.hub().await;
    let address = format!("unix:{}/guide.sock", world.dir());
    let listener = Listener::bind(address.parse().unwrap()).await.unwrap();
    let server = listener.serve(route_guide::routes().await, std::future::pending());
    let _agent = world.agent(&hub, "site-a", &address);
    tokio::select! {
        () = sample::four_kinds(hub.clients, None) => {}
        ended = server => panic!("{ended:?}"),
    }
}

/// An upstream that demands the certificate of a client of the world's CA, and is called by another name than its
/// address.
async fn mutual_tls_upstream(world: &World) -> Server {
    let name: UpstreamName = "orders".parse().unwrap();
    let sans = vec!["orders.internal".parse().unwrap()];
    world.issue(
        &Subject::Server {
            name: name.clone(),
            sans,
        },
        crate::world::a_day(),
    );
    let files = CredentialFiles::server(world.certs(), &name);
    let credentials = Credentials::load(&files, Role::Server).unwrap();
    let mut config = credentials.server_config().unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    Server::accept(listener, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let handler = |exchange| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                    Box::pin(upstream::echo(exchange))
                };
                upstream::serve(stream, Arc::new(handler)).await;
            }
        }
    })
}

/// The files that an agent shows to its upstream.
fn shown(world: &World) -> CredentialFiles {
    let name: ClientName = "agent-at-orders".parse().unwrap();
    world.issue(&Subject::Client(name.clone()), crate::world::a_day());
    CredentialFiles::client(world.certs(), &name)
}

#[tokio::test]
async fn an_upstream_that_demands_mutual_tls() {
    let world = World::new();
    let hub = world.hub().await;
    let server = mutual_tls_upstream(&world).await;
    let files = shown(&world);
    let upstream = |tls: UpstreamTls| {
        let UpstreamAddr { target, .. } = format!("https://{}", server.address).parse().unwrap();
        Upstream::at(target, &tls).unwrap()
    };
    let all = UpstreamTls {
        ca: Some(files.ca),
        identity: Some((files.cert, files.key)),
        name: Some("orders.internal".to_owned().try_into().unwrap()),
    };
    let without = |change: fn(&mut UpstreamTls)| {
        let mut tls = all.clone();
        change(&mut tls);
        tls
    };
    let cases = [
        ("good", all.clone(), None),
        (
            "no-cert",
            without(|tls| tls.identity = None),
            Some("--upstream-cert"),
        ),
        ("no-name", without(|tls| tls.name = None), Some("--upstream-name")),
    ];
    let client = RawClient::connect(hub.clients).await;
    for (id, tls, fault) in cases {
        let _agent = world.agent_with(hub.agents, id, &[], |agent| {
            agent.upstream(None, upstream(tls)).advertise("a.B")
        });
        let reply = client.call(to(id, "/a.B/C"), message(b"hello")).await.unwrap();
        match fault {
            None => assert_eq!(reply.succeeded(), b"hello"),
            Some(flag) => {
                let said = reply.failed_at_once(
                    adit_proto::failure::Reason::UpstreamRefused,
                    tonic::Code::Unavailable,
                    "no",
                );
                assert!(said.contains(flag), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn the_command_stands_before_mutual_tls_and_a_named_service() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let server = mutual_tls_upstream(&world).await;
    let files = shown(&world);
    let upstream = format!("https://{}", server.address);
    let [ca, cert, key] = [files.ca, files.cert, files.key].map(|path| path.to_str().unwrap().to_owned());
    let _agent = hub.agent(
        &world,
        "site-a",
        &[
            "--upstream",
            &upstream,
            "--upstream-ca",
            &ca,
            "--upstream-cert",
            &cert,
            "--upstream-key",
            &key,
            "--upstream-name",
            "orders.internal",
            "--service",
            "a.B",
            "--service",
            "a.C",
        ],
    );
    hub.has("site-a").await;
    let client = RawClient::connect(hub.clients).await;
    for path in ["/a.B/Say", "/a.C/Say"] {
        let reply = client.call(request(path).body(()).unwrap(), message(b"hello"));
        assert_eq!(reply.await.unwrap().succeeded(), b"hello");
    }
}

#[tokio::test]
async fn services_are_learnt_when_the_upstream_comes_later() {
    let world = World::new();
    let hub = world.hub().await;
    // The one agent advertises what is named, so that it has no other service; the other learns.
    let other = Server::echo().await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let _agents = [
        world.agent_with(hub.agents, "named", &[&other.url()], |agent| {
            agent.advertise("echo.Echo")
        }),
        world.agent(&hub, "learning", &format!("http://{address}")),
        world.agent_with(hub.agents, "silent", &[&other.url()], |agent| agent),
    ];
    let client = RawClient::connect(hub.clients).await;
    for id in ["named", "learning", "silent"] {
        let reply = client.get_at(id, "/a.B/C").await;
        let error = reply.told().get("adit-error");
        assert!(error.is_none_or(|error| error == "upstream-refused"), "{reply:?}");
    }
    // Two agents advertise nothing, so either may have it.
    let guide = || client.get(request("/routeguide.RouteGuide/GetFeature").body(()).unwrap());
    assert_eq!(guide().await.told()["adit-error"], "ambiguous-route");

    let listener = Listener::bind(address.to_string().parse().unwrap())
        .await
        .unwrap();
    let server = listener.serve(route_guide::routes().await, std::future::pending());
    let learnt = async { while guide().await.told().contains_key("adit-error") {} };
    tokio::select! {
        () = soon(learnt) => {}
        ended = server => panic!("{ended:?}"),
    }
}
