//! Our layers in servers: axum, tonic, and in one stack with tower's and tower-http's layers.

mod in_axum;
mod in_tonic;
mod respond;
mod support;
