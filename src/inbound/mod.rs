//! The entry of requests from axum and tonic, and the exit of errors as statuses.
//!
//! [`InboundLayer`](crate::InboundLayer) makes a request's context of its headers and its connection. The layers of this
//! crate raise errors, where a server wants responses: [`Serve`](crate::Serve) stands between, so that they fit
//! axum's `Router::layer` and tonic's `Server::layer`. Which error becomes which status is
//! defined once, in [`respond`].

#[cfg(feature = "axum")]
pub mod axum;
mod body;
#[cfg(feature = "axum")]
pub(crate) mod body_deadline;
mod client_gone;
mod grpc;
pub(crate) mod layer;
mod protocol;
pub mod respond;
pub(crate) mod serve;
#[cfg(feature = "tonic")]
pub mod tonic;

pub use body::OrErrorBody;
pub use client_gone::ClientGuard;
pub use layer::{Inbound, InboundBody};
pub use protocol::Protocol;
pub use serve::Served;
