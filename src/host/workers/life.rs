//! The life of one worker.

use std::time::Duration;

use super::{
    numbers::{Generation, WorkerId},
    scheduler::Workload,
};

/// How long a worker that was told to stop has for it, beyond the calls' grace.
pub(super) const WORKER_STOP_MARGIN: Duration = Duration::from_secs(1);
/// How long a worker that was killed keeps its place: one in an uninterruptible sleep may not exit.
const WORKER_EXIT_LIMIT: Duration = Duration::from_secs(5);

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Kill,
    /// End the process, and count it as killed for its calls.
    KillOverdue,
    /// Tell the worker to stop.
    Stop { grace: Duration },
    /// Log why the worker is replaced by a fresh one.
    Recycle { why: String },
}

/// An action, and the worker that it is about.
pub(super) type WorkerAction = (WorkerId, LifecycleAction);

/// The life of one worker.
pub(super) struct WorkerLife {
    pub(super) generation: Generation,
    /// The starts that had failed in a row when it was spawned.
    pub(super) failed_starts: u32,
    pub(super) state: WorkerState,
    /// It has imported DSPy, and was given the programs.
    pub(super) is_up: bool,
    pub(super) ready_since: Option<Duration>,
    pub(super) is_recycled: bool,
    /// Why it is replaced by a fresh one.
    pub(super) recycled_for: Option<String>,
    /// It was retired, whatever came after that.
    is_retired: bool,
    /// Since when it is to end for another reason than that it is not needed.
    ended: Option<Duration>,
    /// Since when it is to end because it is not needed.
    pub(super) dismissed: Option<Duration>,
    /// Why it was ended.
    pub(super) verdict: Option<String>,
    /// It was killed for its calls.
    pub(super) is_overdue: bool,
}

impl WorkerLife {
    pub(super) const fn new(generation: Generation, failed_starts: u32) -> Self {
        Self {
            generation,
            failed_starts,
            state: WorkerState::Starting,
            is_up: false,
            ready_since: None,
            is_recycled: false,
            recycled_for: None,
            is_retired: false,
            ended: None,
            dismissed: None,
            verdict: None,
            is_overdue: false,
        }
    }

    /// Whether it loads the programs.
    pub(super) fn is_loading(&self) -> bool {
        self.state == WorkerState::Starting && self.is_up
    }

    /// Has it take calls.
    pub(super) const fn serve(&mut self, now: Duration) {
        self.state = WorkerState::Ready;
        self.ready_since = Some(now);
    }

    /// Has it take no more calls.
    pub(super) const fn retire(&mut self) {
        self.state = WorkerState::Retiring;
        self.is_retired = true;
    }

    /// Marks the worker as not needed any more; the caller has the process end.
    pub(super) fn dismiss(&mut self, now: Duration) {
        self.state = WorkerState::Ending;
        self.dismissed.get_or_insert(now);
    }

    /// Marks the worker as about to end, for a reason if the pool knows one.
    pub(super) fn end(&mut self, now: Duration, verdict: Option<String>) {
        self.state = WorkerState::Ending;
        self.ended.get_or_insert(now);
        self.verdict = self.verdict.take().or(verdict);
    }

    /// Whether it counts towards the full number: no other worker is started in its place.
    ///
    /// A worker that ends counts until its exit, at most for `WORKER_EXIT_LIMIT`. An example: the
    /// import of a program that is loaded for the first time crashes the process. The exit fails the
    /// load and removes the program, so that the next worker loads only the other programs.
    pub(super) fn has_place(&self, now: Duration) -> bool {
        let is_late = |since| now.saturating_sub(since) > WORKER_EXIT_LIMIT;
        !self.is_retired && self.dismissed.is_none() && !self.ended.is_some_and(is_late)
    }

    /// Retires the worker, dismisses it or kills it, as its calls require.
    pub(super) fn tick(
        &mut self,
        now: Duration,
        limits: &OverdueLimits,
        workload: Workload,
        blocked_for: Duration,
    ) -> Option<LifecycleAction> {
        let overdue = workload.overdue.unwrap_or_default();
        if self.state == WorkerState::Ending {
            let lingers = |since| now.saturating_sub(since) > WORKER_STOP_MARGIN;
            let is_late = self.dismissed.is_some_and(lingers);
            return is_late.then_some(LifecycleAction::Kill);
        }
        // A loop that was late for a moment only is no reason to lose the other calls.
        if overdue.min(blocked_for) > limits.kill_after {
            let verdict = "it was killed: work that was told to stop held it up";
            self.end(now, Some(verdict.into()));
            self.is_overdue = true;
            return Some(LifecycleAction::KillOverdue);
        }
        if overdue > limits.retire_after && self.state == WorkerState::Ready {
            self.retire();
        }
        if self.state != WorkerState::Retiring {
            return None;
        }
        if workload.calls == 0 {
            self.dismiss(now);
            let grace = Duration::ZERO;
            return Some(LifecycleAction::Stop { grace });
        }
        (overdue > limits.retire_after && workload.all_overdue).then(|| {
            let verdict = "it was killed: work that was told to stop did not";
            self.end(now, Some(verdict.into()));
            self.is_overdue = true;
            LifecycleAction::KillOverdue
        })
    }
}
