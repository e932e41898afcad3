//! What an operator sees of a hub, and does to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use adit_proto::hub::v1::hub_client::HubClient;
use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::hub::v1::link::State;
use adit_proto::hub::v1::{
    DrainRequest, KickRequest, Link, ListLinksRequest, ResumeRequest, WatchLinksRequest, WatchLinksResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::{Hub, PATIENCE, soon};

/// What an operator knows of a hub's links.
pub(crate) struct Operator {
    pub(crate) hub: HubClient<Channel>,
    changes: Streaming<WatchLinksResponse>,
    pub(crate) links: BTreeMap<u64, Link>,
}

impl Operator {
    /// Watches with names, often.
    pub(crate) async fn of(hub: &Hub) -> Self {
        Self::at(hub.admin).await
    }

    /// The same at the address of a hub's port for operators.
    pub(crate) async fn at(admin: SocketAddr) -> Self {
        let mut hub = client(admin);
        let request = WatchLinksRequest {
            names: true,
            interval: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
            ..WatchLinksRequest::default()
        };
        let changes = soon(hub.watch_links(request)).await.unwrap().into_inner();
        Self {
            hub,
            changes,
            links: BTreeMap::new(),
        }
    }

    /// Waits until the links are such, and gives them ordered by agent and number. What was seen last counts: who wants
    /// to see the same again asks for something else in between, or is another operator.
    pub(crate) async fn sees(&mut self, such: impl Fn(&[Link]) -> bool) -> Vec<Link> {
        let seen = async {
            loop {
                let mut links: Vec<_> = self.links.values().cloned().collect();
                links.sort_by(|a, b| (&a.agent, a.id).cmp(&(&b.agent, b.id)));
                if such(&links) {
                    return links;
                }
                self.next().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(links) => links,
            Err(_) => panic!("{:#?}", self.links),
        }
    }

    /// Waits for the next changes.
    pub(crate) async fn next(&mut self) -> Result<(), Status> {
        let response = self.changes.message().await?.expect("it goes on");
        for id in response.ended {
            assert!(self.links.remove(&id).is_some(), "an end of what was not there");
        }
        for link in response.changed {
            self.links.insert(link.id, link);
        }
        Ok(())
    }

    pub(crate) async fn drain(&mut self, agent: &str, instance: &str) -> Result<u32, Status> {
        let (agent, instance) = (agent.to_owned(), instance.to_owned());
        let drained = soon(self.hub.drain(DrainRequest { agent, instance })).await;
        Ok(drained?.into_inner().links)
    }

    pub(crate) async fn resume(&mut self, agent: &str, instance: &str) -> Result<u32, Status> {
        let (agent, instance) = (agent.to_owned(), instance.to_owned());
        let resumed = soon(self.hub.resume(ResumeRequest { agent, instance })).await;
        Ok(resumed?.into_inner().links)
    }

    pub(crate) async fn kick(&mut self, whom: Option<Whom>, reason: &str) -> Result<u32, Status> {
        let reason = reason.to_owned();
        let kicked = soon(self.hub.kick(KickRequest { whom, reason })).await;
        Ok(kicked?.into_inner().links)
    }
}

/// So many links, all ready and with known services.
pub(crate) fn ready(count: usize) -> impl Fn(&[Link]) -> bool {
    move |links| {
        let ready = |link: &Link| link.state() == State::Ready && link.services_known;
        links.len() == count && links.iter().all(ready)
    }
}

pub(crate) fn client(admin: SocketAddr) -> HubClient<Channel> {
    HubClient::new(channel(admin))
}

pub(crate) fn channel(admin: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{admin}")).unwrap();
    endpoint.tcp_nodelay(true).connect_lazy()
}

/// All links at one moment.
pub(crate) async fn list(admin: SocketAddr, agent: &str, names: bool) -> Vec<Link> {
    let request = ListLinksRequest {
        agent: agent.to_owned(),
        names,
    };
    let mut pages = soon(client(admin).list_links(request))
        .await
        .unwrap()
        .into_inner();
    let mut links = Vec::new();
    while let Some(page) = soon(pages.message()).await.unwrap() {
        links.extend(page.links);
    }
    links
}
