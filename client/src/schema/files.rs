//! Files of descriptors as they come in, until they are complete enough to be a pool.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost::encoding::DecodeContext;
use prost_reflect::{DescriptorError, DescriptorPool};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::local::DescriptorSet;
use super::{bundled, editions};

/// How many files one schema may have.
const MAX_FILES: usize = 2_048;
/// How many bytes of descriptors one schema may have: 64 MiB.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Why a set of files is no schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A file is not a `FileDescriptorProto`.
    #[error("a file descriptor cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// More files than are taken.
    #[error("it has more than {MAX_FILES} files")]
    TooManyFiles,
    /// More bytes than are taken.
    #[error("it has more than {MAX_BYTES} bytes of descriptors")]
    TooLarge,
    /// The files contradict themselves or each other.
    #[error("{0}")]
    Invalid(#[from] DescriptorError),
}

/// A schema in the making.
#[derive(Debug, Default)]
pub(crate) struct Files {
    files: BTreeMap<String, FileDescriptorProto>,
    /// The files that have been taken as they were, by name.
    encoded: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Files {
    /// Adds an encoded file. One that is there already, by name, is kept as it is.
    pub(crate) fn add(&mut self, encoded: &[u8]) -> Result<(), SchemaError> {
        self.bytes = self.bytes.saturating_add(encoded.len());
        if self.bytes > MAX_BYTES {
            return Err(SchemaError::TooLarge);
        }
        let mut file = FileDescriptorProto::decode(encoded)?;
        let lowered = editions::lower(&mut file, encoded);
        if !lowered && !self.contains(file.name()) {
            self.encoded.insert(file.name().to_owned(), encoded.to_vec());
        }
        self.insert(file)
    }

    /// Adds a file from the copies that this program carries; false if it has none.
    pub(super) fn add_bundled(&mut self, name: &str) -> Result<bool, SchemaError> {
        match bundled::file(name) {
            Some(file) => self.insert(file).map(|()| true),
            None => Ok(false),
        }
    }

    /// Adds those files of others that are not here.
    pub(super) fn add_all(&mut self, others: &Self) -> Result<(), SchemaError> {
        others.files.values().try_for_each(|file| {
            let name = file.name();
            if let (false, Some(encoded)) = (self.contains(name), others.encoded.get(name)) {
                self.encoded.insert(name.to_owned(), encoded.clone());
            }
            self.insert(file.clone())
        })
    }

    /// A descriptor set of all files.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let file = self.files.values().cloned().collect();
        FileDescriptorSet { file }.encode_to_vec()
    }

    fn insert(&mut self, file: FileDescriptorProto) -> Result<(), SchemaError> {
        self.files.entry(file.name().to_owned()).or_insert(file);
        if self.files.len() > MAX_FILES {
            Err(SchemaError::TooManyFiles)
        } else {
            Ok(())
        }
    }

    /// The name of a file that another one imports and that is not here.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.files
            .values()
            .flat_map(|file| &file.dependency)
            .find(|name| !self.files.contains_key(*name))
            .map(String::as_str)
    }

    /// True if a file of this name is here.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The pool of all files, none of which may be missing.
    ///
    /// With them come those of `google.rpc`, for messages in an `Any` that no file speaks of.
    pub(crate) fn into_pool(mut self) -> Result<DescriptorPool, SchemaError> {
        self.complete()?;
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(self.with_plain_imports())?;
        Ok(pool)
    }

    /// The same, with options of one's own: `FileDescriptorProto` has no fields for them.
    pub(super) fn into_pool_with_options(mut self) -> Result<DescriptorPool, SchemaError> {
        self.complete()?;
        let file = self
            .with_plain_imports()
            .into_iter()
            .map(|file| match self.encoded.get(file.name()) {
                Some(encoded) => with_imports(encoded, &file.dependency),
                None => Ok(file.encode_to_vec()),
            });
        let file = file.collect::<Result<_, _>>()?;
        let mut pool = DescriptorPool::new();
        pool.decode_file_descriptor_set(&DescriptorSet { file }.encode_to_vec()[..])?;
        Ok(pool)
    }

    /// Adds what may be in an `Any`, and what that imports.
    fn complete(&mut self) -> Result<(), SchemaError> {
        let defines = |file: &FileDescriptorProto, name: &str| {
            file.package() == "google.rpc" && file.message_type.iter().any(|message| message.name() == name)
        };
        for file in bundled::files().file {
            // Whatever the file is called in which others have it.
            let is_known =
                |message: &DescriptorProto| self.files.values().any(|file| defines(file, message.name()));
            if !file.message_type.iter().any(is_known) {
                self.insert(file)?;
            }
        }
        while let Some(missing) = self.missing().map(ToOwned::to_owned) {
            if !self.add_bundled(&missing)? {
                break;
            }
        }
        Ok(())
    }

    /// Each file with what it imports publicly, through any number of others, imported plainly.
    ///
    /// `prost-reflect` follows public imports over one file only, and without end where they go in a
    /// circle; which a server may send.
    fn with_plain_imports(&self) -> Vec<FileDescriptorProto> {
        self.files
            .values()
            .map(|file| {
                let mut visible: BTreeSet<&str> = file.dependency.iter().map(String::as_str).collect();
                let mut to_visit: Vec<&str> = visible.iter().copied().collect();
                let mut plain = file.clone();
                plain.public_dependency.clear();
                while let Some(imported) = to_visit.pop().and_then(|name| self.files.get(name)) {
                    for name in public_imports(imported) {
                        if name != file.name() && visible.insert(name) {
                            plain.dependency.push(name.to_owned());
                            to_visit.push(name);
                        }
                    }
                }
                plain
            })
            .collect()
    }
}

