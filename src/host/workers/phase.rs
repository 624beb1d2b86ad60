//! The phases of one worker's life.

use std::time::Duration;

use super::{
    numbers::{Generation, WorkerId},
    scheduler::Workload,
};

/// How long a worker that was told to stop has for it, beyond the calls' grace.
pub(super) const STOP_MARGIN: Duration = Duration::from_millis(500);

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It starts, imports DSPy and loads the programs.
    Starting,
    /// It takes calls.
    Ready,
    /// It takes no more calls, and ends when those that it has do: work that was told to stop does
    /// not.
    Retiring,
    /// It was told to end, or killed.
    Ending,
}

/// How long calls that were told to stop may go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverdueLimits {
    /// While the worker's loop is blocked.
    pub(super) kill_after: Duration,
    /// While the worker goes on otherwise.
    pub(super) retire_after: Duration,
}

/// What the pool has to do about a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LifecycleAction {
    /// End the process.
    Kill { worker: WorkerId },
    /// End the process, and count it as killed for its calls.
    KillOverdue { worker: WorkerId },
    /// Tell the worker to stop.
    Stop { worker: WorkerId, grace: Duration },
    /// Log why the worker is replaced by a fresh one.
    Recycle { worker: WorkerId, why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerPhase {
    Spawning,
    /// It has imported DSPy, and has not been given the programs.
    Waiting,
    Loading,
    Ready,
    Retiring,
    Ending {
        /// Since when it is to end because it is not needed.
        dismissed: Option<Duration>,
    },
}

/// The life of one worker.
pub(super) struct WorkerLife {
    pub(super) generation: Generation,
    /// The starts that had failed in a row when it was spawned.
    pub(super) failed_starts: u32,
    pub(super) phase: WorkerPhase,
    pub(super) ready_since: Option<Duration>,
    pub(super) is_recycled: bool,
    /// Why it was ended.
    pub(super) verdict: Option<String>,
    pub(super) ticks: u32,
}

impl WorkerLife {
    pub(super) const fn new(generation: Generation, failed_starts: u32) -> Self {
        Self {
            generation,
            failed_starts,
            phase: WorkerPhase::Spawning,
            ready_since: None,
            is_recycled: false,
            verdict: None,
            ticks: 0,
        }
    }

    pub(super) const fn state(&self) -> WorkerState {
        match self.phase {
            WorkerPhase::Spawning | WorkerPhase::Waiting | WorkerPhase::Loading => {
                WorkerState::Starting
            }
            WorkerPhase::Ready => WorkerState::Ready,
            WorkerPhase::Retiring => WorkerState::Retiring,
            WorkerPhase::Ending { .. } => WorkerState::Ending,
        }
    }

    pub(super) const fn is_starting(&self) -> bool {
        use WorkerPhase::{Loading, Spawning, Waiting};
        matches!(self.phase, Spawning | Waiting | Loading)
    }

    pub(super) const fn is_ending(&self) -> bool {
        matches!(self.phase, WorkerPhase::Ending { .. })
    }

    pub(super) const fn dismissed(&self) -> Option<Duration> {
        match self.phase {
            WorkerPhase::Ending { dismissed } => dismissed,
            _ => None,
        }
    }

    /// Marks the worker as not needed any more; the caller has the process end.
    pub(super) fn mark_dismissed(&mut self, now: Duration) {
        let dismissed = Some(self.dismissed().unwrap_or(now));
        self.phase = WorkerPhase::Ending { dismissed };
    }

    /// Marks the worker as killed for a reason; the caller kills the process.
    pub(super) fn mark_killed(&mut self, verdict: &str) {
        let dismissed = self.dismissed();
        self.phase = WorkerPhase::Ending { dismissed };
        self.verdict.get_or_insert_with(|| verdict.to_owned());
    }

    /// Its end is not explained yet and may be due to its start or to a load: until it exits it keeps
    /// its place and no other worker loads.
    pub(super) fn may_have_died_of_loading(
        &self,
        owes_first_answer: impl FnOnce() -> bool,
    ) -> bool {
        self.is_ending()
            && self.dismissed().is_none()
            && (self.ready_since.is_none() || owes_first_answer())
    }

    /// Retires the worker, dismisses it or kills it, as its calls require.
    pub(super) fn tick(
        &mut self,
        worker: WorkerId,
        now: Duration,
        limits: &OverdueLimits,
        workload: Workload,
        is_blocked: bool,
    ) -> Option<LifecycleAction> {
        let overdue = workload.overdue.unwrap_or_default();
        if let Some(since) = self.dismissed() {
            let lingers = now.saturating_sub(since) > STOP_MARGIN;
            return lingers.then_some(LifecycleAction::Kill { worker });
        }
        if self.is_ending() {
            return None;
        }
        if is_blocked && overdue > limits.kill_after {
            self.mark_killed("it was killed: work that was told to stop held it up");
            return Some(LifecycleAction::KillOverdue { worker });
        }
        if overdue > limits.retire_after && self.phase == WorkerPhase::Ready {
            self.phase = WorkerPhase::Retiring;
        }
        if self.phase != WorkerPhase::Retiring {
            return None;
        }
        if workload.calls == 0 {
            self.mark_dismissed(now);
            let grace = Duration::ZERO;
            return Some(LifecycleAction::Stop { worker, grace });
        }
        (overdue > limits.retire_after && workload.all_overdue).then(|| {
            self.mark_killed("it was killed: work that was told to stop did not");
            LifecycleAction::KillOverdue { worker }
        })
    }
}
