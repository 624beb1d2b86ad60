//! The supervision of workers: their start, their programs and their exit.
//!
//! The supervisor applies what the scheduler, the lifecycle and the programs return. Each of them
//! keeps its own part of a worker under the worker's id: its calls, its phase, its programs; the
//! table keeps the process. A worker enters the table, the lifecycle and the programs in `fill`, the
//! scheduler with its first call, and leaves all four in `on_exit`.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{
    lifecycle::{Lifecycle, WorkerExitKind},
    lost_calls::{end_call, exit_reason, refusal, worker_fault},
    numbers::{LoadId, WorkerId},
    phase::LifecycleAction,
    pool_settings::PoolSettings,
    process::{ExecSpawner, ProcessEvent, SpawnSettings, Spawner, SpawnerEvent, ZygoteSpawner},
    program_action::{LoadAnswer, ProgramAction},
    requests::{self, LoadRequest, PoolPrograms, ReplaceRequest},
    scheduler::Scheduler,
    stats::{PoolCounts, PoolReading},
    worker::WorkerTable,
};
use crate::host::{
    core::{clock, fault::Fault, host_core::HostCore, running_call::RunningCall},
    start_error::StartError,
};

/// The supervisor of a pool's workers.
pub(super) struct Supervisor {
    core: HostCore,
    counts: Arc<PoolCounts>,
    pub(super) scheduler: Scheduler<RunningCall>,
    pub(super) lifecycle: Lifecycle,
    pub(super) programs: PoolPrograms,
    pub(super) workers: WorkerTable,
    spawner: Box<dyn Spawner>,
    spawn: SpawnSettings,
    events: mpsc::Sender<ProcessEvent>,
    /// Sent to once all workers are ready, or one cannot be started.
    starting: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl Supervisor {
    pub(super) fn new(
        core: HostCore,
        settings: PoolSettings,
        counts: Arc<PoolCounts>,
        events: mpsc::Sender<ProcessEvent>,
        starting: oneshot::Sender<Result<(), StartError>>,
    ) -> Self {
        let spawn = settings.spawn;
        let spawner: Box<dyn Spawner> = if settings.fork {
            Box::new(ZygoteSpawner::new(spawn.clone(), events.clone()))
        } else {
            Box::new(ExecSpawner::new(spawn.clone(), events.clone()))
        };
        Self {
            core,
            counts,
            scheduler: Scheduler::default(),
            lifecycle: Lifecycle::new(settings.workers, settings.overdue, settings.recycle),
            programs: PoolPrograms::default(),
            workers: WorkerTable::default(),
            spawner,
            spawn,
            events,
            starting: Some(starting),
        }
    }

    /// Whether the pool stops and no worker is left. Ends the spawner's own process then.
    pub(super) fn has_stopped(&mut self) -> bool {
        if !self.lifecycle.is_stopping() || !self.workers.is_empty() {
            return false;
        }
        self.spawner.stop();
        self.spawner.pid().is_none()
    }

    pub(super) fn load(&mut self, spec: Value, request: LoadRequest) {
        let workers = self.lifecycle.given_programs();
        let actions = self.programs.load(spec, request, &workers);
        self.apply_program_actions(actions);
    }

    pub(super) fn unload(&mut self, load: LoadId) {
        let lifecycle = &self.lifecycle;
        // A retiring worker may still have calls of it.
        let remains = |worker| !lifecycle.is_retiring(worker);
        let actions = self.programs.unload(load, remains);
        self.apply_program_actions(actions);
    }

    pub(super) fn replace(&mut self, load: LoadId, spec: Value, request: ReplaceRequest) {
        let actions = self.programs.replace(load, spec, request);
        self.apply_program_actions(actions);
        self.fill();
    }

    /// Cancels all calls and ends all workers, within `grace`.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.programs.stop();
        for running in self.scheduler.calls() {
            running.state.cancel();
        }
        let actions = self.lifecycle.stop(grace, clock::now());
        self.apply_lifecycle_actions(actions);
        self.publish();
    }

    /// A worker has imported DSPy, and can load programs.
    pub(super) fn on_up(&mut self, worker: WorkerId) {
        self.lifecycle.came_up(worker);
        self.load_waiting();
    }

