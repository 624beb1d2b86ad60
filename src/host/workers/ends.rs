//! What the pool does when a worker ends, and when one does not start.

use std::{mem, time::Duration};

use super::{
    Told, WorkerState, fault,
    pool::Pool,
    process::HUNG_UP,
    worker::{InFlight, Worker},
};
use crate::host::{
    core::{
        clock,
        fault::{Fault, FaultKind},
    },
    start_error::StartError,
};

/// The first pause before a start that failed is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A worker that lived as long ended of something else than its start.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

impl Pool {
    pub(super) fn hear(&mut self, id: u64, told: Told) {
        match told {
            Told::Begun => self.publish(),
            Told::Warm(weaker) => self.warm(&weaker),
            Told::CannotFork(reason) => self.cannot_fork(&reason),
            Told::Unusable(fault) => self.unusable(fault),
            Told::Said(said, tail) => self.said(id, said, &tail),
            Told::Broken(how) => {
                // Mostly because it has ended, and that is about to be told.
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.state = WorkerState::Ending;
                    if how != HUNG_UP {
                        worker.verdict.get_or_insert(how);
                    }
                    worker.process.kill();
                    self.fill(clock::now());
                    self.publish();
                }
            }
            Told::Ended(how) => {
                if let Some(worker) = self.workers.remove(&id) {
                    self.ended(id, worker, &how);
                    self.load_in_new();
                } else if self.zygote.as_ref().is_some_and(|zygote| zygote.id == id) {
                    self.zygote_ended(&how);
                }
            }
        }
    }

    fn ended(&mut self, id: u64, mut worker: Worker, how: &str) {
        let pid = worker.process.pid();
        let why = worker.verdict.take().unwrap_or_else(|| how.to_owned());
        let reason = match pid {
            Some(pid) => format!("the worker process {pid} is gone: {why}"),
            None => format!("a worker process was not started: {why}"),
        };
        for open in mem::take(&mut worker.exchanges).into_values() {
            self.exchanges.remove(&open.id);
            open.abort.abort();
        }
        let calls = mem::take(&mut worker.calls);
        let lost = calls.len();
        for (call, in_flight) in calls {
            self.calls.remove(&call);
            self.lost(in_flight, &reason);
        }
        if self.stop_at.is_some() {
            self.publish();
            return;
        }
        if worker.is_dismissed() {
            // Others never came to work.
            let served = worker.ready_since != Duration::ZERO;
            self.counts.recycled.add(served.into());
            self.excuse(id);
            self.publish();
            return;
        }
        self.counts.lost.add(1);
        tracing::warn!(target: "tower_dspy", pid, %why, calls = lost, "a worker is lost");
        self.not_loaded(id, &reason);
        if worker.generation > self.generation {
            self.replacement_failed(fault(&reason));
        } else if self.started.is_some() {
            let said = worker.process.last_words();
            self.not_started(StartError::Interpreter {
                reason: format!("{reason}{said}"),
            });
        } else if worker.ready_since == Duration::ZERO
            || clock::now().saturating_sub(worker.ready_since) < LONG_ENOUGH && lost == 0
        {
            // It did not come to work.
            self.pause();
        } else {
            self.failures = 0;
        }
        self.fill(clock::now());
        self.publish();
    }

    /// All work of a call went with its worker.
    fn lost(&self, call: InFlight, reason: &str) {
        let running = call.running;
        running.state.close_exchanges();
        let fault = if running.state.is_cancelled() {
            Fault {
                kind: FaultKind::Cancelled,
                ..Fault::new("", reason)
            }
        } else {
            fault(reason)
        };
        if !call.resolved {
            self.counts.calls_lost.add(1);
        }
        running.finish(Err(fault));
    }

    pub(super) fn pause(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        self.restart_at = clock::now() + pause.min(LONGEST_PAUSE);
    }

    /// A worker could not be started: the end of a pool that starts, and no more than a pause of
    /// one that works.
    pub(super) fn not_started(&mut self, error: StartError) {
        if let Some(started) = self.started.take() {
            // Nobody may wait for it any more; the pool ends all the same.
            let _ = started.send(Err(error));
            self.core.queue.stop(Duration::ZERO);
            return;
        }
        if self.stop_at.is_none() {
            tracing::error!(target: "tower_dspy", %error, "a worker was not started");
            self.pause();
        }
    }

    /// Says that the pool has started, once it has.
    pub(super) fn started_if_full(&mut self) {
        let ready = self.workers.values();
        let ready = ready.filter(|worker| worker.state == WorkerState::Ready);
        if ready.count() >= self.wanted
            && let Some(started) = self.started.take()
            && started.send(Ok(())).is_err()
        {
            // Whoever asked gave up, and nobody else can reach this pool.
            self.core.queue.stop(Duration::ZERO);
        }
    }
}
