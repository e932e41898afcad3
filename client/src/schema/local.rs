//! Schemas from files: `.proto` sources, compiled here, and descriptor sets that another compiler wrote.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use miette::Diagnostic as _;
use prost::Message as _;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};

use super::files::{Files, MAX_BYTES, SchemaError};
use crate::status::printable;

/// Why files are no schema.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A descriptor set cannot be read.
    #[error("cannot read the descriptor set {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file is no descriptor set, or too much of one.
    #[error(
        "{} is not a descriptor set: {problem}; protoc writes one with --include_imports --descriptor_set_out",
        path.display()
    )]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A `.proto` file does not compile, or one that it imports.
    #[error("{}", printable(problem))]
    Proto {
        /// Where and what.
        problem: String,
    },
    /// The files contradict each other, or lack one that they import.
    #[error("the schema of the files given cannot be used: {0}")]
    Unusable(#[from] SchemaError),
    /// A file imports another that is nowhere.
    #[error(
        "{missing} is imported, and is in none of the files given; --import-path names the folder that it is in"
    )]
    Missing {
        /// The import.
        missing: String,
    },
}

/// Reads all files; an import is looked for in the folders given, then in that of the file itself.
pub(super) fn load(
    protos: &[PathBuf],
    import_paths: &[PathBuf],
    sets: &[PathBuf],
) -> Result<Files, LocalError> {
    let mut files = Files::default();
    for path in sets {
        let refused = |problem: String| LocalError::Set {
            path: path.clone(),
            problem,
        };
        for file in read_set(path)?.file {
            files.add(&file).map_err(|error| refused(error.to_string()))?;
        }
    }
    for path in protos {
        compile(path, import_paths, &mut files)?;
    }
    while let Some(missing) = files.missing().map(ToOwned::to_owned) {
        if !files.add_bundled(&missing)? {
            return Err(LocalError::Missing { missing });
        }
    }
    Ok(files)
}

/// A `FileDescriptorSet` whose files are left as they are: they may have more than this program knows.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DescriptorSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) file: Vec<Vec<u8>>,
}

fn read_set(path: &Path) -> Result<DescriptorSet, LocalError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| LocalError::Read {
            path: path.to_owned(),
            source,
        })?;
    let refused = |problem| LocalError::Set {
        path: path.to_owned(),
        problem,
    };
    if bytes.len() > MAX_BYTES {
        return Err(refused(format!("it has more than {MAX_BYTES} bytes")));
    }
    DescriptorSet::decode(&bytes[..]).map_err(|error| refused(error.to_string()))
}

fn compile(path: &Path, import_paths: &[PathBuf], files: &mut Files) -> Result<(), LocalError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut resolver = ChainFileResolver::new();
    for import_path in import_paths {
        resolver.add(IncludeFileResolver::new(import_path.clone()));
    }
    resolver.add(IncludeFileResolver::new(folder.to_owned()));
    resolver.add(GoogleFileResolver::new());
    resolver.add(DescriptorSetFileResolver::new(super::bundled::files()));

    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(path).map_err(|error| LocalError::Proto {
        problem: placed(path, &error),
    })?;
    let set = compiler.encode_file_descriptor_set();
    let set = DescriptorSet::decode(&set[..]).map_err(SchemaError::from)?;
    for file in set.file {
        files.add(&file)?;
    }
    Ok(())
}

/// An error with its file, and the line and column if it has one.
fn placed(path: &Path, error: &protox::Error) -> String {
    let file = error
        .file()
        .map_or_else(|| path.display().to_string(), ToOwned::to_owned);
    let place = error
        .labels()
        .and_then(|mut labels| labels.next())
        .and_then(|label| {
            let source = error.source_code()?;
            let span = source.read_span(label.inner(), 0, 0).ok()?;
            Some(format!(
                ", line {}, column {}",
                span.line() + 1,
                span.column() + 1
            ))
        });
    let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
    format!("{file}{}: {error}{help}", place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::path::{Path, PathBuf};

    use super::load;

    fn testing(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/testing")
            .join(name)
    }

    #[test]
    fn sources_and_sets_are_one_schema() {
        let files = load(&[testing("kitchen.proto")], &[], &[testing("vault.binpb")]).unwrap();
        let pool = files.into_pool().unwrap();
        for name in [
            "kitchen.Everything",
            "cellar.Wine",
            "vault.Safe",
            "google.rpc.ErrorInfo",
        ] {
            assert!(pool.get_message_by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn imports_are_found_where_they_are_said_to_be_and_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        write(
            "lib/acme/part.proto",
            "syntax = 'proto3'; package acme; message Part {}",
        );
        let main = write(
            "own/main.proto",
            "syntax = 'proto3'; import 'acme/part.proto'; import 'google/rpc/status.proto'; \
             message M { acme.Part part = 1; google.rpc.Status status = 2; }",
        );
        load(std::slice::from_ref(&main), &[folder.path().join("lib")], &[]).unwrap();
        let said = load(&[main], &[], &[]).unwrap_err().to_string();
        assert!(said.contains("acme/part.proto"), "{said}");

        let wrong = write(
            "own/wrong.proto",
            "syntax = 'proto3';\nmessage M {\n  Nothing n = 1;\n}",
        );
        let said = load(&[wrong], &[], &[]).unwrap_err().to_string();
        assert!(said.starts_with("wrong.proto, line 3, column 3: "), "{said}");
        assert!(said.contains("Nothing"), "{said}");

        let none = folder.path().join("none.proto");
        assert!(
            load(&[none], &[], &[])
                .unwrap_err()
                .to_string()
                .contains("none.proto")
        );
    }

    #[test]
    fn what_is_no_descriptor_set_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.binpb");
        let said = load(&[], &[], std::slice::from_ref(&path))
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("cannot read the descriptor set "), "{said}");
        std::fs::write(&path, "syntax").unwrap();
        let said = load(&[], &[], std::slice::from_ref(&path))
            .unwrap_err()
            .to_string();
        assert!(said.contains("is not a descriptor set"), "{said}");

        // A set without what its file imports.
        let mut set = crate::testing::FILES.clone();
        set.file.retain(|file| file.name() == "kitchen.proto");
        std::fs::write(&path, prost::Message::encode_to_vec(&set)).unwrap();
        let said = load(&[], &[], &[path]).unwrap_err().to_string();
        assert!(
            said.contains("pantry.proto is imported") || said.contains("cellar.proto is imported"),
            "{said}"
        );
    }
}