    /// A worker cannot import DSPy. It exits by itself.
    pub(super) fn on_unusable(&mut self, worker: WorkerId, fault: Fault) {
        if self.programs.is_replacing(worker) {
            let actions = self.programs.fail_replacement(fault);
            self.apply_program_actions(actions);
            self.fill();
        } else {
            self.unusable(fault);
        }
    }

    /// A worker has answered a load.
    pub(super) fn on_loaded(&mut self, worker: WorkerId, load: LoadId, answer: LoadAnswer) {
        let actions = self.programs.answered(worker, load, answer, clock::now());
        self.apply_program_actions(actions);
        self.check_loaded(worker);
        self.fill();
    }

    /// The connection to a worker is broken: by a malformed frame, which is the verdict, or because
    /// the worker closed it. Mostly the worker has exited: that is its next event.
    pub(super) fn on_broken(&mut self, worker: WorkerId, verdict: Option<String>) {
        let action = self.lifecycle.broken(worker, verdict);
        self.apply_lifecycle_actions(action);
        self.fill();
        self.publish();
    }

    /// Handles the exit of a worker: its calls, its loads, and another in its place.
    pub(super) fn on_exit(&mut self, id: WorkerId, how: String) {
        let Some(worker) = self.workers.remove(id) else {
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
        for lost in lost {
            self.counts.calls_lost.add((!lost.is_resolved).into());
            end_call(&lost.call, &reason);
        }
        match exit.kind {
            WorkerExitKind::Stopped => {}
            WorkerExitKind::Dismissed { served } => {
                self.counts.recycled.add(served.into());
                let actions = self.programs.forget(id);
                self.apply_program_actions(actions);
            }
            WorkerExitKind::Lost => {
                self.counts.lost.add(1);
                tracing::warn!(target: "tower_dspy", pid, %why, calls, "a worker is lost");
                let actions = self.programs.lost(id, &worker_fault(&reason));
                self.apply_program_actions(actions);
                if self.starting.is_some() && !is_new {
                    let reason = format!("{reason}{}", worker.link.last_lines());
                    self.start_failed(StartError::Interpreter { reason });
                }
            }
        }
        self.fill();
        self.load_waiting();
        self.publish();
    }

    /// Handles an event of the process that workers are forked from.
    pub(super) fn on_spawner(&mut self, event: SpawnerEvent) {
        match event {
            SpawnerEvent::Warm(weaker) => {
                warn_of(&weaker);
                self.spawner.warmed();
                self.fill();
            }
            SpawnerEvent::CannotFork(reason) => {
                tracing::warn!(
                    target: "tower_dspy",
                    reason,
                    "workers are not forked: each is started by itself, and takes as long as an import of DSPy"
                );
                let (spawn, events) = (self.spawn.clone(), self.events.clone());
                self.spawner = Box::new(ExecSpawner::new(spawn, events));
                self.fill();
            }
            SpawnerEvent::Unusable(fault) => self.unusable(fault),
            SpawnerEvent::Exited(how) => {
                let Some(exited) = self.spawner.exited() else {
                    return;
                };
                if self.lifecycle.is_stopping() {
                    return;
                }
                if exited.was_warm {
                    tracing::error!(
                        target: "tower_dspy",
                        pid = exited.pid,
                        how,
                        "the process that workers are forked from is lost, and they with it"
                    );
                    self.lifecycle.start_failed(clock::now());
                } else {
                    let lines = exited.last_lines;
                    let reason = format!("no worker could be started: {how}{lines}");
                    self.start_failed(StartError::Interpreter { reason });
                }
            }
        }
        self.publish();
    }

    /// A process could not import DSPy. It exits by itself, which is the start that has failed.
    fn unusable(&mut self, fault: Fault) {
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
            self.lifecycle.start_failed(clock::now());
        }
    }

    /// Starts the workers that are missing.
    fn fill(&mut self) {
        loop {
            let (serving, replacing) = (self.programs.serving(), self.programs.replacing());
            let owes_first_answer = |worker| self.programs.owes_first_answer(worker);
            let next =
                self.lifecycle
                    .next_spawn(clock::now(), serving, replacing, owes_first_answer);
            let Some(generation) = next else {
                return;
            };
            match self.workers.insert(|worker| self.spawner.spawn(worker)) {
                Ok(Some(worker)) => {
                    self.lifecycle.spawned(worker, generation);
                    self.programs.spawned(worker, generation);
                }
                Ok(None) => return,
                Err(error) => {
                    let python = self.spawn.python.display();
                    let reason = format!("`{python}`: {error}");
                    return self.start_failed(StartError::Interpreter { reason });
                }
            }
        }
    }

