//! `adit describe`: what a name in a schema stands for, as proto source.

use std::process::ExitCode;
use std::time::Duration;

use adit_client::connection::Connection;
use adit_client::schema::{Explorer, ResolveError, Symbol};
use adit_client::source::source;
use anyhow::bail;

use crate::admin;
use crate::route::RouteArgs;
use crate::schema::SchemaArgs;
use crate::server::ServerArgs;

/// Arguments of `adit describe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A SYMBOL is a service, a method (package.Service/Method), a message, a field, a oneof, an enum or a value of one, an
extension, each with its package, or a .proto file by the name that it is imported by.

The exit code is 0, 1 (there is no such symbol, or no server), 2 (usage), or 64 and the gRPC status where the server
refuses.")]
pub(crate) struct DescribeArgs {
    /// What to describe [default: all services]
    symbol: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    route: RouteArgs,
    #[command(flatten)]
    schema: SchemaArgs,
    /// How long everything may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Prints the source.
pub(crate) async fn run(args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let Ok(symbols) = tokio::time::timeout(args.timeout, symbols(&args)).await else {
        bail!(
            "nothing was described by {} within {}; --timeout gives it longer",
            args.server.hub,
            humantime::format_duration(args.timeout)
        );
    };
    let sources: Vec<String> = symbols?.iter().map(source).collect();
    admin::print(&sources.join("\n")).await?;
    Ok(ExitCode::SUCCESS)
}

async fn symbols(args: &DescribeArgs) -> anyhow::Result<Vec<Symbol>> {
    let sources = args.schema.sources()?;
    // Of what files have, no server needs to be asked.
    if let Some(name) = &args.symbol
        && let Some(symbol) = sources.symbol(name)?
    {
        return Ok(vec![symbol]);
    }
    let in_files = sources.services()?;
    if args.symbol.is_none() && (!in_files.is_empty() || !sources.has_reflection()) {
        return Ok(in_files);
    }
    let connection = Connection::open(&args.server.hub, &args.server.trust(), args.timeout).await?;
    let mut explorer = Explorer::new(&sources, &connection, args.route.metadata());
    let described = match &args.symbol {
        Some(name) => explorer.symbol(name).await.map(|symbol| vec![symbol]),
        None => explorer.services().await,
    };
    described.map_err(|error| match error {
        // Its status is the exit code.
        ResolveError::Failed(failure) => failure.into(),
        error => error.into(),
    })
}
