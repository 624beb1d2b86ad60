//! [`ShutdownLayer`]: the end of all calls when the service ends.

mod calls;
pub(crate) mod drain;
mod future;
mod handle;
mod hook;
mod report;

use std::task::{Context, Poll};

use tower::{Layer, Service};

pub use self::{
    future::ShutdownFuture,
    handle::Shutdown,
    hook::{HookOutcome, HookOutput, HookReport},
    report::{ShutdownPhase, ShutdownReport},
};
use super::guard::ReadyCall;
use crate::{
    call::{Carrier, Cause, termination::Termination},
    error::{Cancelled, Stage},
};

/// Lets calls through until a [`Shutdown`] begins, and ends those that are in flight then.
///
/// A call is either accepted, and then in the shutdown's report, or answered with [`Cancelled`] of
/// [`Cause::Shutdown`](crate::Cause::Shutdown) without calling the inner service. Each accepted call
/// gets a cancellation node of its own, below the one in its context; [`Shutdown::run`] cancels it
/// when the call has not ended in time. From then on the call is polled until it ends by itself,
/// and its answer, if it still has one, is its answer: there is somebody who waits for it. What has
/// not ended within the grace is dropped, with `Cause::Shutdown` as the cause that
/// [`drop_scope`](crate::drop_scope) tells, and answered with [`Cancelled`].
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Classify, Error, ErrorKind, WithContext};
/// use tower_dspy::{Shutdown, ShutdownLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let shutdown = Shutdown::new();
/// let service = ServiceBuilder::new()
///     .layer(ShutdownLayer::new(shutdown.clone()))
///     .service_fn(|seconds: WithContext<u64>| async move {
///         tokio::time::sleep(Duration::from_secs(seconds.request)).await;
///         Ok::<_, Error>("done")
///     });
///
/// let short = tokio::spawn(service.clone().oneshot(WithContext::new(5)));
/// let long = tokio::spawn(service.clone().oneshot(WithContext::new(60)));
/// tokio::task::yield_now().await;
///
/// let report = shutdown.run(Duration::from_secs(20), Duration::from_secs(2)).await;
/// assert_eq!(report.to_string(), "2 calls: 1 completed, 0 failed, 1 cancelled, 0 abandoned; 0 refused");
///
/// assert_eq!(short.await.unwrap().unwrap(), "done");
/// assert_eq!(long.await.unwrap().unwrap_err().kind(), ErrorKind::ShuttingDown);
/// let late = service.oneshot(WithContext::new(1)).await;
/// assert_eq!(late.unwrap_err().kind(), ErrorKind::ShuttingDown);
/// # }
/// ```
///
/// # Where it belongs
/// Outermost, but for what turns errors into responses: a call counts from when it arrives, so all
/// that it may have to wait for is inside. For the same reason the service is always ready, and
/// each call waits in its future for the readiness of a clone of its own; a call that still waits
/// when the drain has ended is not let in any more.
///
/// # What it demands of the inner service
/// `Clone`, an error that can be made from [`Cancelled`], and a request that is a [`Carrier`].
///
/// # Grace
/// It is [`Shutdown::run`]'s, and for all calls. Layers of this crate that are polled inside, in the
/// same task, leave the end of a call to this one while it lasts, so that a
/// [`CancelLayer`](super::CancelLayer) inside does not cut it short; nor does a limit of time that
/// passes within it, so a grace should be short. (A poll that is under way at
/// the very moment when the calls are signalled to stop may miss that, and then ends its call at once.)
///
/// # How it differs from tower's layers and `tokio_util`'s `TaskTracker`
/// Tower has none for this. A `TaskTracker` and a `CancellationToken` can be made to wait for tasks
/// and to signal them; they do not refuse new calls without a gap, bound the waiting, stop what does
/// not heed the signal, or tell what became of each. A server's own graceful shutdown, such as
/// axum's, waits for connections, with no bound: run this one beside it, and it will end.
///
/// # Cancel safety
/// Dropping the response future drops the inner service's clone, or its future, and counts the call
/// as cancelled.
#[derive(Clone, Debug)]
pub struct ShutdownLayer {
    shutdown: Shutdown,
}

impl ShutdownLayer {
    /// Lets calls through until `shutdown` begins.
    #[must_use]
    pub const fn new(shutdown: Shutdown) -> Self {
        Self { shutdown }
    }
}

impl<S> Layer<S> for ShutdownLayer {
    type Service = ShutdownService<S>;

    fn layer(&self, inner: S) -> ShutdownService<S> {
        ShutdownService::new(inner, self.shutdown.clone())
    }
}

/// Lets calls through until a [`Shutdown`] begins; see [`ShutdownLayer`].
#[derive(Clone, Debug)]
pub struct ShutdownService<S> {
    inner: S,
    shutdown: Shutdown,
}

impl<S> ShutdownService<S> {
    /// Lets calls through to `inner` until `shutdown` begins.
    #[must_use]
    pub const fn new(inner: S, shutdown: Shutdown) -> Self {
        Self { inner, shutdown }
    }

    inner_service_accessors!();
}

impl<S, R> Service<R> for ShutdownService<S>
where
    S: Service<R> + Clone,
    S::Error: From<Cancelled>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ShutdownFuture<S, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let ticket = self.shutdown.calls.admit(request.context_mut());
        let stop = ticket.as_ref().map(|ticket| &ticket.calls.drain.stop);
        ShutdownFuture {
            termination: Termination::new(stop.cloned().unwrap_or_default(), None),
            work: if ticket.is_some() {
                ReadyCall::start(&mut self.inner, request)
            } else {
                let call = request.context().and_then(|context| context.call_id);
                let refused = Cancelled::new(Cause::Shutdown)
                    .with_stage(Stage::BeforeStart)
                    .with_call_id(call);
                ReadyCall::Failed {
                    error: Some(refused.into()),
                }
            },
            ticket,
            signalled: false,
        }
    }
}
