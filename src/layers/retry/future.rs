//! One attempt after the other.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, OptionFuture},
};
use pin_project_lite::pin_project;
use tokio::select;
use tower::Service;

use super::policy::{RetryPolicy, pause};
use crate::{
    call::{Cancel, Carrier, Deadline, drop_scope::ReportOnDrop},
    error::costs_in,
    layers::{
        between_attempts::{pending_once, settled_by},
        classify::Classifier,
    },
};

pin_project! {
    /// The response future of [`Retry`](super::Retry).
    pub struct RetryFuture<S, C, R>
    where
        S: Service<R>,
    {
        // `None` once it has failed.
        #[pin]
        pub(super) first: Option<S::Future>,
        // Until the first attempt has failed.
        pub(super) later: Option<LaterAttempts<S, C, R>>,
        pub(super) retried: Option<BoxFuture<'static, Result<S::Response, S::Error>>>,
    }
}

impl<S, C, R> Future for RetryFuture<S, C, R>
where
    S: Service<R, Error: Send + 'static, Future: Send> + Send + 'static,
    C: Classifier<S::Error> + Send + 'static,
    R: Carrier + Clone + Send + 'static,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(first) = this.first.as_mut().as_pin_mut() else {
            let retried = this.retried.as_mut();
            return retried.map_or(Poll::Pending, |call| call.as_mut().poll(cx));
        };
        let error = match ready!(first.poll(cx)) {
            Err(error) => error,
            answer => {
                if let Some(later) = this.later {
                    later.policy.note_answer();
                }
                return Poll::Ready(answer);
            }
        };
        let Some(later) = this.later.take() else {
            return Poll::Ready(Err(error));
        };
        let retried = this.retried.insert(Box::pin(later.run(error).fuse()));
        this.first.set(None);
        retried.as_mut().poll(cx)
    }
}

/// The attempts after the first.
pub(super) struct LaterAttempts<S, C, R> {
    pub(super) service: S,
    pub(super) policy: RetryPolicy<C>,
    /// The node that the work of the last attempt is below; none where nothing waits for its end.
    pub(super) work: Cancel,
    // `None` if there may be no further attempt.
    pub(super) request: Option<R>,
    pub(super) record: ReportOnDrop,
}

impl<S, C, R> LaterAttempts<S, C, R>
where
    S: Service<R, Error: 'static>,
    C: Classifier<S::Error>,
    R: Carrier + Clone,
{
    /// Answers a call whose first attempt failed with `error`.
    async fn run(mut self, mut error: S::Error) -> Result<S::Response, S::Error> {
        while let Some(mut request) = self.request.take() {
            let context = request.context_mut();
            let Some(wait) = self.policy.decide(context, &error) else {
                break;
            };
            match costs_in(&error) {
                Some(spent) => context.follow(spent),
                None => _ = context.open_record(),
            }
            self.record.0.clone_from(&context.record);
            let deadline = context.deadline;
            let begins_by = self.policy.begins_by(context);
            let cancelled = OptionFuture::from(context.cancel.cancelled_owned());
            let ready = async {
                pause(wait).await;
                if !settled_by(&self.work, begins_by).await {
                    return Ok(false);
                }
                poll_fn(|cx| self.service.poll_ready(cx)).await?;
                Ok(!deadline.is_some_and(Deadline::is_past))
            };
            let in_time = select! {
                biased;
                Some(()) = cancelled => false,
                ready = ready => ready?,
            };
            if !in_time {
                pending_once().await;
                break;
            }
            self.request = self.policy.begin_attempt(&request);
            self.work = self.policy.work_node(&mut request);
            match self.service.call(request).await {
                Err(failure) => error = failure,
                answer => {
                    self.policy.note_answer();
                    return answer;
                }
            }
        }
        Err(error)
    }
}

impl<S: Service<R>, C, R> fmt::Debug for RetryFuture<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("failed", &self.first.is_none())
            .finish_non_exhaustive()
    }
}
