//! What hub and agent agree on above the wire: the control plane as protobuf, how failures are told, labels, and what is
//! said before a raw TCP connection.
//!
//! The code under [`tunnel`] and [`hub`] is generated at build time from the files under `proto/`; nothing here knows about
//! sockets.

pub mod failure;
pub mod labels;
pub mod raw;

/// Version 1 of the control service that an agent serves to its hub.
pub mod tunnel {
    /// `adit.tunnel.v1`: the messages and stubs of `Agent`.
    #[allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("adit.tunnel.v1");
    }
}

/// Version 1 of the service that a hub has for its operator.
pub mod hub {
    /// `adit.hub.v1`: the messages and stubs of `Hub`.
    #[allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("adit.hub.v1");

        /// The schema of `adit.hub.v1` with all that it imports, as server reflection wants it: an encoded
        /// `google.protobuf.FileDescriptorSet`.
        pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("adit.hub.v1");
    }
}
