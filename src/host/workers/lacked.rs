//! The programs that a worker could not load, though others could.

use std::{collections::BTreeMap, time::Duration};

use super::{backoff::Backoff, numbers::LoadId};
use crate::host::core::fault::Fault;

/// The programs that one worker lacks, each to be loaded again after a pause.
#[derive(Default)]
pub(super) struct LackedPrograms(BTreeMap<LoadId, LackedProgram>);

struct LackedProgram {
    fault: Fault,
    backoff: Backoff,
    /// The worker has not answered the last try.
    is_retrying: bool,
}

impl LackedPrograms {
    pub(super) fn contains(&self, load: LoadId) -> bool {
        self.0.contains_key(&load)
    }

    pub(super) fn reason(&self, load: LoadId) -> Option<&str> {
        Some(&self.0.get(&load)?.fault.message)
    }

    /// A try to load the program has failed.
    pub(super) fn failed(&mut self, load: LoadId, fault: Fault, now: Duration) {
        let before = self.0.remove(&load);
        let mut backoff = before.map_or_else(Backoff::default, |before| before.backoff);
        backoff.failed(now);
        let lacked = LackedProgram {
            fault,
            backoff,
            is_retrying: false,
        };
        self.0.insert(load, lacked);
    }

    /// Begins the tries whose pause is over; returns their programs.
    pub(super) fn begin_retries(&mut self, now: Duration) -> impl Iterator<Item = LoadId> {
        let is_due =
            move |lacked: &LackedProgram| !lacked.is_retrying && lacked.backoff.is_over(now);
        let due = self.0.iter_mut().filter(move |(_, lacked)| is_due(lacked));
        due.map(|(load, lacked)| {
            lacked.is_retrying = true;
            *load
        })
    }

    /// The program was loaded, or is not to be loaded any more. Returns whether it was lacked.
    pub(super) fn remove(&mut self, load: LoadId) -> bool {
        self.0.remove(&load).is_some()
    }
}
