//! Anything in a schema by its name, for somebody who looks around.

use prost_reflect::DescriptorPool;
use tonic::metadata::MetadataMap;

use super::reflection::Reflection;
use super::symbol::{self, Symbol};
use super::{Files, ResolveError, SchemaError, Sources};
use crate::connection::Connection;

/// How many services are looked through for what may have been meant.
const SERVICES_SEARCHED: usize = 100;

/// Finds what a name stands for, in files and then by asking a server.
pub struct Explorer<'a> {
    sources: &'a Sources,
    reflection: Reflection,
}

impl Sources {
    /// What a name stands for in the files given; no server is asked.
    ///
    /// # Errors
    ///
    /// The files are no schema; or they do not have the name, and nobody else is to be asked.
    pub fn symbol(&self, name: &str) -> Result<Option<Symbol>, ResolveError> {
        let name = symbol::plain(name);
        let pool = self.pool(&name)?;
        match pool.as_ref().and_then(|pool| Symbol::of(pool, &name)) {
            None if self.without_reflection => Err(unknown(&name, pool, |_| true)),
            found => Ok(found),
        }
    }

    /// All services in the files given.
    ///
    /// # Errors
    ///
    /// The files are no schema.
    pub fn services(&self) -> Result<Vec<Symbol>, ResolveError> {
        let pool = self.pool("the files given")?.unwrap_or_default();
        Ok(pool.services().map(Symbol::Service).collect())
    }

    /// True if a server may be asked.
    pub fn has_reflection(&self) -> bool {
        !self.without_reflection
    }

    fn pool(&self, wanted: &str) -> Result<Option<DescriptorPool>, ResolveError> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        let mut all = Files::default();
        let made = all.add_all(files).and_then(|()| all.into_pool_with_options());
        made.map(Some).map_err(|source| unusable(wanted, source))
    }
}

impl<'a> Explorer<'a> {
    /// Asks the server with this metadata, so that a hub asks the agent that is meant.
    pub fn new(sources: &'a Sources, connection: &Connection, metadata: MetadataMap) -> Self {
        Self {
            sources,
            reflection: Reflection::new(connection, metadata),
        }
    }

    /// What a name stands for: of a service, a method, a message, a field, an enum or one of its values,
    /// an extension, or a file.
    ///
    /// # Errors
    ///
    /// There is none of that name, with what may have been meant; or it cannot be found out.
    pub async fn symbol(&mut self, name: &str) -> Result<Symbol, ResolveError> {
        if let Some(symbol) = self.sources.symbol(name)? {
            return Ok(symbol);
        }
        let name = symbol::plain(name);
        let asked = match name.ends_with(".proto") {
            true => self.reflection.file(&name).await,
            false => self.reflection.symbol(&name).await,
        };
        let files = match (asked, name.rsplit_once('.')) {
            // Not all servers know of methods and fields.
            (Err(error), Some((parent, _))) if is_unknown(&error) => {
                match self.reflection.symbol(parent).await {
                    Err(other) if is_unknown(&other) => return self.among_services(&name, error).await,
                    files => files?,
                }
            }
            (Err(error), None) if is_unknown(&error) => return self.among_services(&name, error).await,
            (files, _) => files?,
        };
        let pool = self.pool(&name, files)?;
        match Symbol::of(&pool, &name) {
            Some(symbol) => Ok(symbol),
            None => Err(unknown(&name, Some(pool), |_| false)),
        }
    }

    /// All services: those in the files given, and those that the server says it has.
    ///
    /// # Errors
    ///
    /// The server does not say, or describes one in a way that cannot be used.
    pub async fn services(&mut self) -> Result<Vec<Symbol>, ResolveError> {
        let mut services = Vec::new();
        for name in self.reflection.services().await? {
            services.push(self.symbol(&name).await?);
        }
        Ok(services)
    }

    fn pool(&self, wanted: &str, mut files: Files) -> Result<DescriptorPool, ResolveError> {
        let whole = match &self.sources.files {
            Some(given) => files.add_all(given),
            None => Ok(()),
        };
        whole
            .and_then(|()| files.into_pool_with_options())
            .map_err(|source| unusable(wanted, source))
    }

    /// Looks for a name that the server does not know in all that its services come to.
    async fn among_services(&mut self, name: &str, error: ResolveError) -> Result<Symbol, ResolveError> {
        let Ok(available) = self.reflection.services().await else {
            return Err(error);
        };
        let mut all = Files::default();
        for service in available.iter().take(SERVICES_SEARCHED) {
            // One that cannot be described has nothing that was meant.
            if let Ok(files) = self.reflection.symbol(service).await {
                all.add_all(&files).map_err(|source| unusable(name, source))?;
            }
        }
        let pool = self.pool(name, all)?;
        Symbol::of(&pool, name).ok_or_else(|| ResolveError::UnknownSymbol {
            symbol: name.to_owned(),
            nearest: symbol::nearest(&pool, name),
            available,
        })
    }
}

/// True if the server has said that it knows no such name.
fn is_unknown(error: &ResolveError) -> bool {
    matches!(
        error,
        ResolveError::UnknownService { .. } | ResolveError::Refused { .. }
    )
}

fn unknown(name: &str, pool: Option<DescriptorPool>, lists: impl Fn(&str) -> bool) -> ResolveError {
    let pool = pool.unwrap_or_default();
    let services = pool.services().map(|service| service.full_name().to_owned());
    ResolveError::UnknownSymbol {
        symbol: name.to_owned(),
        nearest: symbol::nearest(&pool, name),
        available: services.filter(|name| lists(name)).collect(),
    }
}

fn unusable(wanted: &str, source: SchemaError) -> ResolveError {
    ResolveError::Unusable {
        service: wanted.to_owned(),
        source,
    }
}
