//! [`GracefulCancellationHandler`]: an end of operations that waits for their clean-up.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    TimeoutError, infallible,
    operation::Operation,
    outcome::{Outcome, TimeoutResult},
    run::{Bounds, run},
    timeout,
};
use crate::{
    call::{Cancel, Cause, Deadline},
    layers::shutdown::drain::Drain,
};

/// The default limit of a clean-up handler.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

type Cleanup = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Tracks the operations that run, and ends them in order: it signals them, waits, stops the rest,
/// runs clean-up handlers, and reports.
///
/// Clones are the same handler.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::GracefulCancellationHandler;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let handler = GracefulCancellationHandler::new();
/// handler.on_cleanup(|| async { println!("closing the index") });
///
/// // An operation that listens to its token, and another that does not.
/// let token = handler.child_token();
/// tokio::spawn(handler.execute(async move {
///     token.cancelled().await;
///     tokio::time::sleep(Duration::from_secs(2)).await;
/// }));
/// tokio::spawn(handler.execute(std::future::pending::<()>()));
/// tokio::task::yield_now().await;
/// assert_eq!(handler.pending_operations().len(), 2);
///
/// let report = handler.cancel_gracefully(Duration::from_secs(5)).await;
/// assert_eq!((report.ended, report.cut), (1, 1));
/// assert!(report.abandoned.is_empty());
/// assert_eq!(report.cleaned_up, 1);
/// # }
/// ```
///
/// # The end
/// 1. All child tokens are cancelled, and operations that come later are refused.
/// 2. Operations go on, until they are done or the grace has ended. Their answers stay their own: one
///    that completes within the grace has completed. A prediction, or a layer of this crate whose
///    request has the [node](Self::child) in its context, does not give up at once, but waits for the
///    clean-up; nor does a limit of such a layer cut it short that passes meanwhile, so a grace should
///    be short. The work of a host below such a node is waited for within the grace, also where its
///    operation has ended.
/// 3. What is left is cut: dropped, and answered with [`TimeoutError::Cancelled`].
/// 4. The clean-up handlers run, one after the other, in the order in which they were added, each
///    once and within [its limit](Self::with_cleanup_limit).
#[derive(Clone, Debug)]
pub struct GracefulCancellationHandler {
    drain: Arc<Drain<PendingOperation>>,
    added: mpsc::UnboundedSender<Cleanup>,
    /// Locked while the clean-up handlers run.
    cleanups: Arc<Mutex<mpsc::UnboundedReceiver<Cleanup>>>,
    cleanup_limit: Duration,
}

#[derive(Clone, Debug)]
struct PendingOperation {
    operation: Operation,
    /// Whether it was stopped after it had been asked to end by itself.
    cut: Arc<AtomicBool>,
}

impl GracefulCancellationHandler {
    /// A handler with nothing to handle yet.
    #[must_use]
    pub fn new() -> Self {
        let (added, cleanups) = mpsc::unbounded_channel();
        Self {
            drain: Arc::default(),
            added,
            cleanups: Arc::new(Mutex::new(cleanups)),
            cleanup_limit: CLEANUP_LIMIT,
        }
    }

    /// Drops a clean-up handler that takes longer than `limit`: 10 s by default.
    #[must_use]
    pub fn with_cleanup_limit(mut self, limit: Duration) -> Self {
        self.cleanup_limit = limit;
        self
    }

    /// A token that is cancelled when the end begins, and that can be cancelled alone.
    #[must_use]
    pub fn child_token(&self) -> CancellationToken {
        self.child().token().cloned().unwrap_or_default()
    }

    /// The same as a node that knows its [`Cause`], for a request's context or a
    /// [`Session`](crate::Session).
    #[must_use]
    pub fn child(&self) -> Cancel {
        self.drain.node_below(&self.drain.stop)
    }

    /// Runs `cleanup` at the end. A handler that is added after the end is run by the next
    /// [`cancel_gracefully`](Self::cancel_gracefully).
    pub fn on_cleanup<F>(&self, cleanup: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The receiver lives as long as `self`.
        let _ = self.added.send(Box::new(|| Box::pin(cleanup())));
    }

