//! [`CancelLayer`]: ends a call that nobody wants any more.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service};

use super::guard::{CancelAlarm, Guard, GuardedFuture, ReadyCall};
use crate::{
    call::{CallTag, Cancel, Carrier},
    error::Cancelled,
};

/// Ends a call as soon as it is cancelled.
///
/// It watches the node in the request's context, and a [token](Self::with_token) of its own if it
/// has one. A call that is already cancelled is answered with [`Cancelled`] without calling the
/// inner service; one that is cancelled later is stopped: the inner future is dropped at once, with
/// the node's cause as the one that [`drop_scope`](crate::drop_scope) tells, and the answer is
/// [`Cancelled`] with that cause. An answer that is ready when the cancellation is seen wins.
///
/// ```
/// use std::time::Duration;
/// use tokio_util::sync::CancellationToken;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{CancelLayer, Cause, Error, PredictRequest, Prediction};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(CancelLayer::new())
///     .service_fn(|_: PredictRequest| async {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>(Prediction::new(Default::default()))
///     });
///
/// let token = CancellationToken::new();
/// let request = PredictRequest::new(serde_json::json!({})).with_cancel(token.clone());
/// let (answer, ()) = tokio::join!(service.oneshot(request), async { token.cancel() });
/// assert!(matches!(
///     answer,
///     Err(Error::Cancelled(cancelled)) if cancelled.cause() == Cause::Caller
/// ));
/// # }
/// ```
///
/// # Where it belongs
/// Around a retry and its backoff, or a cancel during the backoff is seen only once that has ended.
/// For the same reason it covers the wait for readiness: the service is always ready, and a call
/// whose service is not takes it along and waits, cancellable, leaving a clone in its place.
///
/// # What it demands of the inner service
/// `Clone`, an error that can be made from [`Cancelled`], and a request that is a [`Carrier`].
///
/// # Grace
/// [`with_grace`](Self::with_grace) gives the work time to clean up. The signal is the cancelled
/// node itself, which the inner service finds in the request's context; the inner future is polled
/// on until it is done or the grace has ended, and the outcome is [`Cancelled`] either way. A call
/// that still waits for the service gets no grace. When an outer
/// [`DeadlineLayer`](super::DeadlineLayer) or [`TimeoutLayer`](super::TimeoutLayer) cancels the call
/// and gives it a grace, this layer leaves the end to that one.
///
/// # How it differs from tower's layers
/// Tower has none for this. Dropping the response future cancels a call too; a token does it from
/// elsewhere, says why, and leaves the caller with an answer. A call without a token costs nothing.
///
/// # Panics
/// With a grace, the future panics if it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the inner service that it waits for, or its future, and
/// cancels no node.
#[derive(Clone, Debug, Default)]
pub struct CancelLayer {
    token: Cancel,
    grace: Duration,
}

impl CancelLayer {
    /// Ends each call when the node in its own context is cancelled.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            token: Cancel::none(),
            grace: Duration::ZERO,
        }
    }

    /// Ends all calls through this layer when `token` is cancelled, besides each by its own node.
    ///
    /// Each call gets a node of its own below `token` or its own node, which costs allocations.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<Cancel>) -> Self {
        self.token = token.into();
        self
    }

    /// Lets the work clean up for as long as `grace` after the cancellation. Zero is none.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Watches the node of a call, and the token of this layer.
    fn guard(&self, request: &mut impl Carrier) -> Guard<CancelAlarm> {
        let shared = &self.token;
        let node = match request.context() {
            Some(context) => context.cancel.clone(),
            None => Cancel::none(),
        };
        if let Some(cause) = node.cause().or_else(|| shared.cause()) {
            return Guard::none(CallTag::of(request.context_mut())).refusing(cause);
        }
        if !node.is_some() && !shared.is_some() {
            return Guard::none(CallTag::default());
        }
        let context = request.context_mut();
        let mut also = None;
        if shared.is_some() {
            // The call must not be able to cancel what it shares: it gets a node of its own.
            if node.is_some() {
                context.cancel = node.child_sharing(shared);
                also = Some(shared.clone());
            } else {
                context.cancel = shared.child();
            }
        }
        Guard::watch(also, self.grace, context)
    }
}

impl<S> Layer<S> for CancelLayer {
    type Service = CancelService<S>;

    fn layer(&self, inner: S) -> CancelService<S> {
        CancelService {
            inner,
            config: self.clone(),
        }
    }
}

/// Ends a call as soon as it is cancelled; see [`CancelLayer`].
#[derive(Clone, Debug)]
pub struct CancelService<S> {
    inner: S,
    config: CancelLayer,
}

impl<S> CancelService<S> {
    /// Ends each call of `inner` when the node in its own context is cancelled.
    #[must_use]
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            config: CancelLayer::new(),
        }
    }

    inner_service_accessors!();
}

impl<S, R> Service<R> for CancelService<S>
where
    S: Service<R> + Clone,
    S::Error: From<Cancelled>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CancelFuture<S, R>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let guard = self.config.guard(&mut request);
        GuardedFuture::new(guard, || ReadyCall::start(&mut self.inner, request))
    }
}

/// The response future of [`CancelService`].
pub type CancelFuture<S, R> = GuardedFuture<ReadyCall<S, R>, CancelAlarm>;
