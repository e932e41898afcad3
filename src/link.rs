//! Arguments that the hub and the agent share, because both are ends of links.

use std::path::PathBuf;

use adit_certs::CredentialFiles;
use adit_transport::{BufferMemory, Congestion, Tuning};
use anyhow::bail;
use bytesize::ByteSize;

/// Where this end's certificate is.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) certs: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl Files {
    /// The files by the names they have under `--certs`, or as `--ca`, `--cert` and `--key` name them one by one.
    pub(crate) fn resolve(
        self,
        by_convention: impl Fn(&std::path::Path) -> CredentialFiles,
    ) -> anyhow::Result<CredentialFiles> {
        let mut files = match (&self.certs, &self.ca, &self.cert, &self.key) {
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
        files.ca = self.ca.unwrap_or(files.ca);
        files.cert = self.cert.unwrap_or(files.cert);
        files.key = self.key.unwrap_or(files.key);
        Ok(files)
    }
}

/// Settings of links as the arguments change them.
pub(crate) fn tuning(
    congestion: Congestion,
    link_memory: ByteSize,
    buffer_memory: ByteSize,
) -> anyhow::Result<Tuning> {
    let settings = Tuning::default();
    let link_memory = u32::try_from(link_memory.as_u64())
        .ok()
        .filter(|&bytes| bytes >= settings.link_window);
    let Some(link_memory) = link_memory else {
        bail!(
            "--link-memory has to be between {} and 4 GiB",
            ByteSize(settings.link_window.into())
        );
    };
    Ok(Tuning {
        congestion,
        link_memory,
        buffer_memory: BufferMemory::new(buffer_memory.as_u64()),
        ..settings
    })
}
