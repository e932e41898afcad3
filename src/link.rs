//! Arguments that the hub and the agent share, because both are ends of links.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_certs::CredentialFiles;
#[cfg(feature = "qlog")]
use adit_transport::QlogFolder;
use adit_transport::{BufferMemory, Congestion, Tuning};
use anyhow::bail;
use bytesize::ByteSize;

/// Where this end's certificate is.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// Directory with ca.pem and this end's certificate and key, as `adit certs` writes them
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The CA of the other end, in place of ca.pem in that directory
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// This end's certificate, in place of the one in that directory
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The private key of that certificate, in place of the one in that directory
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// How links behave, and those who carry calls on them.
#[derive(Debug, clap::Args)]
pub(crate) struct LinkArgs {
    /// How long running calls may take to end after SIGINT or SIGTERM. A second signal stops at once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,
    /// How a link decides what may be under way: bounded, bbr, cubic or newreno
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
    /// What received bytes may hold on one link at the most; past it the call whose reader stands still longest is given
    /// up
    #[arg(long, value_name = "BYTES", default_value = "512MiB")]
    link_memory: ByteSize,
    /// What all links together may hold beyond 16 MiB each
    #[arg(long, value_name = "BYTES", default_value = "2GiB")]
    buffer_memory: ByteSize,
    /// Folder in which each link over QUIC gets a file of what QUIC does on it (qlog), of 16 MiB at the most [default: none]
    #[cfg(feature = "qlog")]
    #[arg(long, value_name = "DIR")]
    qlog: Option<PathBuf>,
    /// Threads that carry calls. One does the most for each processor that it has; more do more in all
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) workers: NonZeroUsize,
}

/// Where more settings come from.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// File of settings, in TOML: its keys are these flags' names. Flags and environment variables beat it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings and the files that they name, open no port, dial nobody, and end
    #[arg(long)]
    pub(crate) check_config: bool,
}

impl Files {
    /// The files by the names they have under `--certs`, or as `--ca`, `--cert` and `--key` name them one by one.
    pub(crate) fn resolve(
        &self,
        by_convention: impl Fn(&Path) -> CredentialFiles,
    ) -> anyhow::Result<CredentialFiles> {
        let Self { certs, ca, cert, key } = self;
        let mut files = match (certs, ca, cert, key) {
            (Some(dir), ..) => by_convention(dir),
            (None, Some(ca), Some(cert), Some(key)) => {
                return Ok(CredentialFiles {
                    ca: ca.clone(),
                    cert: cert.clone(),
                    key: key.clone(),
                });
            }
            _ => bail!(
                "no certificate: name a directory with --certs DIR, or files with --ca, --cert and --key"
            ),
        };
        for (file, own) in [
            (&mut files.ca, ca),
            (&mut files.cert, cert),
            (&mut files.key, key),
        ] {
            if let Some(own) = own {
                file.clone_from(own);
            }
        }
        Ok(files)
    }
}

impl LinkArgs {
    /// Settings of links as the arguments change them.
    pub(crate) fn tuning(&self) -> anyhow::Result<Tuning> {
        let settings = Tuning::default();
        let link_memory = u32::try_from(self.link_memory.as_u64())
            .ok()
            .filter(|&bytes| bytes >= settings.link_window);
        let Some(link_memory) = link_memory else {
            bail!(
                "--link-memory {} has to be between {} and 4 GiB",
                self.link_memory,
                ByteSize(settings.link_window.into())
            );
        };
        Ok(Tuning {
            congestion: self.congestion,
            link_memory,
            buffer_memory: BufferMemory::new(self.buffer_memory.as_u64()),
            #[cfg(feature = "qlog")]
            qlog: self.qlog.as_deref().map(QlogFolder::open).transpose()?,
            ..settings
        })
    }
}

/// What `--check-config` prints of a good configuration.
pub(crate) fn is_good(summary: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "configuration is good: {summary}")?;
    Ok(())
}

/// Several values as a summary names them.
pub(crate) fn words(values: &[impl ToString]) -> String {
    let words: Vec<String> = values.iter().map(ToString::to_string).collect();
    words.join(" and ")
}
