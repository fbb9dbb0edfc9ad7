//! Evergate's gRPC interface, generated from `proto/`. Nothing but generated code: what the
//! messages mean is written in the `.proto` files, and rules about them live where they are used.

/// `evergate.control.v1`: what a cluster agrees on, between its nodes and for its operators.
pub mod control {
    /// Version 1.
    #[expect(missing_docs, clippy::large_enum_variant, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("evergate.control.v1");
    }
}

/// `evergate.edge.v1`: between the edges of a cluster.
pub mod edge {
    /// Version 1.
    #[expect(missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("evergate.edge.v1");
    }
}

/// `evergate.publish.v1`: the publisher's side.
pub mod publish {
    /// Version 1.
    #[expect(missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("evergate.publish.v1");
    }
}

/// `evergate.raft.v1`: between the nodes of a control group.
pub mod raft {
    /// Version 1.
    #[expect(missing_docs, clippy::large_enum_variant, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("evergate.raft.v1");
    }
}

/// Descriptors of all the services here, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
