//! How the pool comes by its workers: forked from a zygote, or each started by itself.

use std::{io, time::Duration};

use super::{WorkerState, pool::Pool, process::Process, worker::Worker, zygote::Zygote};
use crate::host::{
    core::{clock, fault::Fault},
    start_error::StartError,
};

impl Pool {
    /// Starts workers until there are as many as there are to be.
    pub(super) fn fill(&mut self, now: Duration) {
        if self.stop_at.is_some() {
            return;
        }
        let next = self.generation + 1;
        let replacing = self.replacements.current.is_some();
        for (generation, wanted) in [
            (self.generation, self.wanted_now()),
            (next, if replacing { self.wanted } else { 0 }),
        ] {
            let counts = |(id, worker): &(&u64, &Worker)| {
                worker.generation == generation
                    && (matches!(worker.state, WorkerState::Starting | WorkerState::Ready)
                        || self.awaits_verdict(**id, worker))
            };
            let there = self.workers.iter().filter(counts).count();
            self.begin_workers(wanted.saturating_sub(there), generation, now);
        }
    }

    fn begin_workers(&mut self, mut missing: usize, generation: u64, now: Duration) {
        while missing > 0 && self.restart_at <= now {
            match self.begin_worker(generation) {
                Ok(true) => missing -= 1,
                // Once there is a zygote.
                Ok(false) => return,
                Err(error) => self.not_started(StartError::Interpreter {
                    reason: format!("`{}`: {error}", self.settings.python.display()),
                }),
            }
        }
    }

    /// Starts a worker; false if there is no zygote to fork it from yet.
    fn begin_worker(&mut self, generation: u64) -> io::Result<bool> {
        let id = self.next_process;
        let process = match &self.zygote {
            _ if !self.settings.fork => Process::spawn(&self.settings, id, &self.tell)?,
            Some(zygote) if zygote.warm => Process::fork(zygote, id, &self.tell)?,
            Some(_) => return Ok(false),
            None => {
                self.next_process += 1;
                self.zygote = Some(Zygote::start(&self.settings, id, &self.tell)?);
                return Ok(false);
            }
        };
        self.next_process += 1;
        self.workers.insert(id, Worker::new(process, generation));
        Ok(true)
    }

    pub(super) fn warm(&mut self, weaker: &[String]) {
        for weaker in weaker {
            tracing::warn!(target: "tower_dspy", "{weaker}");
        }
        if let Some(zygote) = &mut self.zygote {
            zygote.warm = true;
        }
        self.fill(clock::now());
        self.publish();
    }

    /// It may not fork, though it could import DSPy.
    pub(super) fn cannot_fork(&mut self, reason: &str) {
        tracing::warn!(
            target: "tower_dspy",
            reason,
            "workers are not forked: each is started by itself, and takes as long as an import of DSPy"
        );
        self.settings.fork = false;
        self.fill(clock::now());
    }

    /// A process could not import DSPy. It ends by itself.
    pub(super) fn unusable(&mut self, fault: Fault) {
        self.not_started(StartError::Python {
            python_type: fault.python_type,
            message: fault.message,
            traceback: fault.traceback,
        });
    }

    /// The zygote has ended, and what it had forked ends with it.
    pub(super) fn zygote_ended(&mut self, how: &str) {
        let Some(zygote) = self.zygote.take() else {
            return;
        };
        if self.stop_at.is_some() || !self.settings.fork {
            return;
        }
        let said = zygote.last_words();
        if zygote.warm {
            tracing::error!(
                target: "tower_dspy",
                pid = zygote.pid,
                how,
                "the process that workers are forked from is lost, and they with it"
            );
            self.pause();
        } else {
            self.not_started(StartError::Interpreter {
                reason: format!("no worker could be started: {how}{said}"),
            });
        }
    }
}
