//! The numbers of workers, of their generations, and of programs.

use serde::{Deserialize, Serialize};

/// The pool's number of a worker. No other worker ever gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct WorkerId(pub(super) u64);

/// The pool's number of a program: of its load, and of what replaces it.
///
/// The host's calls and commands name a program by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct LoadId(pub(super) u64);

/// A worker's own number of a program that it has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkerTarget(pub(super) u64);

/// The number of a replacement; the workers that were started for it have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(pub(super) u64);
