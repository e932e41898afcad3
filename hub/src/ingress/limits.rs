//! What one client may take of the hub: connections and calls, counted by its name or else by its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use adit_certs::ClientName;
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::principal::Principal;

/// Connections of clients at once. Further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 16_384;

/// Connections of one client at once: a further one is closed with GOAWAY ENHANCE_YOUR_CALM.
pub const MAX_CONNECTIONS_PER_CLIENT: usize = 1024;

/// Calls of one client at once, over all of its connections: a further one fails.
pub const MAX_CALLS_PER_CLIENT: usize = 16_384;

/// TLS handshakes with clients under way at once: a further connection is closed.
pub const MAX_CLIENT_HANDSHAKES: usize = 2048;

/// A call that its client gives up within this time of making it, and before its response has begun, is a rapid reset.
/// Later than that, the limit of streams bounds what a client can ask of agents by giving calls up.
pub const RAPID: Duration = Duration::from_millis(100);

/// Rapid resets of one client at once, over all of its connections: all calls that it may have on four of them, so that a
/// client which gives up all of its calls at a time is not taken for an attacker.
pub const RAPID_RESETS: u32 = 4 * super::MAX_STREAMS;

/// Further rapid resets each second. Past them, a connection that makes one is closed.
pub const RAPID_RESETS_PER_SECOND: u32 = 1024;

/// How long the hub remembers a client that has made too many, once it has no connection left: longer than it takes until
/// it may make [`RAPID_RESETS`] again.
const REMEMBERED: Duration = Duration::from_secs(10);
const _: () = assert!(REMEMBERED.as_secs() > (RAPID_RESETS / RAPID_RESETS_PER_SECOND) as u64);

/// Clients that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// What clients may take of a hub. The default is made of the constants beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients at once, 1 or more; further ones wait in the system's queue.
    pub connections: usize,
    /// Connections of one client at once, which is one certificate's name, or else one IP address. While a
    /// connection's handshake is under way it counts for the address.
    pub connections_per_client: usize,
    /// Calls of one client at once, from a call's head until its response's end.
    pub calls_per_client: usize,
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// How old a connection gets, give or take a tenth, before its client is sent GOAWAY and makes its next calls on
    /// another one (gRPC proposal A9, without a bound for the calls that run); `None` for any age. It has clients
    /// spread over hubs again behind a balancer, and look at names again.
    pub connection_age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            connections_per_client: MAX_CONNECTIONS_PER_CLIENT,
            calls_per_client: MAX_CALLS_PER_CLIENT,
            handshakes: MAX_CLIENT_HANDSHAKES,
            connection_age: None,
        }
    }
}

/// All clients that have a connection or a call.
#[derive(Debug)]
pub(super) struct Clients {
    connections: usize,
    calls: usize,
    accounts: Mutex<HashMap<Key, Weak<Account>>>,
    /// Rapid resets of clients that have made too many, and when that was.
    remembered: Mutex<HashMap<Key, (Instant, Arc<Bucket>)>>,
}

/// A client that has taken all that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) limit: usize,
}

/// One connection of a client, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connected(Arc<Account>);

/// One call of a client, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Account>);

/// Whom connections and calls count for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Name(ClientName),
    Address(IpAddr),
}

/// What a client has at this moment. Listed for as long as a connection or a call holds it.
#[derive(Debug)]
struct Account {
    key: Key,
    clients: Arc<Clients>,
    connections: AtomicUsize,
    calls: AtomicUsize,
    rapid_resets: Arc<Bucket>,
}

impl Clients {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: limits.connections_per_client,
            calls: limits.calls_per_client,
            accounts: Mutex::default(),
            remembered: Mutex::default(),
        })
    }

    /// Counts a connection.
    pub(super) fn connect(self: &Arc<Self>, principal: &Principal) -> Result<Connected, Full> {
        let account = self.account(principal);
        match take(&account.connections, self.connections) {
            Ok(()) => Ok(Connected(account)),
            Err(full) => Err(full),
        }
    }

    fn account(self: &Arc<Self>, principal: &Principal) -> Arc<Account> {
        let key = match &principal.name {
            Some(name) => Key::Name(name.clone()),
            None => Key::Address(principal.address),
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(&key).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            key: key.clone(),
            clients: Arc::clone(self),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            rapid_resets: self.recall(&key),
        });
        accounts.insert(key, Arc::downgrade(&account));
        account
    }

    /// What a client may still make of rapid resets.
    fn recall(&self, key: &Key) -> Arc<Bucket> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        match remembered.get(key) {
            Some((_, bucket)) => Arc::clone(bucket),
            None => Arc::new(Bucket::new(RAPID_RESETS, RAPID_RESETS_PER_SECOND)),
        }
    }

    fn remember(&self, account: &Account) {
        let now = Instant::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, _)) = remembered.get_mut(&account.key) {
            *since = now;
            return;
        }
        remembered.retain(|_, (since, _)| now.duration_since(*since) < REMEMBERED);
        if remembered.len() < MAX_REMEMBERED {
            remembered.insert(account.key.clone(), (now, Arc::clone(&account.rapid_resets)));
        }
    }
}

impl Connected {
    /// Counts a rapid reset; false if it is one too many.
    pub(super) fn reset_rapidly(&self) -> bool {
        let within = self.0.rapid_resets.take();
        if !within {
            self.0.clients.remember(&self.0);
        }
        within
    }

    /// Counts a call.
    pub(super) fn begin(&self) -> Result<Running, Full> {
        take(&self.0.calls, self.0.clients.calls).map(|()| Running(Arc::clone(&self.0)))
    }
}

/// One more, where the limit leaves room.
fn take(count: &AtomicUsize, limit: usize) -> Result<(), Full> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit).then_some(count + 1)
        })
        .map_or(Err(Full { limit }), |_| Ok(()))
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut accounts = self
            .clients
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A later account of the same client may be listed in its place already.
        if accounts
            .get(&self.key)
            .is_some_and(|listed| listed.strong_count() == 0)
        {
            accounts.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
