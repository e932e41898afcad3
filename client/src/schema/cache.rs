//! Schemas that were learnt by reflection, kept in files, so that the next call of the same service
//! need not ask again.
//!
//! A schema belongs to a server, and behind a hub to the agent or the labels that a call names. It is
//! believed for [`MAX_AGE`]; a call that does not fit it has it learnt again.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use tonic::metadata::MetadataMap;

use super::files::{Files, MAX_BYTES};
use super::local::DescriptorSet;

/// How long a schema is believed: 10 minutes.
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// The longest name that file systems take.
const MAX_NAME: usize = 255;

/// How a schema's file ends, as other descriptor sets do.
const EXTENSION: &str = ".binpb";

/// A folder of schemas.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// The place of one schema.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    path: PathBuf,
}

impl Cache {
    /// Schemas are kept in this folder, which is made when there is a first one.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the schema of a service is; `None` where no file could have a name for it.
    pub(super) fn entry(&self, origin: &http::Uri, route: &MetadataMap, service: &str) -> Option<Entry> {
        let values = ["adit-agent", "adit-select"].into_iter().map(|key| {
            let values = route.get_all(key).into_iter();
            let values: Vec<_> = values.map(|value| value.to_str().unwrap_or_default()).collect();
            values.join(",")
        });
        let route: Vec<String> = values.collect();
        let names = [
            file_name(&origin.to_string()),
            // Without a route the hub chooses, and the name is one that no route has.
            format!("to {}", file_name(&route.join(" "))),
            format!("{}{EXTENSION}", file_name(service)),
        ];
        names.iter().all(|name| name.len() <= MAX_NAME).then(|| Entry {
            path: names
                .iter()
                .fold(self.folder.clone(), |path, name| path.join(name)),
        })
    }
}

impl Entry {
    /// The schema, if there is one that may be believed.
    pub(super) fn load(&self) -> Option<Files> {
        let read = || -> io::Result<Option<Files>> {
            let file = File::open(&self.path)?;
            // One from the future tells of a clock that was set back.
            let age = SystemTime::now().duration_since(file.metadata()?.modified()?);
            if age.is_err() || age.is_ok_and(|age| age > MAX_AGE) {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            let set = DescriptorSet::decode(&bytes[..]).map_err(io::Error::other)?;
            let mut files = Files::default();
            for file in &set.file {
                files.add(file).map_err(io::Error::other)?;
            }
            Ok(Some(files).filter(|files| files.missing().is_none()))
        };
        read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!(path = %self.path.display(), %error, "a schema in the cache cannot be read");
            }
            None
        })
    }

    /// Keeps a schema. That it cannot be kept is no reason not to call.
    pub(super) fn store(&self, files: &Files) {
        if let Err(error) = self.write(&files.encoded()) {
            tracing::debug!(path = %self.path.display(), %error, "a schema cannot be kept in the cache");
        }
    }

    /// Whole or not at all: several calls may write it at once.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Forgets the schema: it has turned out not to fit.
    pub(super) fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = %self.path.display(), %error, "a schema cannot be removed from the cache");
        }
    }
}

/// A text as the name of a file, and no other text's.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'=' | b',' => {
                name.push(char::from(byte));
            }
            byte => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::time::SystemTime;

    use tonic::metadata::MetadataMap;

    use super::{Cache, MAX_AGE};
    use crate::testing::FILES;

    fn files() -> super::Files {
        let mut files = super::Files::default();
        for file in &FILES.file {
            files.add(&prost::Message::encode_to_vec(file)).unwrap();
        }
        files
    }

    #[test]
    fn a_schema_is_believed_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("adit"));
        let origin = "http://127.0.0.1:9090".parse().unwrap();
        let entry = cache
            .entry(&origin, &MetadataMap::new(), "kitchen.Kitchen")
            .unwrap();
        assert!(entry.load().is_none());
        entry.store(&files());
        let pool = entry.load().unwrap().into_pool().unwrap();
        assert!(pool.get_service_by_name("kitchen.Kitchen").is_some());

        let aged = |modified| {
            let file = std::fs::File::options().write(true).open(&entry.path).unwrap();
            file.set_modified(modified).unwrap();
        };
        aged(SystemTime::now() - MAX_AGE - std::time::Duration::from_secs(1));
        assert!(entry.load().is_none());
        aged(SystemTime::now() + MAX_AGE);
        assert!(entry.load().is_none());
        aged(SystemTime::now());
        assert!(entry.load().is_some());
        std::fs::write(&entry.path, "not a schema").unwrap();
        assert!(entry.load().is_none());
        entry.store(&files());
        entry.forget();
        entry.forget();
        assert!(entry.load().is_none());
    }

    #[test]
    fn each_server_route_and_service_has_a_place_of_its_own_in_the_folder() {
        let cache = Cache::new("cache".into());
        let mut seen = std::collections::BTreeSet::new();
        for origin in ["http://a:1", "https://a:1", "http://a:2"] {
            for route in [
                None,
                Some(("adit-agent", "a")),
                Some(("adit-select", "a=../../b")),
                Some(("adit-select", "a=b")),
            ] {
                for service in ["p.S", "p.s"] {
                    let mut metadata = MetadataMap::new();
                    if let Some((key, value)) = route {
                        metadata.insert(key, value.parse().unwrap());
                    }
                    let entry = cache.entry(&origin.parse().unwrap(), &metadata, service).unwrap();
                    assert_eq!(entry.path.components().count(), 4, "{}", entry.path.display());
                    assert!(entry.path.starts_with("cache"));
                    seen.insert(entry.path);
                }
            }
        }
        assert_eq!(seen.len(), 24);
        let mut metadata = MetadataMap::new();
        metadata.insert("adit-select", "x".repeat(300).parse().unwrap());
        assert!(
            cache
                .entry(&"http://a:1".parse().unwrap(), &metadata, "p.S")
                .is_none()
        );
    }
}