/// An encoded file with these imports in place of its own.
fn with_imports(encoded: &[u8], imports: &[String]) -> Result<Vec<u8>, SchemaError> {
    const DEPENDENCY: u32 = 3;
    const PUBLIC_DEPENDENCY: u32 = 10;
    let mut file = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while !rest.is_empty() {
        let field = rest;
        let (tag, wire_type) = prost::encoding::decode_key(&mut rest)?;
        prost::encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if !matches!(tag, DEPENDENCY | PUBLIC_DEPENDENCY) {
            file.extend_from_slice(field.get(..field.len() - rest.len()).unwrap_or_default());
        }
    }
    prost::encoding::string::encode_repeated(DEPENDENCY, imports, &mut file);
    Ok(file)
}

fn public_imports(file: &FileDescriptorProto) -> impl Iterator<Item = &str> {
    file.public_dependency
        .iter()
        .filter_map(|&index| file.dependency.get(usize::try_from(index).ok()?))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::{Files, MAX_FILES, SchemaError};
    use prost::Message as _;
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

    /// A file with one message, which has a field of each type named.
    fn file(name: &str, message: &str, imports: &[&str], public: &[i32], uses: &[&str]) -> Vec<u8> {
        let field = |(index, used): (usize, &&str)| FieldDescriptorProto {
            name: Some(format!("f{index}")),
            number: Some(i32::try_from(index).unwrap() + 1),
            label: Some(Label::Optional.into()),
            r#type: Some(Type::Message.into()),
            type_name: Some((*used).to_owned()),
            ..FieldDescriptorProto::default()
        };
        FileDescriptorProto {
            name: Some(name.to_owned()),
            syntax: Some("proto3".to_owned()),
            dependency: imports.iter().map(|&import| import.to_owned()).collect(),
            public_dependency: public.to_vec(),
            message_type: vec![DescriptorProto {
                name: Some(message.to_owned()),
                field: uses.iter().enumerate().map(field).collect(),
                ..DescriptorProto::default()
            }],
            ..FileDescriptorProto::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn public_imports_are_followed_all_the_way() {
        let mut files = Files::default();
        files.add(&file("a", "A", &["b"], &[], &[".D"])).unwrap();
        assert_eq!(files.missing(), Some("b"));
        files.add(&file("b", "B", &["c"], &[0], &[])).unwrap();
        files.add(&file("c", "C", &["d"], &[0], &[])).unwrap();
        files.add(&file("d", "D", &[], &[], &[])).unwrap();
        assert_eq!(files.missing(), None);
        assert!(files.into_pool().unwrap().get_message_by_name("A").is_some());
    }

    #[test]
    fn what_is_imported_privately_stays_unknown() {
        let mut files = Files::default();
        files.add(&file("a", "A", &["b"], &[], &[".C"])).unwrap();
        files.add(&file("b", "B", &["c"], &[], &[])).unwrap();
        files.add(&file("c", "C", &[], &[], &[])).unwrap();
        assert!(matches!(files.into_pool(), Err(SchemaError::Invalid(_))));
    }

    #[test]
    fn imports_in_a_circle_come_to_an_end() {
        let mut files = Files::default();
        files.add(&file("main", "M", &["a"], &[], &[".A", ".B"])).unwrap();
        files.add(&file("a", "A", &["b"], &[0], &[".B"])).unwrap();
        files
            .add(&file("b", "B", &["a", "a"], &[0, 1, 7, -1], &[".A"]))
            .unwrap();
        // Whether a circle is taken or refused is the pool's affair; that it is decided is ours.
        let _decided = files.into_pool();
    }

    #[test]
    fn well_known_types_need_no_server() {
        let mut files = Files::default();
        files
            .add(&file(
                "a",
                "A",
                &["google/protobuf/timestamp.proto"],
                &[],
                &[".google.protobuf.Timestamp"],
            ))
            .unwrap();
        assert!(files.add_bundled("google/protobuf/timestamp.proto").unwrap());
        assert!(!files.add_bundled("acme/own.proto").unwrap());
        assert!(files.into_pool().is_ok());
    }

    #[test]
    fn a_schema_has_bounds() {
        let mut files = Files::default();
        for index in 0..MAX_FILES {
            files
                .add(&file(&index.to_string(), &format!("M{index}"), &[], &[], &[]))
                .unwrap();
        }
        assert!(matches!(
            files.add(&file("one more", "M", &[], &[], &[])),
            Err(SchemaError::TooManyFiles)
        ));
        let mut files = Files {
            bytes: super::MAX_BYTES,
            ..Files::default()
        };
        assert!(matches!(files.add(&[0]), Err(SchemaError::TooLarge)));
        assert!(matches!(
            Files::default().add(&[0xFF]),
            Err(SchemaError::Malformed(_))
        ));
    }
}
