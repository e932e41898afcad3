//! Arguments that say which of a hub's agents is called, and what is sent with it.

use adit_certs::AgentId;
use adit_client::metadata::{Header, Headers, Route, Selector, metadata};
use tonic::metadata::MetadataMap;

/// Whom a call is for, and its metadata.
#[derive(Debug, clap::Args)]
pub(crate) struct RouteArgs {
    /// Call the service of this agent
    #[arg(long, value_name = "ID", conflicts_with = "select")]
    agent: Option<AgentId>,
    /// Call the service of an agent that has these labels: region=eu,tier=edge
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) select: Option<Selector>,
    /// Metadata to send, 'key: value'; base64 where the key ends in -bin; @FILE has an entry in each line. May be repeated
    #[arg(
        short = 'H',
        long,
        visible_alias = "metadata",
        value_name = "KEY: VALUE",
        value_delimiter = '\n'
    )]
    header: Vec<Headers>,
}

impl RouteArgs {
    /// All metadata of a call to whom the arguments name.
    pub(crate) fn metadata(&self) -> MetadataMap {
        let agent = self.agent.clone().map(Route::Agent);
        let route = agent.or_else(|| self.select.clone().map(Route::Select));
        self.with(route.as_ref())
    }

    /// All metadata of a call to somebody else.
    pub(crate) fn with(&self, route: Option<&Route>) -> MetadataMap {
        let headers: Vec<Header> = self.header.iter().flat_map(|headers| headers.0.clone()).collect();
        metadata(&headers, route)
    }
}
