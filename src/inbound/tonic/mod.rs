#![doc = include_str!("guide.md")]

mod health;
mod programs;

pub use self::{health::health, programs::Programs};
use crate::proto;

use tonic_reflection::server::{
    Builder,
    v1::{ServerReflection, ServerReflectionServer},
};

/// Answers `grpc.reflection.v1.ServerReflection`, which tools such as `grpcurl` ask for what a server
/// has, with [`proto::v1`] and the health service.
///
/// For services of your own beside them, take tonic-reflection's `Builder` and give it
/// [`proto::FILE_DESCRIPTOR_SET`] too.
///
/// # Errors
/// If the descriptors cannot be read, which a test of this crate sees to.
pub fn reflection()
-> Result<ServerReflectionServer<impl ServerReflection>, tonic_reflection::server::Error> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}
