//! The supervision of workers: their start and their exit. Their programs are in
//! `program_supervision.rs`.
//!
//! The supervisor applies what the scheduler, the lifecycle and the programs return. Each of them
//! keeps its own part of a worker under the worker's id: its calls, its life, its programs; the
//! table keeps the process. A worker enters the table, the lifecycle and the programs in `fill`, the
//! scheduler with its first call. It leaves them in `on_exit`, but the programs as soon as it is
//! discarded, and not at all if the pool stops.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    life::{LifecycleAction, WorkerAction},
    lifecycle::{Lifecycle, WorkerExitKind},
    lost_calls::{end_call, exit_reason, worker_fault},
    numbers::WorkerId,
    process::{EventSender, ExecSpawner, ForkSpawner, ProcessEvent, SpawnSettings, Spawner},
    recycle::resident_memory,
    requests::PoolPrograms,
    scheduler::Scheduler,
    settings::{TimeLimits, Workers},
    stats::{EndedWorker, SharedStats},
    wire::{FromZygote, ToWorker},
    worker::{Worker, WorkerTable},
};
use crate::{
    host::{
        core::{clock, fault::Fault, host_core::HostCore, running_call::RunningCall},
        start_error::StartError,
    },
    telemetry::metrics,
};

/// The supervisor of a pool's workers.
pub(super) struct Supervisor {
    pub(super) core: HostCore,
    stats: Arc<SharedStats>,
    pub(super) scheduler: Scheduler<RunningCall>,
    pub(super) lifecycle: Lifecycle,
    pub(super) programs: PoolPrograms,
    pub(super) workers: WorkerTable,
    last_worker: u64,
    pub(super) time_limits: TimeLimits,
    pub(super) spawner: Box<dyn Spawner>,
    spawn_settings: SpawnSettings,
    events: EventSender,
    /// Sent to once all workers are ready, or one cannot be started.
    pub(super) starting: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl Supervisor {
    pub(super) fn new(
        core: HostCore,
        settings: Workers,
        stats: Arc<SharedStats>,
        events: EventSender,
        starting: oneshot::Sender<Result<(), StartError>>,
    ) -> Self {
        Self {
            core,
            stats,
            scheduler: Scheduler::default(),
            lifecycle: Lifecycle::new(settings.workers, settings.overdue, settings.recycle),
            programs: PoolPrograms::default(),
            workers: WorkerTable::new(),
            last_worker: 0,
            time_limits: TimeLimits {
                start: settings.start_limit,
                load: settings.spawn.load_limit,
            },
            spawner: if settings.fork {
                Box::new(ForkSpawner::default())
            } else {
                Box::new(ExecSpawner)
            },
            spawn_settings: settings.spawn,
            events,
            starting: Some(starting),
        }
    }

    /// Whether the pool stops and no worker is left. Ends the zygote then.
    pub(super) fn has_stopped(&mut self) -> bool {
        if !self.lifecycle.is_stopping() || !self.workers.is_empty() {
            return false;
        }
        self.spawner.stop();
        self.spawner.zygote_pid().is_none()
    }

    /// Cancels all calls and ends all workers, within `grace`.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.programs.stop();
        for running in self.scheduler.calls() {
            running.state.cancel(None);
        }
        let actions = self.lifecycle.stop(grace, clock::now());
        self.apply_lifecycle_actions(actions);
        self.publish();
    }

    /// The connection to a worker is broken: by a malformed frame, which is the verdict, or because
    /// the worker closed it. Mostly the worker has exited: that is its next event.
    pub(super) fn on_broken(&mut self, worker: WorkerId, verdict: Option<String>) {
        self.lifecycle.broken(worker, verdict, clock::now());
        self.kill(worker);
    }

    /// Ends a worker that is not needed any more.
    pub(super) fn discard(&mut self, worker: WorkerId) {
        self.lifecycle.discard(worker, clock::now());
        self.kill(worker);
    }

    pub(super) fn kill(&self, worker: WorkerId) {
        if let Some(worker) = self.workers.get(&worker) {
            worker.link.kill();
        }
    }

