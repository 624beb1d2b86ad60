//! The first frame to a Python process: what it needs to become a worker or a zygote.

use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The handshake's message.
#[derive(Debug, Serialize)]
pub(super) struct Hello<'a> {
    /// The process is to fork workers, rather than be one.
    pub(super) zygote: bool,
    pub(super) bootstrap: &'a str,
    pub(super) modules: Map<String, Value>,
    pub(super) python_path: &'a [PathBuf],
    pub(super) sync_threads: usize,
    /// In bytes, of each worker.
    pub(super) memory_limit: Option<u64>,
    pub(super) parent: u32,
}
