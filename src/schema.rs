//! Arguments that say where descriptions of services and messages come from.

use std::path::PathBuf;

use adit_client::schema::{LocalError, Sources};

/// Files with descriptions, beside or in place of the server's own.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
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
}

impl SchemaArgs {
    /// Where descriptions come from; nothing is kept of them.
    pub(crate) fn sources(&self) -> Result<Sources, LocalError> {
        let sources =
            Sources::reflection().with_files(&self.proto, &self.import_path, &self.descriptor_set)?;
        Ok(match self.no_reflection {
            true => sources.without_reflection(),
            false => sources,
        })
    }
}
