//! Where a method's description comes from: files, the server itself by reflection, and what reflection
//! said a while ago.

mod bundled;
mod cache;
mod editions;
mod explore;
mod files;
mod local;
mod reflection;
mod symbol;

use std::path::PathBuf;

use prost_reflect::MethodDescriptor;
use tonic::metadata::MetadataMap;

use crate::connection::Connection;
use crate::status::{Failure, printable};
use crate::suggest;
use crate::target::MethodName;
pub use cache::{Cache, MAX_AGE as CACHE_MAX_AGE};
pub use explore::Explorer;
pub(crate) use files::Files;
pub use files::SchemaError;
#[cfg(test)]
pub(crate) use local::DescriptorSet;
pub use local::LocalError;
use reflection::Reflection;
pub use symbol::Symbol;

/// How many names of what there is an error lists.
const NAMES_LISTED: usize = 50;

/// Where descriptions may come from, in the order in which they are asked: files, then the cache, then
/// the server.
#[derive(Default)]
pub struct Sources {
    files: Option<Files>,
    cache: Option<Cache>,
    without_reflection: bool,
}

impl Sources {
    /// The server, by reflection.
    pub fn reflection() -> Self {
        Self::default()
    }

    /// Reads `.proto` files and descriptor sets. Imports are looked for in `import_paths`, then beside
    /// the file.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or the files are no schema.
    pub fn with_files(
        mut self,
        protos: &[PathBuf],
        import_paths: &[PathBuf],
        descriptor_sets: &[PathBuf],
    ) -> Result<Self, LocalError> {
        if !protos.is_empty() || !descriptor_sets.is_empty() {
            self.files = Some(local::load(protos, import_paths, descriptor_sets)?);
        }
        Ok(self)
    }

    /// Keeps what reflection says.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<Cache>) -> Self {
        self.cache = cache;
        self
    }

    /// Never asks the server.
    #[must_use]
    pub fn without_reflection(mut self) -> Self {
        self.without_reflection = true;
        self
    }
}

/// What one call knows, and can learn, of its method.
pub struct Schema<'a> {
    sources: &'a Sources,
    entry: Option<cache::Entry>,
    reflection: Reflection,
}

/// How a description was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From files.
    Files,
    /// From what reflection said in an earlier call.
    Cache,
    /// From the server.
    Reflection,
}

