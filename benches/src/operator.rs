//! What a hub tells its operator.

use std::net::SocketAddr;
use std::time::Duration;

use adit_bench::load::connect;
use adit_proto::hub::v1::hub_client::HubClient;
use adit_proto::hub::v1::{GetStatusRequest, Link, ListLinksRequest, Status};
use anyhow::Context as _;
use tonic::Request;
use tonic::transport::Channel;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A hub's admin port.
pub(crate) struct Operator(HubClient<Channel>);

impl Operator {
    pub(crate) async fn connect(admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(HubClient::new(connect(admin).await?)))
    }

    /// The hub as a whole.
    pub(crate) async fn status(&mut self) -> anyhow::Result<Status> {
        let status = self.0.get_status(bounded(GetStatusRequest {})).await;
        Ok(status.context("the hub does not say how it is")?.into_inner())
    }

    /// The links of all agents.
    pub(crate) async fn links(&mut self) -> anyhow::Result<Vec<Link>> {
        let pages = self.0.list_links(bounded(ListLinksRequest::default())).await;
        let mut pages = pages.context("the hub does not list its links")?.into_inner();
        let mut links = Vec::new();
        while let Some(page) = pages
            .message()
            .await
            .context("the hub's list of links broke off")?
        {
            links.extend(page.links);
        }
        Ok(links)
    }
}

fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}
