//! Where a method's description comes from. Today the server itself, by reflection; `.proto` files
//! and descriptor sets are further variants of [`Schema`].

mod editions;
mod files;
mod reflection;

use prost_reflect::MethodDescriptor;
use tonic::metadata::MetadataMap;

use crate::connection::Connection;
use crate::status::{Failure, printable};
use crate::target::MethodName;
#[cfg(test)]
pub(crate) use files::Files;
pub use files::SchemaError;
use reflection::Reflection;

/// How many names of what there is an error lists.
const NAMES_LISTED: usize = 50;

/// A source of descriptions.
pub struct Schema(Source);

enum Source {
    Reflection(Reflection),
}

/// Why a method cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such service.
    #[error("there is no service {service:?}{}", list("services", available))]
    UnknownService {
        /// The name asked for.
        service: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The service has no such method.
    #[error("{service} has no method {method:?}{}", list("methods", available))]
    UnknownMethod {
        /// The service.
        service: String,
        /// The name asked for.
        method: String,
        /// What it has.
        available: Vec<String>,
    },
    /// The server does not describe its services.
    #[error(
        "the server does not offer reflection (neither grpc.reflection.v1 nor v1alpha), so nothing is known of {method}; \
         turn reflection on in the server"
    )]
    NoReflection {
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
    #[error("the server's description of {service} cannot be used: {source}")]
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

impl Schema {
    /// Asks the server, with the metadata of the call, so that it is the same server.
    pub fn reflected(connection: &Connection, metadata: MetadataMap) -> Self {
        Self(Source::Reflection(Reflection::new(connection, metadata)))
    }

    /// The method's description, and with it those of all messages that it can come to.
    pub async fn method(&mut self, name: &MethodName) -> Result<MethodDescriptor, ResolveError> {
        let service = match &mut self.0 {
            Source::Reflection(reflection) => reflection.service(name).await?,
        };
        service
            .methods()
            .find(|method| method.name() == name.method)
            .ok_or_else(|| ResolveError::UnknownMethod {
                service: name.service.clone(),
                method: name.method.clone(),
                available: service.methods().map(|method| method.name().to_owned()).collect(),
            })
    }
}

fn list(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return format!("; there are no {what} at all");
    }
    let listed: Vec<_> = names
        .iter()
        .take(NAMES_LISTED)
        .map(|name| printable(name))
        .collect();
    let more = match names.len().saturating_sub(NAMES_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; the {what} are: {}{more}", listed.join(", "))
}
