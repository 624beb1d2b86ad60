//! The service of the fallback layer.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{FallbackFuture, FallbackLayer, FallbackStrategy};
use crate::{
    call::{CallContext, Carrier, Limit, Scope, drop_scope::ReportOnDrop},
    error::{Elapsed, carries_costs},
    layers::{
        classify::{ByClassify, Classifier},
        guard::{Guard, ReadyCall},
    },
};

impl<S, A: Clone, C: Clone> Layer<S> for FallbackLayer<A, C> {
    type Service = Fallback<S, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback {
            inner,
            config: self.clone(),
        }
    }
}

/// Answers calls that failed with something else; see [`FallbackLayer`].
#[derive(Clone, Debug)]
pub struct Fallback<S, A, C = ByClassify> {
    inner: S,
    config: FallbackLayer<A, C>,
}

impl<S, A> Fallback<S, A> {
    /// Asks `inner`, and `strategy` if that fails.
    pub const fn new(inner: S, strategy: A) -> Self {
        Self {
            inner,
            config: FallbackLayer::new(strategy),
        }
    }
}

impl<S, A, C> Fallback<S, A, C> {
    inner_service_accessors!();
}

impl<S, A, C, R> Service<R> for Fallback<S, A, C>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed> + 'static,
    A: FallbackStrategy<R, S::Response, S::Error> + Clone,
    C: Classifier<S::Error> + Clone,
    R: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S, A, C, R>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let FallbackLayer {
            strategy,
            kinds,
            reserve,
            after_settled,
            classify,
        } = &self.config;
        let context = request.context_mut();
        context.id();
        if !carries_costs::<S::Error>() {
            context.open_record();
        }
        let kept = strategy.keep(&request);
        let context = request.context_mut();
        let call = context.id();
        let (cancel, record) = (context.cancel.clone(), context.record.clone());
        let waits_until = context.wait_limit();
        let work = after_settled.then(|| {
            context.cancel = cancel.child();
            context.cancel.clone()
        });
        let guard = match reserved(context, *reserve) {
            Some(limit) => Guard::enforce(limit, None, context.enclosing(), context),
            None => Guard::unlimited(),
        };
        FallbackFuture {
            first: ReadyCall::start(&mut self.inner, request),
            guard,
            strategy: Some((strategy.clone(), kept)),
            failed: None,
            work,
            waits_until,
            settling: None,
            fallback: None,
            kinds: *kinds,
            classify: classify.clone(),
            cancel,
            call,
            record: ReportOnDrop(record),
        }
    }
}

/// What is left of the deadline less `reserve`, or less half of what is left.
fn reserved(context: &CallContext, reserve: Duration) -> Option<Limit> {
    if reserve.is_zero() {
        return None;
    }
    let deadline = context.deadline?;
    let since = Instant::now();
    let kept = reserve.min(deadline.remaining_at(since) / 2);
    // Where nothing can be divided, the deadline stays in force.
    (!kept.is_zero()).then(|| Limit {
        at: deadline.earlier_by(kept),
        scope: Scope::Reserve,
        since,
        grace: Duration::ZERO,
    })
}
