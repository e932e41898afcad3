//! Descriptions that this program carries: the well-known types and those of `google.rpc`, of which
//! errors are made.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The folder in which everybody has them, and imports them from.
const FOLDER: &str = "google/rpc/";

static GOOGLE_RPC: LazyLock<FileDescriptorSet> = LazyLock::new(|| {
    let mut set = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_else(|error| {
        tracing::error!(%error, "the descriptions of google.rpc cannot be decoded");
        FileDescriptorSet::default()
    });
    for file in &mut set.file {
        let names = file.name.iter_mut().chain(&mut file.dependency);
        for name in names.filter(|name| !name.contains('/')) {
            name.insert_str(0, FOLDER);
        }
    }
    set
});

/// The files of `google.rpc`.
pub(super) fn files() -> FileDescriptorSet {
    GOOGLE_RPC.clone()
}

/// A file by its name.
pub(super) fn file(name: &str) -> Option<FileDescriptorProto> {
    match DescriptorPool::global().get_file_by_name(name) {
        Some(file) => Some(file.file_descriptor_proto().clone()),
        None => GOOGLE_RPC.file.iter().find(|file| file.name() == name).cloned(),
    }
}
