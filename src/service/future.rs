//! The future of one prediction.

use std::{
    future::{self, Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument, Span, field};

use super::{
    admission::Permit, program::Program, schema::into_fields, termination::ServiceTermination,
};
use crate::{
    call::{Cause, WorkGuard, termination::Terminated},
    error::{Classify, Error},
    host::core::{
        call_handle::CallHandle,
        call_state::CallStream,
        fault::{Fault, FaultKind},
        host_core::NewCall,
    },
    lm::without_keys,
    request::{PredictRequest, Prediction},
    telemetry::{self, metrics::error_type, names},
};

type Answer = Result<Prediction, Error>;

/// The answer to come of a [`DspyService`](super::DspyService).
///
/// # Cancel safety
/// Dropping it cancels the call: the work in Python is signalled once, its clean-up code runs to its
/// end, and until then the call is counted as in flight.
pub type PredictFuture = BoxFuture<'static, Answer>;

pub(super) fn refused<T: Send + 'static>(error: Error) -> BoxFuture<'static, Result<T, Error>> {
    tracing::debug!(target: "tower_dspy", kind = ?error.kind(), "refused");
    future::ready(Err(error)).fuse().boxed()
}

/// What a call that may run holds until its work has ended.
pub(super) struct AdmittedCall {
    pub(super) permit: Permit,
    pub(super) work: WorkGuard,
}

pub(super) fn submit(
    program: Arc<Program>,
    request: PredictRequest,
    admitted: AdmittedCall,
) -> PredictFuture {
    let (mut running, span) = RunningPrediction::start(program, request, admitted, None);
    let answer = poll_fn(move |cx| running.poll(cx)).instrument(span);
    // Fused, it drops the call and closes the span as soon as it is answered.
    answer.fuse().boxed()
}

/// A prediction that the host runs.
pub(super) struct RunningPrediction {
    pub(super) call: CallHandle,
    program: Arc<Program>,
    pub(super) started: Instant,
    pub(super) termination: ServiceTermination,
    span: Span,
}

impl RunningPrediction {
    /// Hands a call to the host; returns its span as well.
    pub(super) fn start(
        program: Arc<Program>,
        request: PredictRequest,
        AdmittedCall { permit, work }: AdmittedCall,
        stream: Option<CallStream>,
    ) -> (Self, Span) {
        let route = request.route.clone();
        let (inputs, mut context) = request.into_parts();
        let call_id = context.id();
        let started = Instant::now();
        let remaining = context
            .deadline
            .map(|deadline| deadline.remaining_at(started));
        let span = tracing::info_span!(
            target: "tower_dspy",
            names::INVOKE_WORKFLOW,
            { names::SPAN_NAME } = format_args!("invoke_workflow {}", program.name),
            { names::OPERATION } = names::INVOKE_WORKFLOW,
            { names::WORKFLOW_NAME } = %program.name,
            { names::CALL_ID } = call_id.get(),
            { names::ATTEMPT } = context.attempt,
            { names::CHOSEN_LM } = route.lm.as_deref(),
            { names::TIME_LEFT } = remaining.map(|left| left.as_millis() as u64),
            { names::OUTCOME } = field::Empty,
            { names::CAUSE } = field::Empty,
            { names::ERROR_TYPE } = field::Empty,
            { names::STATUS_CODE } = field::Empty,
        );
        telemetry::join(&span, &mut context.trace);
        context.open_record().run_by(&program.name);
        let termination = ServiceTermination::new(&context, started);
        if stream.is_some() {
            // The limit of the time to the first event is not that of the work.
            context.deadline = context.stream_limit().map(|limit| limit.at);
        }
        let call = NewCall {
            context,
            target: program.loaded.id,
            inputs,
            permit: Some(Box::new((permit, program.registrations()))),
            work,
            program: Some(program.counts.clone()),
            route,
            stream,
        };
        let call = span.in_scope(|| program.host.core().submit(call));
        let running = Self {
            call,
            program,
            started,
            termination,
            span: span.clone(),
        };
        (running, span)
    }

    /// The end of a call whose work was signalled to stop: that is the error, and not what the signalled
    /// work answers.
    pub(super) fn stopped(&mut self, ended: Terminated) -> Answer {
        let error = self.termination.error(ended);
        self.end(Err(error))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        // The answer first: what is ready wins the tie with the clock and with a cancel.
        let result = match Pin::new(&mut self.call).poll(cx) {
            Poll::Ready(Some(outcome)) => {
                let signalled = self.termination.signalled();
                let cause = signalled.unwrap_or_else(|| self.program.host.cancel_cause());
                // Work that stopped at its signal ended for the reason of the signal.
                let failed = |fault: Fault| match self.termination.stopped() {
                    Some(stopped) if fault.kind == FaultKind::Cancelled => stopped,
                    _ => self.call.failed(fault, &self.program.name, cause),
                };
                outcome
                    .map_err(failed)
                    .map(|value| answer(value, self.started))
            }
            Poll::Ready(None) => Err(self.call.lost()),
            Poll::Pending => Err(ready!(
                self.termination.poll(cx, |cause| self.call.cancel(cause))
            )),
        };
        Poll::Ready(self.end(result))
    }

    fn end(&mut self, result: Answer) -> Answer {
        if let (Ok(prediction), Some(stream)) = (&result, self.call.stream()) {
            stream.buffer.correct(&prediction.outputs);
        }
        let result = with_costs(&mut self.call, result);
        report(&result, self.started);
        record_end(&self.span, &result);
        result
    }
}

impl Drop for RunningPrediction {
    fn drop(&mut self) {
        if !self.call.is_answered() {
            let cause = self.termination.reason();
            self.call.give_up(cause);
            record_cause(&self.span, cause);
            tracing::debug!(target: "tower_dspy", %cause, "dropped; the work was told to stop");
        }
        // Last: its texts are the partial answer.
        if let Some(stream) = self.call.stream() {
            stream.buffer.clear();
        }
    }
}

/// Puts what the call spent beside its answer, or onto its error.
fn with_costs(call: &mut CallHandle, result: Answer) -> Answer {
    match result {
        Ok(mut prediction) => {
            if let Some(spent) = call.close(Ok(())) {
                let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                prediction.lm_calls_not_kept = count(spent.lm_calls_not_kept);
                prediction.lm_calls_bypassed = count(spent.lm_calls_bypassed);
                prediction.usage = spent.usage;
                prediction.cost = spent.cost;
                prediction.lm_calls = Arc::unwrap_or_clone(spent).lm_calls;
            }
            Ok(prediction)
        }
        Err(error) => {
            let spent = call.close(Err(&error));
            Err(error.with_spent(spent).with_call_id(call.id()))
        }
    }
}

fn answer(outputs: Value, started: Instant) -> Prediction {
    let mut prediction = Prediction::new(into_fields(outputs));
    prediction.elapsed = started.elapsed();
    prediction
}

/// Records in the span of a call how it ended.
fn record_end(span: &Span, result: &Answer) {
    let Err(error) = result else {
        span.record(names::OUTCOME, "completed");
        return;
    };
    match (error_type(error.kind()), error.cancel_cause()) {
        (None, Some(cause)) => record_cause(span, cause),
        (None, None) => {
            span.record(names::OUTCOME, "cancelled");
        }
        (Some("timeout"), _) => {
            span.record(names::OUTCOME, "timed out");
            telemetry::record_error(span, "timeout");
        }
        (Some(error_type), _) => {
            span.record(names::OUTCOME, "failed");
            telemetry::record_error(span, error_type);
        }
    }
}

/// Records in the span of a call that it was told to stop.
fn record_cause(span: &Span, cause: Cause) {
    if matches!(cause, Cause::Elapsed | Cause::Deadline) {
        span.record(names::OUTCOME, "timed out");
        telemetry::record_error(span, "timeout");
    } else {
        span.record(names::OUTCOME, "cancelled");
    }
    span.record(names::CAUSE, cause.as_str());
}

/// The call's one terminal event: what an operator has to know at warn, the rest at debug.
fn report(result: &Answer, started: Instant) {
    let elapsed_ms = started.elapsed().as_millis() as u64;
    match result {
        Ok(_) => tracing::debug!(target: "tower_dspy", elapsed_ms, outcome = "completed"),
        Err(Error::Program(error)) => {
            tracing::warn!(
                target: "tower_dspy",
                elapsed_ms,
                outcome = "failed",
                python_type = error.python_type(),
                raised_at = error.raised_at(),
            );
            // With the message, which may repeat a prompt.
            tracing::debug!(target: "tower_dspy::python", "{}", without_keys(error.traceback()));
        }
        Err(Error::Lm(error)) => tracing::warn!(
            target: "tower_dspy",
            elapsed_ms,
            outcome = "LM failed",
            python_type = error.python_type(),
            status = error.status(),
        ),
        Err(Error::BudgetExceeded(error)) if error.is_unpriced() => tracing::warn!(
            target: "tower_dspy",
            elapsed_ms,
            outcome = "an LM without a known price",
            budget = error.budget(),
        ),
        Err(Error::Lost(error)) => {
            tracing::error!(target: "tower_dspy", elapsed_ms, outcome = "lost", reason = error.reason());
        }
        Err(error) => {
            tracing::debug!(target: "tower_dspy", elapsed_ms, outcome = ?error.kind());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::error::Cancelled;

    #[test]
    fn a_refusal_may_be_polled_again() {
        let mut call = task::spawn(refused::<()>(Cancelled::new(Cause::Shutdown).into()));
        assert!(assert_ready!(call.poll()).is_err());
        assert_pending!(call.poll());
    }
}
