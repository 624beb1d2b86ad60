//! The gRPC service of a program, as it is on the wire (feature `tonic`).
//!
//! [`v1`] is what the generators of tonic and prost make of `predict.proto`, which is
//! [`PREDICT_PROTO`] and lies in this folder of the source, for clients in other languages. It is
//! checked in: nobody needs `protoc`.

mod classify;
mod convert;
mod details;
mod event;
mod json;
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub)]
pub mod v1;

use std::fmt;

pub(crate) use convert::{from_response, to_response};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use details::read_status_bytes;
pub(crate) use details::{Facts, StatusDetails, retry_after, status, write_call_id};
pub(crate) use event::{from_event, to_event};
pub use json::{MAX_DEPTH, StructError, from_struct, to_struct};

/// The descriptors of [`v1`] and of what it imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("predict.binpb");

/// The source of [`v1`], for clients in other languages.
pub const PREDICT_PROTO: &str = include_str!("predict.proto");

/// Names the fields only: a prompt must not reach a log by accident.
impl fmt::Debug for v1::PredictRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictRequest")
            .field("program", &self.program)
            .field("inputs", &names(self.inputs.as_ref()))
            .field("lm", &self.lm)
            .field("tenant", &self.tenant)
            .finish()
    }
}

/// Names the fields only, as with the request.
impl fmt::Debug for v1::PredictResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictResponse")
            .field("outputs", &names(self.outputs.as_ref()))
            .field("usage", &self.usage)
            .field("lm_calls", &self.lm_calls)
            .finish_non_exhaustive()
    }
}

fn names(fields: Option<&prost_types::Struct>) -> Vec<&String> {
    fields.map_or_else(Vec::new, |fields| fields.fields.keys().collect())
}
