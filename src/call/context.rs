//! What travels with a request.

use std::sync::Arc;

use tokio::time::Instant;

use crate::call::{
    Budget, Budgets, CallId, Cancel, Deadline, Enclosing, Limit, Progress, RemainingBudget, Scope,
    Spent, TraceContext, record::CallRecord,
};

/// What a log line says about a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallTag {
    pub(crate) call: Option<CallId>,
    pub(crate) attempt: u32,
}

impl CallTag {
    #[inline]
    pub(crate) const fn of(context: &CallContext) -> Self {
        Self {
            call: context.call_id,
            attempt: context.attempt,
        }
    }
}

/// The limits and the identity of one call, on its way inward through the layers.
///
/// The default is a call without limits; it allocates nothing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallContext {
    /// The tightest limit so far. A layer may only make it earlier.
    pub deadline: Option<Deadline>,
    /// When the answer of an LM call has to have content, if that is limited by itself.
    pub(crate) content_by: Option<Deadline>,
    /// The node that stops this call.
    pub cancel: Cancel,
    /// The call's id, given by the first that asks with [`id`](Self::id).
    pub call_id: Option<CallId>,
    /// How many attempts came before this one: 0 for the first.
    pub attempt: u32,
    /// The trace that the call is part of, and the span in it that the call is made in: that of the
    /// client, or with the feature `otel` the innermost span of this crate.
    pub trace: Option<Arc<TraceContext>>,
    /// The record of the call, which all its attempts write into; none until a layer or the service
    /// opens it.
    pub(crate) record: Option<Arc<CallRecord>>,
    /// The limit that an enclosing layer enforces; the deadline may be earlier.
    enforced: Option<Limit>,
    /// The deadline of a stream as a whole, where that of the call ends with the response.
    stream_deadline: Option<Option<Deadline>>,
    /// The limit of a stream from the call to its end.
    stream_total: Option<StreamLimit>,
    /// The budgets that its LM calls are charged to.
    pub(crate) budgets: Budgets,
    /// The progress of the call, for the enclosing layers that look.
    pub(crate) progress: Progress,
}

impl CallContext {
    /// A context without limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: None,
            content_by: None,
            cancel: Cancel::none(),
            call_id: None,
            attempt: 0,
            trace: None,
            record: None,
            enforced: None,
            stream_deadline: None,
            stream_total: None,
            budgets: Budgets::none(),
            progress: Progress::none(),
        }
    }

    /// The call's id; the same for each attempt of a call.
    #[inline]
    pub fn id(&mut self) -> CallId {
        *self.call_id.get_or_insert_with(CallId::next)
    }

    /// Lets the attempt that is to follow go on with the record of the one that `spent` this, so
    /// that its answer or its error has the costs of both.
    pub fn follow(&mut self, spent: &Spent) {
        CallRecord::follow(&mut self.record, spent);
    }

    /// Charges the LM calls of this call to `budget` as well.
    pub fn add_budget(&mut self, budget: &Budget) {
        self.budgets.add(budget);
    }

    /// What is left for LM calls, the least of all budgets of this call; `None` without a budget.
    #[must_use]
    pub fn remaining_budget(&self) -> Option<RemainingBudget> {
        self.budgets.remaining()
    }

    /// The call's record, opened if there is none yet.
    pub(crate) fn open_record(&mut self) -> &Arc<CallRecord> {
        self.record.get_or_insert_with(CallRecord::open)
    }

    /// Makes the deadline `deadline` if that is earlier, and returns the deadline in force.
    #[inline]
    pub fn limit(&mut self, deadline: Deadline) -> Deadline {
        let merged = self
            .deadline
            .map_or(deadline, |outer| outer.earlier(deadline));
        self.deadline = Some(merged);
        if self.stream_deadline.is_some() {
            self.limit_stream(deadline);
        }
        merged
    }

    /// When a wait before another attempt has to be over, so that there is time for the attempt.
    #[inline]
    pub(crate) fn wait_limit(&self) -> Option<Deadline> {
        self.deadline.into_iter().chain(self.content_by).min()
    }

    /// Puts a limit in force that the caller enforces from here on, until the response. A stream that
    /// goes on after it keeps the deadline that it had.
    #[inline]
    pub(crate) fn enforce(&mut self, limit: Limit) {
        self.keep_stream_deadline();
        self.deadline = Some(limit.at);
        self.enforced = Some(limit);
    }

    #[inline]
    fn keep_stream_deadline(&mut self) -> &mut Option<Deadline> {
        self.stream_deadline.get_or_insert(self.deadline)
    }

    /// Makes the deadline of a stream as a whole `deadline`, if that is earlier or it has none.
    pub(crate) fn limit_stream(&mut self, deadline: Deadline) {
        let own = self.keep_stream_deadline();
        *own = Some(own.map_or(deadline, |outer| outer.earlier(deadline)));
    }

    /// Lets the deadlines so far end with the response. The limits of streams stay.
    pub(crate) fn limit_until_response(&mut self) {
        self.stream_deadline = Some(None);
    }

    /// Limits the time of a stream from the call to its end.
    pub(crate) fn limit_stream_total(&mut self, limit: &Limit) {
        if self.stream_total.is_none_or(|total| limit.at < total.at) {
            self.stream_total = Some(StreamLimit {
                at: limit.at,
                scope: limit.scope,
                since: Some(limit.since),
            });
        }
    }

    /// The deadline of a stream as a whole.
    pub(crate) fn stream_deadline(&self) -> Option<Deadline> {
        self.stream_deadline.unwrap_or(self.deadline)
    }

    /// What ends a stream as a whole.
    #[cfg(any(feature = "_host", feature = "test-util", feature = "tonic", test))]
    pub(crate) fn stream_limit(&self) -> Option<StreamLimit> {
        let deadline = self.stream_deadline().map(|at| StreamLimit {
            at,
            scope: Scope::Deadline,
            since: None,
        });
        // Of two at one instant the deadline is named.
        match (deadline, self.stream_total) {
            (Some(deadline), Some(total)) if total.at < deadline.at => Some(total),
            (deadline, total) => deadline.or(total),
        }
    }

    /// The limit of this attempt; `None` if only the deadline of the call limits it.
    #[cfg(feature = "_host")]
    pub(crate) fn attempt_limit(&self) -> Option<Deadline> {
        let own = self
            .enforced
            .filter(|limit| limit.scope != Scope::Deadline)?;
        self.deadline.filter(|deadline| *deadline == own.at)
    }

    /// What the enclosing layers enforce.
    #[inline]
    pub(crate) fn enclosing(&self) -> Enclosing {
        Enclosing::new(self.enforced, self.deadline, &self.cancel)
    }
}

