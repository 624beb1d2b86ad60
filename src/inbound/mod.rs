//! Where requests enter from axum and tonic, and where errors leave as statuses.
//!
//! The layers of this crate raise errors; a server wants responses. [`Serve`] stands between: our
//! layers fit axum's `Router::layer` and tonic's `Server::layer` through it. Which error becomes
//! which status is said once, in [`respond`].

pub mod respond;
mod serve;

pub use respond::{ErrorResponse, GrpcCode};
pub use serve::{Lift, LiftFuture, Serve, Served, ServedBody, ServedFuture};
