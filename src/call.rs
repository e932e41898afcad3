//! `adit call`: one gRPC call from the command line.

mod report;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_client::call::{Call, CallError};
use adit_client::codec::{Codecs, PayloadCodec};
use adit_client::connection::Connection;
use adit_client::input::Input;
use adit_client::metadata::{Header, Headers, Route, Selector, metadata};
use adit_client::schema::{Cache, Sources};
use adit_client::target::MethodName;
use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::builder::PossibleValuesParser;
use etcetera::BaseStrategy as _;
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;

use crate::server::ServerArgs;
use report::Report;

/// What a failed call's exit code is counted from: the gRPC status is added to it.
const EXIT_FAILED_CALL: u8 = 64;

/// Arguments of `adit call`.
#[derive(Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// The method, as in routeguide.RouteGuide/GetFeature
    #[arg(value_name = "PACKAGE.SERVICE/METHOD")]
    method: MethodName,
    #[command(flatten)]
    server: ServerArgs,
    /// Call the service of this agent
    #[arg(long, value_name = "ID", conflicts_with = "select")]
    agent: Option<AgentId>,
    /// Call the service of an agent that has these labels: region=eu,tier=edge
    #[arg(long, value_name = "KEY=VALUE")]
    select: Option<Selector>,
    /// The requests: DATA itself, @FILE, or @- for standard input; several, one after the other, for a method that
    /// takes a stream. Without it, a method that takes one message gets an empty one
    #[arg(short, long, value_name = "DATA")]
    data: Option<Input>,
    /// Describe the method with a .proto file rather than by asking the server; what it does not describe is asked. May
    /// be repeated
    #[arg(long, value_name = "FILE")]
    proto: Vec<PathBuf>,
    /// Where files that a .proto file imports are looked for, before its own folder. May be repeated
    #[arg(short = 'I', long, value_name = "DIR", requires = "proto")]
    import_path: Vec<PathBuf>,
    /// The same with a descriptor set, as protoc and buf write it. May be repeated
    #[arg(long, value_name = "FILE")]
    descriptor_set: Vec<PathBuf>,
    /// Never ask the server to describe the method
    #[arg(long)]
    no_reflection: bool,
    /// Neither use nor keep what an earlier call has learnt of the method
    #[arg(long)]
    no_cache: bool,
    /// Metadata to send, 'key: value'; base64 where the key ends in -bin; @FILE has an entry in each line. May be repeated
    #[arg(
        short = 'H',
        long,
        visible_alias = "metadata",
        value_name = "KEY: VALUE",
        value_delimiter = '\n'
    )]
    header: Vec<Headers>,
    /// How long everything may take, such as 10s; the server is told what is left of it [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How long connecting may take
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    connect_timeout: Duration,
    /// The longest message, of the input and of the wire
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    max_message_size: ByteSize,
    /// Compress the requests; answers may be compressed in any case
    #[arg(long, value_name = "HOW")]
    compress: Option<Compression>,
    /// How often to try again: where no service can have seen the call, or where it says when to
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    retry: u32,
    /// Make no call: print an empty request of the method, every field of it, as --output says
    #[arg(long, conflicts_with = "data")]
    template: bool,
    /// Tell on standard error what happens: metadata of both directions, and how long each step takes
    #[arg(short, long)]
    verbose: bool,
    /// How requests are written [default: as the file's name or its beginning says], and answers too unless --output
    /// says otherwise [default: json]
    #[arg(long, value_parser = PossibleValuesParser::new(Codecs::standard().names()))]
    format: Option<String>,
    /// How answers are written
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(Codecs::standard().names())
    )]
    output: Option<String>,
    /// Leave out fields of the requests that their type does not have; otherwise they are errors
    #[arg(long)]
    allow_unknown: bool,
    /// Print fields that have their default too
    #[arg(long)]
    emit_defaults: bool,
}

/// What `--compress` takes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Compression {
    Gzip,
    Zstd,
}

impl From<Compression> for CompressionEncoding {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Makes the call. Answers go to standard output, and nothing else does.
///
/// The exit code is 0, or 64 and the status of a call that failed; that is told on standard error.
pub(crate) async fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    // A time further off than the clock can tell is as good as none.
    let deadline = args.timeout.and_then(|timeout| started.checked_add(timeout));
    let output_codec = output_codec(&args)?;
    let call = Call {
        input: args.data.clone(),
        input_codec: input_codec(&args)?,
        allow_unknown: args.allow_unknown,
        output_codec,
        emit_defaults: args.emit_defaults,
        schema: Arc::new(sources(&args)?),
        max_message_size: usize::try_from(args.max_message_size.as_u64()).unwrap_or(usize::MAX),
        compress: args.compress.map(Into::into),
        retries: args.retry,
        metadata: sent_metadata(&args),
        deadline,
        ..Call::new(args.method.clone())
    };
    let report = Report::new(args.verbose, &call.metadata);

    let connect_timeout = args
        .timeout
        .map_or(args.connect_timeout, |timeout| timeout.min(args.connect_timeout));
    let connection = Connection::open(&args.server.hub, &args.server.trust(), connect_timeout).await?;
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
        // Whoever read the answers has enough of them.
        Err(CallError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            let code = error.failure().map(|failure| failure.status().code());
            let error = error.into();
            match code.map(|code| u8::try_from(code as i32)) {
                Some(Ok(status)) => {
                    crate::process::complain(&error);
                    Ok(ExitCode::from(EXIT_FAILED_CALL.saturating_add(status)))
                }
                _ => Err(error),
            }
        }
    }
}

fn sent_metadata(args: &CallArgs) -> MetadataMap {
    let agent = args.agent.clone().map(Route::Agent);
    let route = agent.or_else(|| args.select.clone().map(Route::Select));
    let headers: Vec<Header> = args.header.iter().flat_map(|headers| headers.0.clone()).collect();
    metadata(&headers, route.as_ref())
}

/// Where the method's description comes from.
fn sources(args: &CallArgs) -> anyhow::Result<Sources> {
    let sources = Sources::reflection()
        .with_files(&args.proto, &args.import_path, &args.descriptor_set)?
        .with_cache(if args.no_cache { None } else { cache() });
    Ok(match args.no_reflection {
        true => sources.without_reflection(),
        false => sources,
    })
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