    /// Handles the exit of a worker: its calls, its loads, and another in its place.
    pub(super) fn on_exit(&mut self, id: WorkerId, how: String) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        let given = self.scheduler.workload(id, clock::now()).given;
        let lost = self.scheduler.exited(id);
        let calls = lost.len();
        let is_new = self.programs.is_replacing(id);
        let counts_as_start = self.starting.is_none() && !is_new;
        let exit = self
            .lifecycle
            .exited(id, given, counts_as_start, clock::now());
        let Some(exit) = exit else {
            return;
        };
        let pid = worker.link.pid();
        let why = exit.verdict.unwrap_or(how);
        let reason = exit_reason(pid, &why);
        self.stats.update(|stats| {
            let unresolved = lost.iter().filter(|lost| !lost.is_resolved);
            stats.calls_lost += unresolved.count() as u64;
            match exit.kind {
                WorkerExitKind::Stopped => {}
                WorkerExitKind::Dismissed { served } => stats.recycled += u64::from(served),
                WorkerExitKind::Lost { .. } => stats.lost += 1,
            }
            if exit.kind != WorkerExitKind::Stopped {
                let reason = why.clone();
                let at = Instant::now();
                stats.push_ended(EndedWorker { pid, at, reason });
            }
        });
        match exit.kind {
            WorkerExitKind::Dismissed { served: true } => metrics::worker_restarted("recycled"),
            WorkerExitKind::Lost { overdue: true } => metrics::worker_restarted("overdue"),
            WorkerExitKind::Lost { overdue: false } => metrics::worker_restarted("lost"),
            _ => {}
        }
        // Before the answers: a caller that has one finds the exit in the stats.
        self.publish();
        for lost in lost {
            end_call(&lost.call, &reason);
        }
        match exit.kind {
            WorkerExitKind::Stopped => {}
            WorkerExitKind::Dismissed { .. } => {
                let actions = self.programs.forget(id);
                self.apply_program_actions(actions);
            }
            WorkerExitKind::Lost { .. } => {
                tracing::warn!(target: "tower_dspy", pid, %why, calls, "a worker is lost");
                let actions = self.programs.lost(id, &worker_fault(&reason));
                self.apply_program_actions(actions);
                if self.starting.is_some() && !is_new {
                    let reason = format!("{reason}{}", worker.link.last_lines());
                    self.start_failed(StartError::interpreter(reason));
                }
            }
        }
        self.fill();
        self.publish();
    }

    /// Handles an event of the zygote.
    pub(super) fn on_zygote(&mut self, event: ProcessEvent<FromZygote>) {
        let Some(zygote) = self.spawner.zygote() else {
            return;
        };
        let message = match event {
            ProcessEvent::Message(message, _) => message,
            ProcessEvent::Broken(_) => return zygote.link.kill(),
            ProcessEvent::Exited(how) => return self.on_zygote_exit(&how),
        };
        match message {
            FromZygote::Warm { weaker } => {
                zygote.is_warm = true;
                warn_of(&weaker);
                self.fill();
            }
            FromZygote::CannotFork { reason } => {
                tracing::warn!(
                    target: "tower_dspy",
                    reason,
                    "workers are not forked: each is started by itself, and takes as long as an import of DSPy"
                );
                self.spawner = Box::new(ExecSpawner);
            }
            FromZygote::Unusable { fault } => self.unusable(fault),
            FromZygote::Log(record) => record.forward(None),
            FromZygote::Forked { worker, pid } => zygote.forked(worker, Ok(pid)),
            FromZygote::NotForked { worker, reason } => {
                let error = io::Error::other(format!("no fork: {reason}"));
                zygote.forked(worker, Err(error));
            }
            FromZygote::Ended {
                worker,
                exited,
                status,
            } => zygote.ended(worker, exited, status),
        }
    }

    fn on_zygote_exit(&mut self, how: &str) {
        // Its workers end with it: dropping it tells those who watch them.
        let Some(zygote) = self.spawner.take_zygote() else {
            return;
        };
        let how = zygote.verdict.as_deref().unwrap_or(how);
        if !zygote.is_warm {
            let last_lines = zygote.link.last_lines();
            let reason = format!("no worker could be started: {how}{last_lines}");
            self.start_failed(StartError::interpreter(reason));
        } else if !self.lifecycle.is_stopping() {
            tracing::error!(
                target: "tower_dspy",
                pid = zygote.link.pid(),
                how,
                "the process that workers are forked from is lost, and they with it"
            );
            self.lifecycle.start_failed(clock::now());
        }
        self.publish();
    }

    /// A process could not import DSPy. It exits by itself, which is the start that has failed.
    pub(super) fn unusable(&mut self, fault: Fault) {
        let error = StartError::python(fault);
        if self.starting.is_some() {
            self.start_failed(error);
        } else {
            tracing::error!(target: "tower_dspy", %error, "a worker was not started");
        }
    }

    /// A process could not be started: the end of a pool that starts, and a pause of another.
    fn start_failed(&mut self, error: StartError) {
        if let Some(starting) = self.starting.take() {
            // Fails if nobody waits any more; the pool ends all the same.
            let _ = starting.send(Err(error));
            self.core.queue.stop(Duration::ZERO);
        } else if !self.lifecycle.is_stopping() {
            tracing::error!(target: "tower_dspy", %error, "a worker was not started");
            metrics::worker_restarted("not_started");
            self.lifecycle.start_failed(clock::now());
        }
    }

    /// Starts the workers that are missing.
    pub(super) fn fill(&mut self) {
        loop {
            let (serving, replacing) = (self.programs.serving(), self.programs.replacing());
            let next = self.lifecycle.next_spawn(clock::now(), serving, replacing);
            let Some(generation) = next else {
                return;
            };
            let worker = WorkerId(self.last_worker + 1);
            let (settings, events) = (&self.spawn_settings, &self.events);
            match self.spawner.spawn(worker, settings, events) {
                Ok(Some(link)) => {
                    self.last_worker = worker.0;
                    self.workers.insert(worker, Worker::new(link));
                    self.lifecycle.spawned(worker, generation);
                    self.programs.spawned(worker, generation);
                }
                Ok(None) => return,
                Err(error) => {
                    let python = self.spawn_settings.python.display();
                    let reason = format!("`{python}`: {error}");
                    return self.start_failed(StartError::interpreter(reason));
                }
            }
        }
    }

    /// Applies what the lifecycle has returned.
    pub(super) fn apply_lifecycle_actions(&self, actions: impl IntoIterator<Item = WorkerAction>) {
        for (id, action) in actions {
            let Some(Worker { link, .. }) = self.workers.get(&id) else {
                continue;
            };
            match action {
                LifecycleAction::Kill => link.kill(),
                LifecycleAction::KillOverdue => {
                    self.stats.update(|stats| stats.killed += 1);
                    link.kill();
                }
                LifecycleAction::Stop { grace } => {
                    let grace = grace.as_secs_f64();
                    link.send(&ToWorker::Stop { grace }, &[]);
                }
                LifecycleAction::Recycle { why } => tracing::info!(
                    target: "tower_dspy",
                    pid = link.pid(),
                    why,
                    "a worker is replaced by a fresh one"
                ),
            }
        }
    }

    /// Looks at all workers.
    pub(super) fn tick(&mut self) {
        for worker in self.workers.values_mut() {
            worker.heartbeat.tick();
        }
        let now = clock::now();
        let (scheduler, workers) = (&self.scheduler, &self.workers);
        let blocked_for = |of| workers.get(&of).map_or(Duration::ZERO, Worker::blocked_for);
        let workload = |worker| (scheduler.workload(worker, now), blocked_for(worker));
        let memory = |worker| resident_memory(workers.get(&worker)?.link.pid()?);
        let is_replacing = self.programs.replacing().is_some();
        let actions = self.lifecycle.tick(now, is_replacing, workload, memory);
        self.apply_lifecycle_actions(actions);
        if !self.lifecycle.is_stopping() {
            self.kill_late_processes();
            let actions = self.programs.retry(now);
            self.apply_program_actions(actions);
        }
        self.fill();
        self.publish();
    }

    /// Publishes a reading of the workers.
    pub(super) fn publish(&self) {
        let now = clock::now();
        let processes = self.workers.iter().filter_map(|(&id, worker)| {
            let workload = self.scheduler.workload(id, now);
            worker.reading(self.lifecycle.state(id)?, workload)
        });
        let processes = processes.collect();
        self.stats.update(|stats| {
            stats.processes = processes;
            stats.zygote = self.spawner.zygote_pid();
            stats.failed_starts = self.lifecycle.failed_starts();
        });
    }
}

/// Warns of the parts of DSPy that are patched only in part.
pub(super) fn warn_of(weaker: &[String]) {
    for weaker in weaker {
        tracing::warn!(target: "tower_dspy", "{weaker}");
    }
}

#[cfg(test)]
mod tests;
