//! The limits after which a worker is replaced by a fresh one.

use std::{fs, time::Duration};

use crate::error::counted;

/// The limits of a worker's service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecycleLimits {
    /// Resident, in bytes.
    pub(super) max_memory: Option<u64>,
    pub(super) max_calls: Option<u64>,
    pub(super) max_age: Option<Duration>,
}

impl RecycleLimits {
    /// Why a worker is to be recycled, if it is.
    pub(super) fn reason(
        &self,
        age: Duration,
        given: u64,
        memory: impl FnOnce() -> Option<u64>,
    ) -> Option<String> {
        if self.max_age.is_some_and(|max| age >= max) {
            return Some(format!("its age of {age:?} is over the limit"));
        }
        if self.max_calls.is_some_and(|max| given >= max) {
            return Some(format!("it was given {}", counted(given, "call")));
        }
        let max = self.max_memory?;
        // A worker that has done nothing is as small as the next one would be.
        if given == 0 {
            return None;
        }
        let memory = memory()?;
        (memory > max).then(|| format!("its {} MiB of memory are over the limit", memory >> 20))
    }
}

/// The resident memory of a process, in bytes.
pub(super) fn resident_memory(pid: u32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = sizes.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