    /// Runs `operation`, and counts it from its first poll until it is gone.
    ///
    /// # Errors
    /// [`TimeoutError::Cancelled`] if the end had begun, or if it was not done when the grace ended;
    /// [`TimeoutError::Failed`] with the operation's own error.
    ///
    /// # Cancel safety
    /// Dropping the future drops the operation.
    pub fn execute<F>(
        &self,
        operation: F,
    ) -> impl Future<Output = TimeoutResult<F::Output>> + use<F>
    where
        F: IntoFuture<Output: Outcome>,
    {
        let drain = self.drain.clone();
        let operation = operation.into_future();
        async move {
            let pending = PendingOperation {
                operation: Operation::start(),
                cut: Arc::default(),
            };
            let id = pending.operation.id();
            let enter = || drain.calls.enter(pending.clone());
            let ticket = (!drain.stop.is_cancelled()).then(enter).flatten();
            // The registry is closed after `stop` is cancelled: it refuses an operation that may not
            // enter.
            let node = match &ticket {
                Some(_) => &drain.give_up,
                None => &drain.stop,
            };
            let result = run(operation, Bounds::new(node.clone()).call(id)).await;
            if matches!(result, Err(TimeoutError::Cancelled(_))) {
                pending.cut.store(true, Ordering::Release);
            }
            drop(ticket);
            result
        }
        .fuse()
    }

    /// The operations that run, oldest first.
    #[must_use]
    pub fn pending_operations(&self) -> Vec<Operation> {
        let pending = self.drain.calls.list();
        pending.iter().map(|pending| pending.operation).collect()
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.drain.stop.is_cancelled()
    }

    /// Asks the operations to end, because of `cause`, and refuses later ones, without waiting.
    /// Returns whether this call decided the cause.
    ///
    /// [`cancel_gracefully`](Self::cancel_gracefully) goes on from there. By itself this stops
    /// nothing that does not listen, and gives what does listen no grace.
    pub fn cancel(&self, cause: Cause) -> bool {
        self.drain.stop.cancel(cause)
    }

    /// Ends all operations, within `grace` as far as they listen, runs the clean-up handlers, and
    /// reports. It returns as soon as nothing is left to wait for.
    ///
    /// The cause is [`Cause::Caller`], unless [`cancel`](Self::cancel) named another before. A second
    /// call while the first waits may bring a shorter grace: the earliest end holds for both. Each
    /// reports on what ran when it was called, and on the handlers that it ran itself.
    ///
    /// # Panics
    /// If a clean-up handler panics; the ones after it are left to the next call.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the operations asked to end, but no longer cuts them; a clean-up
    /// handler that was running is dropped, and those after it are left to the next call.
    pub async fn cancel_gracefully(&self, grace: Duration) -> CancellationReport {
        let start = Instant::now();
        let drain = &self.drain;
        let grace = Deadline::within(grace);
        drain.signal_stop(Cause::Caller, grace);
        drain.calls.close();
        let asked = drain.calls.list();
        drain.end_by(grace).await;
        // What does not end in time is not cut: its host counts it.
        let _ = timeout_at(grace.instant(), drain.stop.settled()).await;
        let was_cut = |pending: &&PendingOperation| pending.cut.load(Ordering::Acquire);
        let cut = asked.iter().filter(was_cut).count();
        let left = self.pending_operations();
        let asked_for = asked.iter().map(|pending| pending.operation);
        let abandoned: Vec<_> = asked_for.filter(|one| left.contains(one)).collect();

        let (mut cleaned_up, mut cleanups_cut) = (0, 0);
        let mut cleanups = self.cleanups.lock().await;
        while let Ok(cleanup) = cleanups.try_recv() {
            match timeout(self.cleanup_limit, infallible(cleanup())).await {
                Ok(()) => cleaned_up += 1,
                Err(_) => cleanups_cut += 1,
            }
        }
        let report = CancellationReport {
            ended: asked.len().saturating_sub(cut + abandoned.len()),
            cut,
            abandoned,
            cleaned_up,
            cleanups_cut,
            took: start.elapsed(),
        };
        tracing::debug!(target: "tower_dspy", ?report, "operations were ended");
        report
    }
}

impl Default for GracefulCancellationHandler {
    fn default() -> Self {
        Self::new()
    }
}

/// How operations ended: see [`GracefulCancellationHandler::cancel_gracefully`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancellationReport {
    /// Operations that ended by themselves, or were dropped by their owners, within the grace.
    pub ended: usize,
    /// Operations that were stopped when the grace had ended.
    pub cut: usize,
    /// Operations that could not be stopped: their tasks do not poll them.
    pub abandoned: Vec<Operation>,
    /// Clean-up handlers that ran to their end.
    pub cleaned_up: usize,
    /// Clean-up handlers that were dropped at their limit.
    pub cleanups_cut: usize,
    /// How long all of it took.
    pub took: Duration,
}
