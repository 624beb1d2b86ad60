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
#[derive(Default)]
struct WorkerProgram {
    /// The worker was given it, and has not answered.
    is_loading: bool,
    /// The worker's own number of it, or why it could not load it though others could.
    answer: Option<Result<WorkerTarget, Fault>>,
    backoff: Backoff,
}

impl WorkerPrograms {
    pub(super) const fn new(generation: Generation) -> Self {
        Self {
            generation,
            programs: BTreeMap::new(),
        }
    }

    pub(super) fn begin(&mut self, load: LoadId) {
        self.programs.entry(load).or_default().is_loading = true;
    }

    pub(super) fn is_loading(&self, load: LoadId) -> bool {
        let program = self.programs.get(&load);
        program.is_some_and(|program| program.is_loading)
    }

    /// The programs that it has not answered.
    pub(super) fn loading(&self) -> impl Iterator<Item = LoadId> {
        let loads = self.programs.keys().copied();
        loads.filter(|load| self.is_loading(*load))
    }

    fn answer(&self, load: LoadId) -> Option<&Result<WorkerTarget, Fault>> {
        self.programs.get(&load)?.answer.as_ref()
    }

    /// Whether it has loaded the program, or failed to.
    pub(super) fn has_answered(&self, load: LoadId) -> bool {
        self.answer(load).is_some()
    }

    /// The worker's number of a program, or why it has none.
    pub(super) fn target(&self, load: LoadId) -> Result<WorkerTarget, &str> {
        match self.answer(load) {
            Some(Ok(target)) => Ok(*target),
            Some(Err(fault)) => Err(&fault.message),
            None => Err(UNKNOWN),
        }
    }

    /// The worker has answered, by its number of the program if it has loaded it.
    pub(super) fn answered(&mut self, load: LoadId, target: Option<WorkerTarget>) {
        let program = self.programs.entry(load).or_default();
        program.is_loading = false;
        program.answer = target.map(Ok);
    }

    /// The worker serves without a program, and tries it again after a pause.
    pub(super) fn lack(&mut self, load: LoadId, fault: Fault, now: Duration) {
        let program = self.programs.entry(load).or_default();
        program.answer = Some(Err(fault));
        program.backoff.failed(now);
    }

    /// Begins the tries whose pause is over; returns their programs.
    pub(super) fn begin_retries(&mut self, now: Duration) -> Vec<LoadId> {
        let programs = self.programs.iter_mut();
        let due = programs.filter(|(_, program)| {
            let is_lacking = matches!(program.answer, Some(Err(_)));
            is_lacking && !program.is_loading && program.backoff.is_over(now)
        });
        let begun = due.map(|(load, program)| {
            program.is_loading = true;
            *load
        });
        begun.collect()
    }

    /// Removes a program; returns the worker's number of it, if it has loaded it.
    pub(super) fn remove(&mut self, load: LoadId) -> Option<WorkerTarget> {
        self.programs.remove(&load)?.answer?.ok()
    }
}
