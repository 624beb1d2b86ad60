//! Our layers in servers: axum, tonic, and in one stack with tower's and tower-http's layers.

mod client_gone;
mod headers;
mod in_axum;
mod in_tonic;
mod outbound;
mod predict;
mod respond;
mod serve;
mod support;
