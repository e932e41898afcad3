//! SSLKEYLOGFILE: the keys of TLS connections in a file, for programs such as Wireshark that look into packets.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use rustls::{KeyLog, KeyLogFile};
use tracing::warn;

/// The variable that every program of this kind goes by.
const VARIABLE: &str = "SSLKEYLOGFILE";

/// The file that keys go to, where the environment names one.
#[derive(Debug)]
pub(crate) struct Keys {
    file: PathBuf,
    log: Arc<dyn KeyLog>,
}

impl Keys {
    /// Opens the file. rustls would go on without one that cannot be written, and nobody would know why it is missing.
    pub(crate) fn from_environment() -> anyhow::Result<Option<Self>> {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        let Some(file) = named.map(PathBuf::from) else {
            return Ok(None);
        };
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&file);
        opened.map_err(|error| {
            let shown = file.display();
            anyhow!(
                "{VARIABLE} names {shown}, which cannot be written: {error}; name a file that this user may write, or unset it"
            )
        })?;
        let log = Arc::new(KeyLogFile::new());
        Ok(Some(Self { file, log }))
    }

    pub(crate) fn log(&self) -> Arc<dyn KeyLog> {
        Arc::clone(&self.log)
    }

    /// Says what the variable does: it may have been set for another program, or been forgotten.
    pub(crate) fn warn(&self, whose: &str) {
        warn!(
            file = %self.file.display(),
            "{VARIABLE} is set: the keys of {whose} are written to this file, and whoever has it and their packets can read \
             every call; unset it unless you are looking for a fault"
        );
    }
}
