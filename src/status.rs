//! `adit status`: how a hub is.

use std::process::ExitCode;

use adit_client::status::printable;
use adit_proto::hub::v1::{GetStatusRequest, Status};
use serde::Serialize;

use crate::admin::{self, Admin, AdminArgs, Output, age, in_words, rfc3339};
use crate::colour::{Colours, Tone};

/// Arguments of `adit status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is 0 when the hub serves, 1 when it is draining or cannot be reached, 2 (usage), or 64 and the gRPC status
where the hub refuses.

-o json prints an object with state (serving or draining), version, trust_domain, started_at, uptime_seconds, agents,
links, clients (connections of theirs), calls_in_flight and calls_waiting (for an agent to connect).")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How to print
    #[arg(short, long, value_name = "HOW", default_value = "table")]
    output: Output,
}

/// The object of `-o json`. The names are a contract: they stay, and others may come.
#[derive(Serialize)]
struct Record<'a> {
    state: &'static str,
    version: &'a str,
    trust_domain: &'a str,
    started_at: Option<String>,
    uptime_seconds: Option<u64>,
    agents: u32,
    links: u32,
    clients: u32,
    calls_in_flight: u64,
    calls_waiting: u32,
}

/// Prints what the hub says of itself.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::open(&args.admin.admin).await?;
    let status = admin.hub().get_status(admin::bounded(GetStatusRequest {})).await;
    let status = status.map_err(|status| admin.failed(status))?.into_inner();
    admin::print(&match args.output {
        Output::Table => lines(&status),
        Output::Json => admin::document(&Record {
            state: state(&status),
            version: &status.version,
            trust_domain: &status.trust_domain,
            started_at: rfc3339(status.started_at),
            uptime_seconds: age(status.started_at).map(|uptime| uptime.as_secs()),
            agents: status.agents,
            links: status.links,
            clients: status.clients,
            calls_in_flight: status.calls_in_flight,
            calls_waiting: status.calls_waiting,
        })?,
    })
    .await?;
    Ok(match status.draining {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn state(status: &Status) -> &'static str {
    match status.draining {
        true => "draining",
        false => "serving",
    }
}

fn lines(status: &Status) -> String {
    let uptime = age(status.started_at).map_or_else(|| "?".to_owned(), in_words);
    let tone = match status.draining {
        true => Tone::Odd,
        false => Tone::Good,
    };
    format!(
        "\
state         {}
version       {}
uptime        {uptime}
trust domain  {}
agents        {}
links         {}
clients       {}
calls         {} in flight, {} waiting for an agent
",
        Colours::of(&std::io::stdout()).paint(tone, state(status)),
        printable(&status.version),
        printable(&status.trust_domain),
        status.agents,
        status.links,
        status.clients,
        status.calls_in_flight,
        status.calls_waiting,
    )
}
