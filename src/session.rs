//! [`Session`]: one deadline and one cancellation over many calls.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tower::{Layer, Service};

use crate::{
    call::{CallContext, Cancel, Carrier, Cause, Deadline},
    error::{Cancelled, Elapsed},
    layers::{CancelLayer, CancelService, DeadlineFuture, DeadlineLayer, DeadlineService},
};

/// One deadline and one cancellation over many calls, of one service or several.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceExt, service_fn};
/// use tower_dspy::{Cause, Error, PredictRequest, Prediction, Session};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let program = service_fn(|_: PredictRequest| async {
///     tokio::time::sleep(Duration::from_secs(5)).await;
///     Ok::<_, Error>(Prediction::new(Default::default()))
/// });
///
/// let session = Session::within(Duration::from_secs(60));
/// let program = session.wrap(program);
/// for _ in 0..10 {
///     let request = PredictRequest::new(serde_json::json!({"question": "..."}));
///     program.clone().oneshot(request).await.unwrap();
/// }
/// assert_eq!(session.remaining(), Some(Duration::from_secs(10)));
///
/// // The end of the session ends the calls that run, and refuses later ones.
/// session.cancel(Cause::ClientGone);
/// let result = program.oneshot(PredictRequest::new(serde_json::json!({}))).await;
/// assert!(matches!(result, Err(Error::Cancelled(_))));
/// # }
/// ```
///
/// Clones are the same session. For plain futures there is
/// [`DeadlineExecutor`](crate::patterns::DeadlineExecutor).
#[derive(Clone, Debug)]
pub struct Session {
    deadline: Option<Deadline>,
    cancel: Cancel,
}

impl Session {
    /// A session that ends only when it is cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self {
            deadline: None,
            cancel: Cancel::new(),
        }
    }

    /// A session that ends `limit` from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self::until(Deadline::within(limit))
    }

    /// A session that ends at `deadline`.
    #[must_use]
    pub fn until(deadline: impl Into<Deadline>) -> Self {
        Self {
            deadline: Some(deadline.into()),
            ..Self::new()
        }
    }

    /// A session within a call that arrived with this context: its deadline and its cancellation.
    #[must_use]
    pub fn of(context: &CallContext) -> Self {
        Self {
            deadline: context.deadline,
            cancel: context.cancel.child(),
        }
    }

    /// Lets `cancel`, or a plain `CancellationToken`, end the session too.
    ///
    /// It makes another session, with the same deadline.
    #[must_use]
    pub fn with_cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.cancel = cancel.into().child();
        self
    }

    /// When the session ends.
    #[must_use]
    pub const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// What is left of it: zero when it has passed, `None` without a deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(Deadline::remaining)
    }

    /// Ends the session and all its calls. Returns whether this call decided the cause.
    pub fn cancel(&self, cause: Cause) -> bool {
        self.cancel.cancel(cause)
    }

    /// Whether it was cancelled or its deadline has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(Deadline::is_past)
    }

    /// The context for a call in this session, such as for
    /// [`PredictRequest::with_context`](crate::PredictRequest::with_context); with a node of its
    /// own, so cancelling the call leaves the session alone.
    #[must_use]
    pub fn context(&self) -> CallContext {
        let mut context = CallContext::new();
        context.deadline = self.deadline;
        context.cancel = self.cancel.child();
        context
    }

    /// Puts each call of a service into this session.
    #[must_use]
    pub fn layer(&self) -> SessionLayer {
        SessionLayer {
            session: self.clone(),
        }
    }

    /// `service`, with each call in this session: [`layer`](Self::layer), applied.
    pub fn wrap<S>(&self, service: S) -> SessionService<S> {
        self.layer().layer(service)
    }
}

/// Without a deadline.
impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts each call into a [`Session`]: it ends with the session, at the latest.
///
/// A call's own deadline and cancellation still hold. It is a [`DeadlineLayer`] around a
/// [`CancelLayer`].
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Error, Scope, Session, SessionLayer, WithContext};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let session = Session::within(Duration::from_secs(60));
/// let service = ServiceBuilder::new()
///     .layer(SessionLayer::new(session.clone()))
///     .service_fn(|seconds: WithContext<u64>| async move {
///         tokio::time::sleep(Duration::from_secs(seconds.request)).await;
///         Ok::<_, Error>("done")
///     });
///
/// assert!(service.clone().oneshot(WithContext::new(40)).await.is_ok());
/// let error = service.oneshot(WithContext::new(40)).await.unwrap_err();
/// assert!(matches!(error, Error::Elapsed(elapsed) if elapsed.scope() == Scope::Deadline));
/// assert!(session.is_over());
/// # }
/// ```
///
/// # What it demands of the inner service
/// `Clone`, an error that can be made from [`Elapsed`] and [`Cancelled`], and a request that is a
/// [`Carrier`]. The service is always ready: each call waits, within the session, for a clone of the
/// inner service.
///
/// # How it differs from tower's layers
/// tower has none for this: its `Timeout` begins anew with each call.
///
/// # Panics
/// In a session with a deadline, the future panics if it has to wait outside a tokio runtime with its
/// timer enabled.
///
/// # Cancel safety
/// Dropping the response future drops the inner service that it waits for, or its future, and leaves
/// the session alone.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    session: Session,
}

impl SessionLayer {
    /// Puts each call into `session`.
    #[must_use]
    pub const fn new(session: Session) -> Self {
        Self { session }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        let Session { deadline, cancel } = &self.session;
        let inner = CancelLayer::new().with_token(cancel).layer(inner);
        SessionService {
            deadline: *deadline,
            inner: DeadlineLayer::from_context().layer(inner),
        }
    }
}

/// A service whose calls are in a session; see [`SessionLayer`].
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    deadline: Option<Deadline>,
    inner: DeadlineService<CancelService<S>>,
}

impl<S> SessionService<S> {
    /// Puts each call of `inner` into `session`.
    #[must_use]
    pub fn new(inner: S, session: &Session) -> Self {
        session.wrap(inner)
    }

    /// The inner service, of which each call gets a clone.
    pub const fn get_ref(&self) -> &S {
        self.inner.get_ref().get_ref()
    }

    /// The inner service, mutably.
    pub const fn get_mut(&mut self) -> &mut S {
        self.inner.get_mut().get_mut()
    }

    /// Gives the inner service back.
    pub fn into_inner(self) -> S {
        self.inner.into_inner().into_inner()
    }
}

impl<S, R> Service<R> for SessionService<S>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed> + From<Cancelled>,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<CancelService<S>, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        if let Some(deadline) = self.deadline {
            request.context_mut().limit(deadline);
        }
        self.inner.call(request)
    }
}
