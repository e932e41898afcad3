//! `adit call`: a gRPC call from the command line, of one agent or of many.

mod arguments;
mod fleet;
mod report;

use std::io::{ErrorKind, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;

use adit_client::call::{Call, CallError};
use adit_client::codec::{Codecs, PayloadCodec};
use adit_client::connection::Connection;
use adit_client::input::Input;
use adit_client::schema::Cache;
use anyhow::{Context as _, bail};
use etcetera::BaseStrategy as _;
use tokio::time::Instant;

pub(crate) use arguments::CallArgs;
use report::Report;

/// What a failed call's exit code is counted from: the gRPC status is added to it.
const EXIT_FAILED_CALL: u8 = 64;

/// Makes the call, or with `--all` one to each agent. Answers go to standard output, and nothing else does.
///
/// The exit code is 0, or 64 and the status of a call that failed; that is told on standard error.
pub(crate) async fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    if args.all {
        return fleet::run(&args).await;
    }
    let started = Instant::now();
    let call = Call {
        metadata: args.route.metadata(),
        output_codec: output_codec(&args)?,
        // A time further off than the clock can tell is as good as none.
        deadline: args.timeout.and_then(|timeout| started.checked_add(timeout)),
        ..call(&args)?
    };
    let report = Report::new(args.verbose, None, &call.metadata);
    let connection = connect(&args).await?;
    report.connected(&args.server.hub, started.elapsed());

    let mut out = tokio::io::stdout();
    let called = if args.template {
        call.template(&connection, &mut out).await
    } else {
        let called = call
            .run_observed(&connection, &mut out, |event| report.event(&event))
            .await;
        report.ended(&called, started.elapsed());
        called.map(|_outcome| ())
    };
    match called {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if is_enough(&error) => Ok(ExitCode::FAILURE),
        Err(error) => match status(&error) {
            Some(status) => {
                crate::process::complain(&error.into());
                Ok(ExitCode::from(EXIT_FAILED_CALL.saturating_add(status)))
            }
            None => Err(error.into()),
        },
    }
}

/// The call as the arguments have it, of nobody yet, with answers as JSON and no limit of time.
fn call(args: &CallArgs) -> anyhow::Result<Call> {
    let cache = if args.no_cache { None } else { cache() };
    Ok(Call {
        input: args.data.clone(),
        input_codec: input_codec(args)?,
        allow_unknown: args.allow_unknown,
        emit_defaults: args.emit_defaults,
        schema: Arc::new(args.schema.sources()?.with_cache(cache)),
        max_message_size: usize::try_from(args.max_message_size.as_u64()).unwrap_or(usize::MAX),
        compress: args.compress.map(Into::into),
        retries: args.retry,
        ..Call::new(args.method.clone())
    })
}

async fn connect(args: &CallArgs) -> anyhow::Result<Connection> {
    let within = args
        .timeout
        .map_or(args.connect_timeout, |timeout| timeout.min(args.connect_timeout));
    Ok(Connection::open(&args.server.hub, &args.server.trust(), within).await?)
}

/// True if whoever read the answers has enough of them.
fn is_enough(error: &CallError) -> bool {
    matches!(error, CallError::Output(error) if error.kind() == ErrorKind::BrokenPipe)
}

/// The gRPC status of a call that failed with one.
fn status(error: &CallError) -> Option<u8> {
    u8::try_from(error.failure()?.status().code() as i32).ok()
}

/// The folder for what can be learnt again, if this user has one.
fn cache() -> Option<Cache> {
    let folders = etcetera::choose_base_strategy().ok()?;
    Some(Cache::new(folders.cache_dir().join("adit").join("schemas")))
}

/// The codec that a flag names, that the file's name tells, or that finds it out.
fn input_codec(args: &CallArgs) -> anyhow::Result<Arc<dyn PayloadCodec>> {
    let codecs = Codecs::standard();
    let of_file = match &args.data {
        Some(Input::File(path)) => codecs.of_file(path),
        _ => None,
    };
    match &args.format {
        Some(name) => named(&codecs, name),
        None => Ok(of_file.unwrap_or_else(|| codecs.guess())),
    }
}

fn output_codec(args: &CallArgs) -> anyhow::Result<Arc<dyn PayloadCodec>> {
    let name = args.output.as_ref().or(args.format.as_ref());
    let codec = named(&Codecs::standard(), name.map_or("json", String::as_str))?;
    if !codec.is_text() && std::io::stdout().is_terminal() {
        bail!(
            "answers as {} are not for a terminal: send standard output to a file or a pipe, or choose another --output",
            codec.name()
        );
    }
    Ok(codec)
}

fn named(codecs: &Codecs, name: &str) -> anyhow::Result<Arc<dyn PayloadCodec>> {
    codecs
        .get(name)
        .with_context(|| format!("there is no format {name:?}"))
}