/// What ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamLimit {
    pub(crate) at: Deadline,
    /// The name that its error gives it.
    pub(crate) scope: Scope,
    /// When the layer that set it got the call, if it is a layer's.
    pub(crate) since: Option<Instant>,
}

/// A request that holds a [`CallContext`].
///
/// Implemented for [`PredictRequest`](crate::PredictRequest), [`WithContext`] and
/// [`http::Request`], and with the feature `tonic` for `tonic::Request`. Layers of axum and tonic
/// see an `http::Request`, whose context lies in its extensions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no `CallContext`",
    note = "wrap the request: `tower_dspy::WithContext::new(request)`"
)]
pub trait Carrier {
    /// The context, if the request has one yet.
    fn context(&self) -> Option<&CallContext>;

    /// The context, put in with its default value if the request has none yet.
    fn context_mut(&mut self) -> &mut CallContext;
}

impl<B> Carrier for http::Request<B> {
    fn context(&self) -> Option<&CallContext> {
        self.extensions().get()
    }

    fn context_mut(&mut self) -> &mut CallContext {
        self.extensions_mut().get_or_insert_default()
    }
}

#[cfg(feature = "tonic")]
impl<T> Carrier for tonic::Request<T> {
    fn context(&self) -> Option<&CallContext> {
        self.extensions().get()
    }

    fn context_mut(&mut self) -> &mut CallContext {
        self.extensions_mut().get_or_insert_default()
    }
}

/// Any request, with a context beside it.
#[derive(Clone, Debug, Default)]
pub struct WithContext<T> {
    /// The request itself.
    pub request: T,
    /// Its context.
    pub context: CallContext,
}

impl<T> WithContext<T> {
    /// The request with a context without limits.
    pub const fn new(request: T) -> Self {
        Self {
            request,
            context: CallContext::new(),
        }
    }
}

impl<T> Carrier for WithContext<T> {
    fn context(&self) -> Option<&CallContext> {
        Some(&self.context)
    }

    fn context_mut(&mut self) -> &mut CallContext {
        &mut self.context
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_only_tightens() {
        let mut context = CallContext::new();
        let loose = Deadline::within(Duration::from_secs(9));
        let tight = Deadline::within(Duration::from_secs(3));
        assert_eq!(context.limit(loose), loose);
        assert_eq!(context.limit(tight), tight);
        assert_eq!(context.limit(loose), tight);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_an_attempt_does_not_limit_a_stream() {
        let at = |secs| Deadline::within(Duration::from_secs(secs));
        let limit = |scope, secs| Limit {
            at: at(secs),
            scope,
            since: Instant::now(),
            grace: Duration::ZERO,
        };
        let stream = |context: &CallContext| {
            let limit = context.stream_limit()?;
            Some((limit.at, limit.scope))
        };
        let deadline = |secs| Some((at(secs), Scope::Deadline));
        let mut context = CallContext::new();
        context.limit(at(9));
        assert_eq!(stream(&context), deadline(9));
        context.enforce(limit(Scope::Attempt, 3));
        // What is left of an attempt, not of the call.
        context.enforce(limit(Scope::Deadline, 2));
        assert_eq!(
            (context.deadline, stream(&context)),
            (Some(at(2)), deadline(9))
        );
        context.limit_stream_total(&limit(Scope::Total, 8));
        context.limit_stream_total(&limit(Scope::Total, 10));
        assert_eq!(stream(&context), Some((at(8), Scope::Total)));
        context.limit_stream(at(8));
        assert_eq!(stream(&context), deadline(8));
        context.limit_until_response();
        assert_eq!(context.deadline, Some(at(2)));
        assert_eq!(stream(&context), Some((at(8), Scope::Total)));
        context.limit(at(1));
        assert_eq!(stream(&context), deadline(1));
    }

    #[test]
    fn a_call_id_is_set_once() {
        let mut context = CallContext::new();
        let id = context.id();
        assert_eq!(context.clone().id(), id);
        assert_ne!(CallContext::new().id(), id);
    }

    #[test]
    fn an_http_request_carries_a_context_in_its_extensions() {
        let mut request = http::Request::new(());
        assert!(request.context().is_none());
        request.context_mut().attempt = 2;
        assert_eq!(request.context().map(|context| context.attempt), Some(2));
    }
}
