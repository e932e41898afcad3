//! What `adit call` does, as a library: one gRPC call of any of the four kinds, of a method that is
//! known only by its name, against a hub or any other gRPC server.
//!
//! In the order of a call:
//!
//! - [`target`] and [`connection`]: where the server is, and one HTTP/2 connection to it ([`tls`]);
//! - [`metadata`]: what is sent beside the messages, routing included;
//! - [`schema`]: from a method's name to its descriptor, by files or asked of the server itself;
//! - [`source`]: a descriptor as proto source, to be read;
//! - [`template`]: an empty request to be filled in;
//! - [`input`] and [`codec`]: bytes from a file or a pipe, cut into messages as they arrive;
//! - [`call`]: opens the call, streams requests in and answers out ([`dynamic`] is what puts
//!   messages without generated code on the wire);
//! - [`status`]: a failure, in words for whoever has to act on it.

pub mod call;
pub mod codec;
pub mod connection;
pub mod dynamic;
pub mod input;
pub mod metadata;
pub mod schema;
pub mod source;
pub mod status;
pub mod suggest;
pub mod target;
pub mod template;
pub mod tls;

#[cfg(test)]
mod testing;

/// The largest message, in bytes, that is read from the input (in its textual form) or taken from
/// the wire: 64 MiB. One message of each direction is held in memory at a time.
pub const MAX_MESSAGE_SIZE: usize = 64 * 1024 * 1024;
