//! [`GracefulShutdown`]: when and how [`serve`](super::serve) ends.

use std::{fmt, io, time::Duration};

use futures_util::future::BoxFuture;

use crate::layers::Shutdown;

/// What a call needs at most to clean up, if the user says nothing else.
const GRACE: Duration = Duration::from_secs(2);

/// How long connections that are cut have to be dropped by the tasks that hold them.
pub(super) const LAST_POLL: Duration = Duration::from_millis(100);

/// How long an open connection is still read from when no new one is taken: a request that is on
/// its way would find it closed, and its client could not tell whether it was begun.
pub(super) const LINGER: Duration = Duration::from_millis(250);

pub(super) type Signal = BoxFuture<'static, ()>;
pub(super) type Last = Box<dyn FnOnce(Duration) -> BoxFuture<'static, ()> + Send>;

/// When a server ends and how long that may take; for [`serve`](super::serve).
///
/// With a host, [`Host::shutdown`](crate::Host::shutdown) makes it.
pub struct GracefulShutdown {
    pub(super) shutdown: Shutdown,
    pub(super) delay: Duration,
    pub(super) drain: Duration,
    pub(super) grace: Duration,
    /// `None` for the process's own.
    pub(super) signal: Option<Signal>,
    /// What runs, with the grace, when all else is done.
    pub(super) last: Option<Last>,
    /// How long that may take beyond the grace.
    pub(super) last_margin: Duration,
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
            delay: Duration::ZERO,
            drain,
            grace: GRACE,
            signal: None,
            last: None,
            last_margin: Duration::ZERO,
        }
    }

    /// Says "not ready" for `delay` before the server takes no more connections, and serves all that
    /// comes meanwhile. The default is none.
    ///
    /// A load balancer goes on sending until it has seen that the server is not ready, and what
    /// comes to a closed listener is an error to somebody. So let it be the time that its probes
    /// need to notice, and a little more: with a readiness probe each 2 s that may fail twice, 5 s.
    ///
    /// # With Kubernetes
    /// It tells its endpoints at about the time when it sends SIGTERM, without waiting for them, so
    /// some seconds are needed there whatever the probes. Either here, or by a `preStop` hook that
    /// sleeps, in which case none is needed here:
    /// ```yaml
    /// terminationGracePeriodSeconds: 35  # `max_duration`, the seconds of `preStop`, and some more
    /// containers:
    ///   - name: qa
    ///     readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 2, failureThreshold: 2}
    ///     livenessProbe: {httpGet: {path: /livez, port: 8080}}
    ///     lifecycle: {preStop: {sleep: {seconds: 5}}}
    /// ```
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// What is cancelled at the end of the drain has `grace` to clean up, and a host as much again
    /// when it is stopped. The default is 2 seconds.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The longest time from the signal to the end of [`serve`](super::serve): for
    /// `terminationGracePeriodSeconds` and systemd's `TimeoutStopSec`.
    ///
    /// | part | at most |
    /// |---|---|
    /// | "not ready", and still serving | the [delay](Self::with_delay) |
    /// | connections that wait to be taken | 250 ms |
    /// | requests end by themselves | the drain |
    /// | requests that are cancelled clean up | the [grace](Self::with_grace) |
    /// | what is left is dropped | 100 ms |
    /// | the host stops | the grace again, and 1 s, or 5 s for worker processes |
    ///
    /// The [hooks](crate::Shutdown::hook) of the `Shutdown` come on top, each with its own limit, as does
    /// the time of a `preStop` hook. It is a bound on what the server waits for: a machine without
    /// free CPUs may need more, so round it up.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{Shutdown, server::GracefulShutdown};
    ///
    /// let until = GracefulShutdown::new(Shutdown::new(), Duration::from_secs(20))
    ///     .with_delay(Duration::from_secs(5));
    /// assert_eq!(until.max_duration(), Duration::from_millis(27_350)); // there is no host
    /// ```
    #[must_use]
    pub fn max_duration(&self) -> Duration {
        let last = match self.last {
            Some(_) => self.grace.saturating_add(self.last_margin),
            None => Duration::ZERO,
        };
        [LINGER, self.drain, self.grace, LAST_POLL, last]
            .into_iter()
            .fold(self.delay, Duration::saturating_add)
    }

    /// Ends when `signal` does, and leaves the process's signals alone.
    #[must_use]
    pub fn with_signal(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }
}

impl fmt::Debug for GracefulShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GracefulShutdown")
            .field("shutdown", &self.shutdown)
            .field("delay", &self.delay)
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
