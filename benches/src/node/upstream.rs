//! A server behind agents, which notes every call that it sees.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_bench::echo::EchoService;
use adit_bench::echo::pb::echo_server::EchoServer;
use anyhow::Context as _;
use tonic::service::Routes;
use tonic::{Request, Status};

/// The metadata that a call's number is in.
pub(crate) const CALL_ID: &str = "bench-call";

#[derive(Debug, clap::Args)]
pub(crate) struct UpstreamNode {
    /// Where the numbers of the calls are written, one a line
    #[arg(long)]
    log: PathBuf,
    /// How long a call takes
    #[arg(long, value_parser = humantime::parse_duration)]
    work: Duration,
}

impl UpstreamNode {
    /// Serves calls, and notes each as soon as its metadata is there, whatever becomes of it.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = Arc::new(log.with_context(|| format!("cannot write {}", self.log.display()))?);
        let service = EchoServer::with_interceptor(EchoService { work: self.work }, move |request| {
            note(&log, &request)?;
            Ok(request)
        });
        super::serve(Ipv4Addr::LOCALHOST.into(), Routes::new(service)).await
    }
}

/// One write for each line, so that no line is lost or torn whenever the process ends.
fn note(mut log: &File, request: &Request<()>) -> Result<(), Status> {
    let id = request
        .metadata()
        .get(CALL_ID)
        .and_then(|id| id.to_str().ok())
        .ok_or_else(|| Status::invalid_argument(format!("a call without a number in {CALL_ID}")))?;
    log.write_all(format!("{id}\n").as_bytes())
        .map_err(|error| Status::internal(format!("cannot note call {id}: {error}")))
}
