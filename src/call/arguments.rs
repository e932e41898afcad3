//! The arguments of `adit call`.

use std::num::NonZeroUsize;
use std::time::Duration;

use adit_client::codec::Codecs;
use adit_client::input::Input;
use adit_client::target::{MethodName, Target};
use bytesize::ByteSize;
use clap::builder::PossibleValuesParser;
use tonic::codec::CompressionEncoding;

use crate::admin;
use crate::route::RouteArgs;
use crate::schema::SchemaArgs;
use crate::server::ServerArgs;

/// Arguments of `adit call`.
#[derive(Debug, clap::Args)]
pub(crate) struct CallArgs {
    /// The method, as in routeguide.RouteGuide/GetFeature
    #[arg(value_name = "PACKAGE.SERVICE/METHOD")]
    pub(super) method: MethodName,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    #[command(flatten)]
    pub(super) route: RouteArgs,
    /// Make the call to every agent that has the service, or of those with --select to every one that has these labels
    #[arg(long, conflicts_with_all = ["agent", "template"])]
    pub(super) all: bool,
    /// How many agents --all calls at a time
    #[arg(long, value_name = "N", default_value = "32")]
    pub(super) parallel: NonZeroUsize,
    /// The hub's port for operators, which --all asks for its agents: http://HOST:PORT
    #[arg(long, value_name = "URL", default_value = admin::DEFAULT)]
    pub(super) admin: Target,
    /// The requests: DATA itself, @FILE, or @- for standard input; several, one after the other, for a method that
    /// takes a stream. Without it, a method that takes one message gets an empty one
    #[arg(short, long, value_name = "DATA")]
    pub(super) data: Option<Input>,
    #[command(flatten)]
    pub(super) schema: SchemaArgs,
    /// Neither use nor keep what an earlier call has learnt of the method
    #[arg(long)]
    pub(super) no_cache: bool,
    /// How long everything may take, such as 10s; the server is told what is left of it [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// How long connecting may take
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    pub(super) connect_timeout: Duration,
    /// The longest message, of the input and of the wire
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub(super) max_message_size: ByteSize,
    /// Compress the requests; answers may be compressed in any case
    #[arg(long, value_name = "HOW")]
    pub(super) compress: Option<Compression>,
    /// How often to try again: where no service can have seen the call, or where it says when to
    #[arg(long, value_name = "TIMES", default_value_t = 0)]
    pub(super) retry: u32,
    /// Make no call: print an empty request of the method, every field of it, as --output says
    #[arg(long, conflicts_with = "data")]
    pub(super) template: bool,
    /// Tell on standard error what happens: metadata of both directions, and how long each step takes
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// How requests are written [default: as the file's name or its beginning says], and answers too unless --output
    /// says otherwise [default: json]
    #[arg(long, value_parser = PossibleValuesParser::new(Codecs::standard().names()))]
    pub(super) format: Option<String>,
    /// How answers are written
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(Codecs::standard().names())
    )]
    pub(super) output: Option<String>,
    /// Leave out fields of the requests that their type does not have; otherwise they are errors
    #[arg(long)]
    pub(super) allow_unknown: bool,
    /// Print fields that have their default too
    #[arg(long)]
    pub(super) emit_defaults: bool,
}

/// What `--compress` takes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Compression {
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
