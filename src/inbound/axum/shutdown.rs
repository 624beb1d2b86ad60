//! [`GracefulShutdown`]: when and how [`serve`](super::serve) ends.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use crate::Shutdown;

/// What a call needs at most to clean up, if the user says nothing else.
const GRACE: Duration = Duration::from_secs(2);

pub(super) type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(super) type Last = Box<dyn FnOnce(Duration) -> Signal + Send>;

/// When a server ends and how long that may take; for [`serve`](super::serve).
///
/// With a host, [`Host::shutdown`](crate::Host::shutdown) makes it.
pub struct GracefulShutdown {
    pub(super) shutdown: Shutdown,
    pub(super) drain: Duration,
    pub(super) grace: Duration,
    /// `None` for the process's own.
    pub(super) signal: Option<Signal>,
    pub(super) last: Option<Last>,
}

impl GracefulShutdown {
    /// Ends at SIGTERM or Ctrl-C; requests in flight have `drain` to end by themselves.
    ///
    /// The server runs `shutdown`, and counts its requests there: do not give the same handle to a
    /// [`ShutdownLayer`](crate::ShutdownLayer) around a program, which would refuse the calls of
    /// requests that are still let through.
    #[must_use]
    pub fn new(shutdown: Shutdown, drain: Duration) -> Self {
        Self {
            shutdown,
            drain,
            grace: GRACE,
            signal: None,
            last: None,
        }
    }

    /// What is cancelled at the end of the drain has `grace` to clean up, and a host as much again
    /// when it is stopped. The default is 2 seconds.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Ends when `signal` does, and leaves the process's signals alone.
    #[must_use]
    pub fn on(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }

    /// Runs `last` when all else is done; it is told the grace.
    #[cfg(feature = "_host")]
    pub(super) fn last<F, Fut>(mut self, last: F) -> Self
    where
        F: FnOnce(Duration) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.last = Some(Box::new(|grace| Box::pin(last(grace))));
        self
    }
}

impl fmt::Debug for GracefulShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulShutdown")
            .field("shutdown", &self.shutdown)
            .field("drain", &self.drain)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// SIGTERM or Ctrl-C. Both are listened to from when this returns.
#[cfg(unix)]
pub(super) fn termination() -> io::Result<Signal> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

/// Ctrl-C.
#[cfg(windows)]
pub(super) fn termination() -> io::Result<Signal> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(Box::pin(async move {
        interrupt.recv().await;
    }))
}
