//! The programs of one worker.

use std::{collections::BTreeMap, time::Duration};

use super::{
    backoff::Backoff,
    numbers::{Generation, LoadId, WorkerTarget},
};
use crate::host::core::fault::Fault;

/// Why a worker has no program that it was not given.
pub(super) const UNKNOWN: &str = "none of that name";

/// The programs that one worker was given.
pub(super) struct WorkerPrograms {
    pub(super) generation: Generation,
    programs: BTreeMap<LoadId, WorkerProgram>,
}

/// A program in one worker.
enum WorkerProgram {
    /// The worker has not answered.
    Loading,
    /// The worker has its own number of it.
    Loaded(WorkerTarget),
    /// The worker could not load it, though others could.
    Lacking {
        fault: Fault,
        backoff: Backoff,
        is_retrying: bool,
    },
}

impl WorkerPrograms {
    pub(super) const fn new(generation: Generation) -> Self {
        Self {
            generation,
            programs: BTreeMap::new(),
        }
    }

    pub(super) fn begin(&mut self, load: LoadId) {
        self.programs.insert(load, WorkerProgram::Loading);
    }

    pub(super) fn is_loading(&self, load: LoadId) -> bool {
        matches!(self.programs.get(&load), Some(WorkerProgram::Loading))
    }

    /// The programs that it has not answered.
    pub(super) fn loading(&self) -> impl Iterator<Item = LoadId> {
        let loads = self.programs.keys().copied();
        loads.filter(|load| self.is_loading(*load))
    }

    /// Whether it has loaded the program, or failed to.
    pub(super) fn has_answered(&self, load: LoadId) -> bool {
        self.programs.contains_key(&load) && !self.is_loading(load)
    }

    /// The worker's number of a program, or why it has none.
    pub(super) fn target(&self, load: LoadId) -> Result<WorkerTarget, &str> {
        match self.programs.get(&load) {
            Some(WorkerProgram::Loaded(target)) => Ok(*target),
            Some(WorkerProgram::Lacking { fault, .. }) => Err(&fault.message),
            Some(WorkerProgram::Loading) | None => Err(UNKNOWN),
        }
    }

    /// The worker has answered. Returns the failures before.
    pub(super) fn answered(&mut self, load: LoadId, target: Option<WorkerTarget>) -> Backoff {
        let before = match target {
            Some(target) => self.programs.insert(load, WorkerProgram::Loaded(target)),
            None => self.programs.remove(&load),
        };
        match before {
            Some(WorkerProgram::Lacking { backoff, .. }) => backoff,
            _ => Backoff::default(),
        }
    }

    /// The worker serves without a program, and tries it again after a pause.
    pub(super) fn lack(&mut self, load: LoadId, fault: Fault, mut backoff: Backoff, now: Duration) {
        backoff.failed(now);
        let lacking = WorkerProgram::Lacking {
            fault,
            backoff,
            is_retrying: false,
        };
        self.programs.insert(load, lacking);
    }

    /// Begins the tries whose pause is over; returns their programs.
    pub(super) fn begin_retries(&mut self, now: Duration) -> Vec<LoadId> {
        let mut begun = Vec::new();
        for (load, program) in &mut self.programs {
            if let WorkerProgram::Lacking {
                backoff,
                is_retrying: is_retrying @ false,
                ..
            } = program
                && backoff.is_over(now)
            {
                *is_retrying = true;
                begun.push(*load);
            }
        }
        begun
    }

    /// Removes a program; returns the worker's number of it, if it has loaded it.
    pub(super) fn remove(&mut self, load: LoadId) -> Option<WorkerTarget> {
        match self.programs.remove(&load) {
            Some(WorkerProgram::Loaded(target)) => Some(target),
            _ => None,
        }
    }
}