/// Why a method cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such service.
    #[error("there is no service {service:?}{}", list("services", service, available))]
    UnknownService {
        /// The name asked for.
        service: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The service has no such method.
    #[error("{service} has no method {method:?}{}", list("methods", method, available))]
    UnknownMethod {
        /// The service.
        service: String,
        /// The name asked for.
        method: String,
        /// What it has.
        available: Vec<String>,
    },
    /// There is nothing of this name.
    #[error("there is no {symbol:?}{}{}", meant(nearest.as_deref()), services(available))]
    UnknownSymbol {
        /// The name asked for.
        symbol: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// The services that there are.
        available: Vec<String>,
    },
    /// The server does not describe its services.
    #[error(
        "the server does not offer reflection (neither grpc.reflection.v1 nor v1alpha), so nothing is known of {method}; \
         turn reflection on in the server, or describe the method with --proto or --descriptor-set"
    )]
    NoReflection {
        /// The method.
        method: String,
    },
    /// The files given do not describe the method, and the server was not to be asked.
    #[error("no file given describes {method}, and the server is not asked (--no-reflection)")]
    NotAsked {
        /// The method.
        method: String,
    },
    /// The server offers reflection, and refuses or breaks it for this question.
    #[error("reflection gave no description of {asked}: {}", printable(problem))]
    Refused {
        /// What was asked for: a service or a file.
        asked: String,
        /// What the server says, or what is wrong with its answer.
        problem: String,
    },
    /// The descriptions that came do not make a schema.
    #[error("the description of {service} cannot be used: {source}")]
    Unusable {
        /// The service.
        service: String,
        /// What is wrong with it.
        source: SchemaError,
    },
    /// The call by which the schema was asked for failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl<'a> Schema<'a> {
    /// Asks the server, where it does, with the metadata of the call, so that it is the same server.
    pub fn new(
        sources: &'a Sources,
        connection: &Connection,
        metadata: MetadataMap,
        name: &MethodName,
    ) -> Self {
        let entry = sources.cache.as_ref();
        let entry = entry.and_then(|cache| cache.entry(connection.origin(), &metadata, &name.service));
        Self {
            sources,
            entry,
            reflection: Reflection::new(connection, metadata),
        }
    }

    /// The method's description, and with it those of all messages that it can come to.
    pub async fn method(&mut self, name: &MethodName) -> Result<(MethodDescriptor, Origin), ResolveError> {
        if let Some(files) = &self.sources.files {
            let mut all = Files::default();
            all.add_all(files).map_err(|source| unusable(name, source))?;
            match method_in(all, name) {
                // What the files do not have, the server may.
                Err(ResolveError::UnknownService { .. }) if !self.sources.without_reflection => {}
                found => return found.map(|method| (method, Origin::Files)),
            }
        }
        if let Some(files) = self.entry.as_ref().and_then(cache::Entry::load)
            && let Ok(method) = self
                .completed(files, name)
                .and_then(|files| method_in(files, name))
        {
            return Ok((method, Origin::Cache));
        }
        self.learn(name).await.map(|method| (method, Origin::Reflection))
    }

    /// The method's description as the server gives it now.
    pub async fn learn(&mut self, name: &MethodName) -> Result<MethodDescriptor, ResolveError> {
        if self.sources.without_reflection {
            return Err(ResolveError::NotAsked {
                method: name.to_string(),
            });
        }
        self.forget();
        let learnt = self.reflection.service(name).await?;
        if let Some(entry) = &self.entry {
            entry.store(&learnt);
        }
        method_in(self.completed(learnt, name)?, name)
    }

    /// Drops what is in the cache, if it is wrong.
    pub fn forget(&self) {
        if let Some(entry) = &self.entry {
            entry.forget();
        }
    }

    /// What the server describes, and what else is in the files given: for messages in an `Any`.
    fn completed(&self, mut learnt: Files, name: &MethodName) -> Result<Files, ResolveError> {
        if let Some(files) = &self.sources.files {
            learnt.add_all(files).map_err(|source| unusable(name, source))?;
        }
        Ok(learnt)
    }
}

fn unusable(name: &MethodName, source: SchemaError) -> ResolveError {
    ResolveError::Unusable {
        service: name.service.clone(),
        source,
    }
}

fn method_in(files: Files, name: &MethodName) -> Result<MethodDescriptor, ResolveError> {
    let pool = files.into_pool().map_err(|source| unusable(name, source))?;
    let service = pool.get_service_by_name(&name.service);
    let service = service.ok_or_else(|| ResolveError::UnknownService {
        service: name.service.clone(),
        available: pool
            .services()
            .map(|service| service.full_name().to_owned())
            .collect(),
    })?;
    service
        .methods()
        .find(|method| method.name() == name.method)
        .ok_or_else(|| ResolveError::UnknownMethod {
            service: name.service.clone(),
            method: name.method.clone(),
            available: service.methods().map(|method| method.name().to_owned()).collect(),
        })
}

/// What may have been meant.
fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {}?", printable(name)),
        None => String::new(),
    }
}

/// The services that there are, where it is known.
fn services(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; the services are: {}", listed(names)),
    }
}

/// What there is, and what of it may have been meant.
fn list(what: &str, wanted: &str, names: &[String]) -> String {
    if names.is_empty() {
        return format!("; there are no {what} at all");
    }
    let hint = suggest::nearest(wanted, names.iter().map(String::as_str));
    let hint = hint.map_or_else(String::new, |name| format!("; did you mean {}?", printable(name)));
    format!("{hint}; the {what} are: {}", listed(names))
}

fn listed(names: &[String]) -> String {
    let listed: Vec<_> = names
        .iter()
        .take(NAMES_LISTED)
        .map(|name| printable(name))
        .collect();
    let more = match names.len().saturating_sub(NAMES_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", listed.join(", "))
}
