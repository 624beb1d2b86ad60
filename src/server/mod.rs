//! A server for axum and tonic alike that ends in bounded time (feature `axum`).
//!
//! [`serve`] takes axum's `Router`, which a gRPC service becomes by tonic's
//! `Routes::into_axum_router`. [`GracefulShutdown`] says when it ends and how long that may take, and
//! [`ServeReport`] how it ended.

mod connections;
#[cfg(feature = "_host")]
mod host;
mod report;
mod reset_count;
mod send_progress;
mod serve;
mod shutdown;
mod socket;
mod socket_body;
mod stream_executor;

pub use self::{
    report::ServeReport,
    serve::{Server, serve},
    shutdown::GracefulShutdown,
};