    /// Loads all programs in the workers that are up and have none.
    fn load_waiting(&mut self) {
        let owes_first_answer = |worker| self.programs.owes_first_answer(worker);
        for worker in self.lifecycle.begin_loading(owes_first_answer) {
            let actions = self.programs.load_all(worker);
            self.apply_program_actions(actions);
            self.check_loaded(worker);
        }
    }

    /// Has a worker take calls if it has all programs, or all workers of a replacement.
    fn check_loaded(&mut self, worker: WorkerId) {
        if self.programs.is_replacing(worker) {
            return self.swap_if_loaded();
        }
        if self.programs.has_all(worker) && self.lifecycle.loaded(worker, clock::now()) {
            self.publish();
            if self.lifecycle.is_full()
                && let Some(starting) = self.starting.take()
                && starting.send(Ok(())).is_err()
            {
                // Nobody waits any more, and nobody else can reach this pool.
                self.core.queue.stop(Duration::ZERO);
            }
        }
    }

    /// Has the workers of a replacement take over, if all of them have all programs.
    fn swap_if_loaded(&mut self) {
        let has_all = |worker| self.programs.has_all(worker);
        let generation = self.programs.replacing();
        let Some(generation) = generation.filter(|g| self.lifecycle.can_swap(*g, has_all)) else {
            return;
        };
        let request = self.programs.replacement_request();
        if request.is_some_and(|request| request.reply.is_closed()) {
            let gone = refusal("nobody waits for the replacement");
            let actions = self.programs.fail_replacement(gone);
            return self.apply_program_actions(actions);
        }
        let Some(request) = self.programs.swap() else {
            return;
        };
        (request.taken_over)(request.registrations);
        for worker in self.lifecycle.swap(generation, clock::now()) {
            let action = self.lifecycle.discard(worker, clock::now());
            self.apply_lifecycle_actions(action);
            let actions = self.programs.forget(worker);
            self.apply_program_actions(actions);
        }
        self.publish();
        // Last: the caller that hears it is served by the new program, and may name its LMs.
        let _ = request.reply.send(Ok(()));
        let actions = self.programs.next_replacement();
        self.apply_program_actions(actions);
    }

    /// Applies what the programs have returned.
    fn apply_program_actions(&mut self, actions: Vec<ProgramAction<LoadRequest, ReplaceRequest>>) {
        let (counts, queue) = (&self.counts, &self.core.queue);
        requests::apply(
            actions,
            &mut self.workers,
            &mut self.lifecycle,
            counts,
            queue,
        );
    }

    /// Applies what the lifecycle has returned.
    fn apply_lifecycle_actions(&self, actions: impl IntoIterator<Item = LifecycleAction>) {
        self.workers.apply(&self.counts, actions);
    }

    /// Looks at all workers.
    pub(super) fn tick(&mut self) {
        self.workers.tick();
        let now = clock::now();
        let (scheduler, workers) = (&self.scheduler, &self.workers);
        let workload = |worker| (scheduler.workload(worker, now), workers.is_blocked(worker));
        let memory = |worker| workers.memory(worker);
        let is_replacing = self.programs.replacing().is_some();
        let actions = self.lifecycle.tick(now, is_replacing, workload, memory);
        self.apply_lifecycle_actions(actions);
        if !self.lifecycle.is_stopping() {
            let actions = self.programs.retry(now);
            self.apply_program_actions(actions);
        }
        self.fill();
        self.publish();
    }

    /// Publishes a reading of the workers.
    pub(super) fn publish(&self) {
        let now = clock::now();
        let workload = |worker| self.scheduler.workload(worker, now);
        self.counts.publish(PoolReading {
            processes: self.workers.reading(&self.lifecycle, workload),
            zygote: self.spawner.pid(),
            failed_starts: self.lifecycle.failed_starts(),
        });
    }
}

/// Warns of the parts of DSPy that are patched only in part.
pub(super) fn warn_of(weaker: &[String]) {
    for weaker in weaker {
        tracing::warn!(target: "tower_dspy", "{weaker}");
    }
}
