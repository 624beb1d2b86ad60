//! [`Shutdown`]: the handle, and the steps of a shutdown.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{
    calls::ShutdownCalls,
    hook::{Hook, HookOutcome, HookOutput, HookReport},
    report::{ShutdownPhase, ShutdownReport},
};
use crate::call::Deadline;

const HOOK_LIMIT: Duration = Duration::from_secs(5);

/// Ends all calls that go through one or more [`ShutdownLayer`](super::ShutdownLayer)s, then cleans
/// up, and reports.
///
/// Clones are handles to the same shutdown. It goes one way: accepting, announced (or not),
/// draining, cancelling, done.
///
/// A call is in flight from when it came until its future is done or dropped. The answer itself may
/// go on, as the body of an HTTP response does; the server that sends it has to wait for that.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{Shutdown, layers::ShutdownPhase};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let shutdown = Shutdown::new();
/// shutdown.hook("close the pool", || async { /* pool.close().await */ });
/// shutdown.hook("flush the log", || async { Err::<(), _>("the disk is full") });
///
/// let report = shutdown.run(Duration::from_secs(20), Duration::from_secs(2)).await;
/// assert_eq!(shutdown.phase(), ShutdownPhase::Done);
/// let failed: Vec<_> = report.failed_hooks().map(|hook| &*hook.name).collect();
/// assert_eq!(failed, ["flush the log"]);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Shutdown {
    pub(super) calls: Arc<ShutdownCalls>,
    /// Locked by the `run` under way.
    progress: Arc<Mutex<ShutdownProgress>>,
}

/// What has been done, kept so that a second `run` can go on where a dropped one stopped.
#[derive(Default)]
struct ShutdownProgress {
    /// When the drain ends, and how long the grace is.
    limits: Option<(Deadline, Duration)>,
    /// When the grace ends.
    grace: Option<Deadline>,
    hooks: Vec<HookReport>,
    report: Option<ShutdownReport>,
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds each hook that is registered from now on. The default is 5 seconds.
    #[must_use]
    pub fn with_hook_limit(self, limit: Duration) -> Self {
        self.calls.lock().hook_limit = Some(limit);
        self
    }

    /// Runs `hook` once no call is in flight any more, or the rest was abandoned.
    ///
    /// Hooks run one after the other, the last registered first, as what was set up later may need
    /// what was there before. Each is dropped at its [limit](Self::with_hook_limit); an error, a
    /// panic or a hook that took too long does not keep the others from running, and is in the
    /// report. A hook that blocks its thread cannot be stopped.
    ///
    /// Returns `false`, and does not run the hook, if the shutdown is done.
    pub fn hook<F, Fut>(&self, name: impl Into<Cow<'static, str>>, hook: F) -> bool
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: HookOutput> + Send + 'static,
    {
        let name = name.into();
        let mut state = self.calls.lock();
        if state.phase == ShutdownPhase::Done {
            // Nor is the hook dropped under the lock.
            drop(state);
            return false;
        }
        let limit = state.hook_limit.unwrap_or(HOOK_LIMIT);
        state.hooks.push(Hook::new(name, limit, hook));
        true
    }

    /// Announces the end: from now on [`is_ready`](Self::is_ready) is false, so that a load balancer
    /// sends calls elsewhere. Those that come are let through until [`run`](Self::run), which may
    /// follow without this.
    pub fn announce(&self) {
        let mut state = self.calls.lock();
        if state.phase == ShutdownPhase::Accepting {
            state.phase = ShutdownPhase::Announced;
        }
    }

    /// Whether calls are welcome: for a readiness probe.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == ShutdownPhase::Accepting
    }

    /// Whether new calls are let through.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.phase().is_accepting()
    }

    /// How far the shutdown has come.
    #[must_use]
    pub fn phase(&self) -> ShutdownPhase {
        self.calls.lock().phase
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.drain.calls.len()
    }

    /// Shuts down, and reports what became of the calls.
    ///
    /// 1. New calls are refused. Those in flight have `drain` to end by themselves; if none is, or
    ///    none is left, there is no wait.
    /// 2. Then the node in the context of each is cancelled, with
    ///    [`Cause::Shutdown`](crate::Cause::Shutdown), and they have `grace` to clean up. Those
    ///    that wait for a service are ended at once, for they must not start any more.
    /// 3. Then their futures are dropped. It is their own tasks that do it, when they are polled
    ///    next, which has 100 ms to happen. A call whose future is not polled is abandoned; if it
    ///    is polled later, it is dropped then.
    /// 4. The [hooks](Self::hook) run.
    ///
    /// A second `run`, with whatever limits, waits for the report of the first.
    ///
    /// # Panics
    /// The future panics if it has to wait, or has hooks to run, outside a tokio runtime with its
    /// timer enabled.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back: no call is accepted any more, and those in flight go
    /// on. Another `run` goes on where this one stopped, with the limits that it had set. A hook
    /// that was running is dropped and is reported as interrupted.
    pub async fn run(&self, drain: Duration, grace: Duration) -> ShutdownReport {
        let calls = &self.calls;
        let begun = {
            let mut state = calls.lock();
            let accepting = state.phase.is_accepting();
            if accepting {
                state.phase = ShutdownPhase::Draining;
                calls.drain.calls.close();
            }
            accepting.then(|| calls.drain.calls.len())
        };
        if let Some(in_flight) = begun {
            tracing::info!(target: "tower_dspy", in_flight, ?drain, ?grace, "shutting down");
        }

        let mut progress = self.progress.lock().await;
        if let Some(report) = &progress.report {
            return report.clone();
        }
        // Those of the first run, also for the one that continues it.
        let (drain, grace) = *progress
            .limits
            .get_or_insert_with(|| (Deadline::within(drain), grace));
        if !calls.drain.wait_empty(drain).await {
            let is_first = progress.grace.is_none();
            let grace = *progress
                .grace
                .get_or_insert_with(|| Deadline::within(grace));
            let in_flight = calls.signal_stop(grace);
            if is_first {
                tracing::info!(target: "tower_dspy", in_flight, "cancelling the calls in flight");
            }
            calls.drain.end_by(grace).await;
        }
        while let Some(hook) = calls.next_hook() {
            // Written before it runs: it is what stays if this future is dropped meanwhile.
            progress.hooks.push(HookReport {
                name: hook.name.clone(),
                outcome: HookOutcome::Interrupted,
            });
            let outcome = hook.run().await;
            if let Some(last) = progress.hooks.last_mut() {
                last.outcome = outcome;
            }
        }
        let mut report = calls.report();
        report.hooks = std::mem::take(&mut progress.hooks);
        if report.is_clean() {
            tracing::info!(target: "tower_dspy", "shut down: {report}");
        } else {
            tracing::warn!(target: "tower_dspy", "shut down: {report}");
        }
        progress.report.insert(report).clone()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("phase", &self.phase())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
