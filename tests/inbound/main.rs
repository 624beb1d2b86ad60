//! Our layers in servers: axum, tonic, and in one stack with tower's and tower-http's layers.

mod call_ids;
mod client_gone;
mod dockerfile;
mod generated;
mod grpc;
mod headers;
mod hostile;
mod http2;
mod in_axum;
mod in_tonic;
mod many;
mod metrics;
mod openapi;
mod outbound;
mod own_process;
mod predict;
mod raw;
mod respond;
mod serve;
mod served;
mod sigterm;
mod stream;
mod support;
mod trace;
