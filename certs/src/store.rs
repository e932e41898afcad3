//! Certificates and keys as files, under the names that the command's `--certs` flags read.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

use crate::authority::{Authority, Issued, Subject};
use crate::load_error::LoadError;

/// The file of the CA's certificate.
pub(crate) const CA_CERTIFICATE: &str = "ca.pem";
/// The file of the CA's private key.
const CA_KEY: &str = "ca.key";

/// Mode of a private key's file: nobody but its owner.
const KEY_MODE: u32 = 0o600;
/// Mode of a certificate's file, before the umask: it is public.
const CERTIFICATE_MODE: u32 = 0o644;

/// The file of the certificate called `stem`.
pub(crate) fn certificate_name(stem: &str) -> String {
    format!("{stem}.pem")
}

/// The file of the private key called `stem`.
pub(crate) fn key_name(stem: &str) -> String {
    format!("{stem}.key")
}

/// A folder of certificates and keys: `ca.pem`, `ca.key`, `hub.pem`, `hub.key`, `agent-ID.pem` and
/// so on.
///
/// A file appears whole or not at all, and a private key is never readable by others, not even for
/// a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

/// What to do when a file is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail and leave it.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// The two files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
}

impl Directory {
    /// The folder at `path`; it is made when something is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `ca.pem` and `ca.key`.
    ///
    /// # Errors
    /// As [`Authority::load`].
    pub fn read_authority(&self) -> Result<Authority, LoadError> {
        Authority::load(&self.path.join(CA_CERTIFICATE), &self.path.join(CA_KEY))
    }

    /// Writes `ca.pem` and `ca.key`.
    ///
    /// # Errors
    /// A file is there already and `existing` says to keep it, or it cannot be written.
    pub fn write_authority(&self, authority: &Authority, existing: Existing) -> Result<Written, StoreError> {
        self.write_pair("ca", authority.certificate_pem(), &authority.key_pem(), existing)
    }

    /// Writes the certificate and key that were issued to `subject`.
    ///
    /// # Errors
    /// A file is there already and `existing` says to keep it, or it cannot be written.
    pub fn write(
        &self,
        subject: &Subject,
        issued: &Issued,
        existing: Existing,
    ) -> Result<Written, StoreError> {
        self.write_pair(
            &subject.file_stem(),
            &issued.certificate_pem,
            &issued.key_pem,
            existing,
        )
    }

    fn write_pair(
        &self,
        stem: &str,
        certificate: &str,
        key: &str,
        existing: Existing,
    ) -> Result<Written, StoreError> {
        std::fs::create_dir_all(&self.path).map_err(|reason| StoreError::Folder {
            path: self.path.clone(),
            reason,
        })?;
        let written = Written {
            certificate: self.path.join(certificate_name(stem)),
            key: self.path.join(key_name(stem)),
        };
        // Both are complete on the disk before either gets its name.
        let key_file = self.prepare(&written.key, key, KEY_MODE)?;
        let certificate_file = self.prepare(&written.certificate, certificate, CERTIFICATE_MODE)?;
        match existing {
            Existing::Replace => {
                key_file
                    .persist(&written.key)
                    .map_err(|error| failed(&written.key, error.error))?;
                certificate_file
                    .persist(&written.certificate)
                    .map_err(|error| failed(&written.certificate, error.error))?;
            }
            Existing::Keep => {
                if written.certificate.symlink_metadata().is_ok() {
                    return Err(StoreError::Exists {
                        path: written.certificate,
                    });
                }
                key_file
                    .persist_noclobber(&written.key)
                    .map_err(|error| failed(&written.key, error.error))?;
                if let Err(error) = certificate_file.persist_noclobber(&written.certificate) {
                    // The key that was just made is of no use without its certificate and would be
                    // in the way.
                    let _ = std::fs::remove_file(&written.key);
                    return Err(failed(&written.certificate, error.error));
                }
            }
        }
        Ok(written)
    }

    /// A file with `text` that has no lasting name yet, in the folder where it will get it.
    fn prepare(&self, target: &Path, text: &str, mode: u32) -> Result<NamedTempFile, StoreError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".adit-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        let write = || {
            let mut file = builder.tempfile_in(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        write().map_err(|reason| failed(target, reason))
    }
}

fn failed(path: &Path, reason: io::Error) -> StoreError {
    let path = path.to_owned();
    match reason.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path },
        _ => StoreError::Write { path, reason },
    }
}

/// A certificate and its key were not written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot make the folder {path:?}: {reason}; choose another with --dir")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A file has the name already.
    #[error(
        "{path:?} exists already and is kept; to replace it, and the key or certificate that belongs to it, add --force"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {path:?}: {reason}; check that its folder may be written and the disk is not full")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

#[cfg(test)]
mod tests;
