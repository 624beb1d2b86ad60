//! The clean-up hooks of a shutdown.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tower::BoxError;

/// A clean-up that has not run yet.
pub(super) struct Hook {
    pub(super) name: Cow<'static, str>,
    limit: Duration,
    future: BoxFuture<'static, Result<(), String>>,
}

impl Hook {
    pub(super) fn new<F, Fut>(name: Cow<'static, str>, limit: Duration, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: HookOutput> + Send + 'static,
    {
        Self {
            name,
            limit,
            // The closure is called by the first poll: it may do something before it returns its
            // future.
            future: Box::pin(async move { hook().await.outcome() }),
        }
    }

    /// Runs the hook to its end or its limit. A panic in it must not keep the others from running.
    pub(super) async fn run(mut self) -> HookOutcome {
        let done = poll_fn(|cx| {
            let poll = AssertUnwindSafe(|| self.future.as_mut().poll(cx));
            catch_unwind(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
        });
        let outcome = match timeout(self.limit, done).await {
            Ok(Some(Ok(()))) => HookOutcome::Completed,
            Ok(Some(Err(error))) => HookOutcome::Failed { error },
            Ok(None) => HookOutcome::Panicked,
            Err(_) => HookOutcome::TimedOut { limit: self.limit },
        };
        match catch_unwind(AssertUnwindSafe(|| drop(self.future))) {
            Ok(()) => outcome,
            Err(_) => HookOutcome::Panicked,
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.name).finish()
    }
}

/// What a clean-up hook may return: nothing, or a `Result` whose error is reported.
pub trait HookOutput: sealed::Sealed {
    #[doc(hidden)]
    fn outcome(self) -> Result<(), String>;
}

impl HookOutput for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Into<BoxError>> HookOutput for Result<(), E> {
    fn outcome(self) -> Result<(), String> {
        self.map_err(|error| error.into().to_string())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

/// What became of one clean-up hook.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookReport {
    /// The name that it was registered with.
    pub name: Cow<'static, str>,
    /// How it ended.
    pub outcome: HookOutcome,
}

/// How a clean-up hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookOutcome {
    /// It ran to its end.
    Completed,
    /// It returned an error.
    Failed {
        /// The error's message.
        error: String,
    },
    /// It took longer than its limit and was dropped.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It panicked.
    Panicked,
    /// The future of [`Shutdown::run`](super::Shutdown::run) was dropped while it ran.
    Interrupted,
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::TimedOut { limit } => write!(f, "took longer than {limit:?}"),
            Self::Panicked => f.write_str("panicked"),
            Self::Interrupted => f.write_str("was interrupted"),
        }
    }
}
