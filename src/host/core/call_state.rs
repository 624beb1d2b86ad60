//! The state of one call, which the caller's side and Python's side share.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::{runtime::Handle, task::AbortHandle, time::Instant};
use tracing::Span;

use super::{
    call_progress::CallProgress, call_totals::CallTotals, counters::HostCounters, fault::Fault,
    program_counts::ProgramCounts, stream_buffer::StreamBuffer,
};
use crate::{
    call::{
        CallContext, Cause, ErrorKind, LmOutcome, Spent, Usd, WorkGuard,
        record::{AttemptRecord, CallRecord},
    },
    request::Route,
    telemetry::{
        self,
        metrics::{self, error_type},
    },
};

/// The outcome of a call.
pub(crate) type Outcome = Result<Value, Fault>;

/// What a call holds until all its work has ended: of a program the permit of its service and the
/// registrations of its LMs and tools, of a function the registrations. It is only dropped.
pub(crate) type CallPermit = Option<Box<dyn Send>>;

/// The fields that a reader chose, by the names of their predictors; `None` for the usual ones.
pub(crate) type ChosenFields = Option<Arc<[(String, String)]>>;

/// What is left of budgets, as Python reads it.
pub(crate) type BudgetLeft = (Option<u64>, Option<f64>, bool);

/// How many calls of Python's tools have spans at once.
const MOST_TOOL_SPANS: usize = 64;

/// The stream of a call whose answer is read as it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallStream {
    pub(crate) buffer: Arc<StreamBuffer>,
    pub(crate) chosen: ChosenFields,
}

/// Why a call came to no answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallFailure {
    /// Why it was ended; `None` for an error of its own.
    pub(crate) cause: Option<Cause>,
    /// The kind of its error; `None` if its future was dropped.
    pub(crate) kind: Option<ErrorKind>,
}

impl CallFailure {
    /// The type of the error in metrics; a cancel that was meant is none.
    fn error_type(self) -> Option<&'static str> {
        match (self.cause, self.kind) {
            (Some(Cause::Elapsed | Cause::Deadline), _) => Some("timeout"),
            (_, kind) => error_type(kind?),
        }
    }
}

/// The state of a call. Each step is taken once, by the side that comes first.
pub(crate) struct CallState {
    pub(crate) context: CallContext,
    pub(crate) route: Route,
    /// `None` if nobody reads the answer before it is whole.
    pub(crate) stream: Option<CallStream>,
    /// The call's attempt in its record.
    pub(crate) attempt: Arc<AttemptRecord>,
    pub(super) counters: Arc<HostCounters>,
    totals: Arc<CallTotals>,
    program: Option<Arc<ProgramCounts>>,
    progress: Mutex<CallProgress>,
}

impl CallState {
    pub(super) fn new(
        mut context: CallContext,
        work: WorkGuard,
        route: Route,
        stream: Option<CallStream>,
        program: Option<Arc<ProgramCounts>>,
        counters: Arc<HostCounters>,
    ) -> Arc<Self> {
        // LM calls and tools get copies of the context. Without the record in it, their attempts are
        // not counted as attempts of this call.
        let record = context.record.take().unwrap_or_else(CallRecord::open);
        let name = record.name().unwrap_or_default();
        let totals = CallTotals::of_attempt(counters.clone(), name);
        let attempt = AttemptRecord::new(record, context.attempt, Some(totals.clone()));
        attempt.limit(context.attempt_limit());
        Arc::new(Self {
            attempt,
            context,
            route,
            stream,
            counters,
            totals,
            program,
            progress: Mutex::new(CallProgress::new(work)),
        })
    }

    fn progress(&self) -> MutexGuard<'_, CallProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The span of the service's call; none once the call is settled.
    pub(crate) fn span(&self) -> Span {
        self.progress().span.clone()
    }

    /// Keeps the span of a call of one of Python's tools until its end, or that of all work.
    pub(super) fn keep_tool_span(&self, number: u64, span: Span) {
        let mut progress = self.progress();
        if !progress.settled && progress.tools.len() < MOST_TOOL_SPANS {
            progress.tools.insert(number, span);
        }
    }

    /// Takes the span of a call of one of Python's tools.
    pub(super) fn take_tool_span(&self, number: u64) -> Option<Span> {
        self.progress().tools.remove(&number)
    }

    /// Whether a limit of time ended the call.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.attempt.stopped() == Some(LmOutcome::Elapsed)
    }

    /// Counts the start; false if the call was cancelled while it waited.
    pub(super) fn begin(&self) -> bool {
        let mut progress = self.progress();
        if progress.cancelled {
            return false;
        }
        progress.started = true;
        self.counters.lock().running += 1;
        true
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.progress().cancelled
    }

    /// The buffer of the call's stream; `None` if nobody reads it, or once the call is cancelled: what
    /// its clean-up reports is not part of the answer.
    pub(crate) fn stream_buffer(&self) -> Option<&StreamBuffer> {
        let stream = self.stream.as_ref()?;
        (!self.is_cancelled()).then_some(&*stream.buffer)
    }

    /// Whether the call may call no LM any more.
    pub(crate) fn is_over(&self) -> bool {
        self.progress().is_over()
    }

    /// The caller has its outcome, or has given up waiting: work that goes on is an orphan, and its
    /// exchanges are aborted, without an event for Python. Returns whether that is so for the first time.
    pub(crate) fn set_answered(&self) -> bool {
        let mut progress = self.progress();
        if !progress.answered && !progress.settled {
            progress.orphan = Some(self.counters.orphan());
        }
        progress.exchanges.abort_all();
        !mem::replace(&mut progress.answered, true)
    }

    /// All work of the call has ended, these strays that it left behind among it.
    pub(crate) fn settle(&self, strays: &[String]) {
        // Dropped after the lock, as the subscriber may be told that they end.
        let (mut span, mut tools) = (Span::none(), BTreeMap::new());
        let mut progress = self.progress();
        mem::swap(&mut progress.span, &mut span);
        mem::swap(&mut progress.tools, &mut tools);
        if !mem::replace(&mut progress.settled, true) {
            // Before the call counts as settled: with none running there is no orphan.
            progress.orphan = None;
            {
                let mut counted = self.counters.lock();
                counted.settled += 1;
                counted.running -= u64::from(progress.started);
            }
            // Outside of the lock: it wakes those that wait, and a recorder is foreign code.
            drop(progress);
            telemetry::end(&span);
            self.end_work(strays);
        }
    }

    /// Reports the end of the call's work to those who wait for it. Without a settlement it stays
    /// counted as running: its loop has stopped, and no code of it will run.
    pub(crate) fn end_work(&self, strays: &[String]) {
        let work = self.progress().work.take();
        if work.is_none() {
            return;
        }
        if let Some(since_stop) = self.attempt.settled(strays) {
            metrics::attempt_settled(self.totals.program(), since_stop);
        }
        // Last: once the work below its node has ended, the call is settled everywhere.
        drop(work);
    }

    /// Closes the attempt, with an answer, with an error of its own or because of a cause. Returns
    /// what the call spent, its earlier attempts included; `None` if that is nothing.
    pub(super) fn close(&self, end: Result<(), CallFailure>) -> Option<Arc<Spent>> {
        if let Some(stream) = &self.stream {
            // Closed first: the partial answer has all that a reader can get.
            stream.buffer.close();
            if end.is_err() {
                self.attempt.streamed(stream.buffer.texts());
            }
        }
        let (end, error) = match end {
            Ok(()) => (Ok(()), None),
            Err(failure) => (Err(failure.cause), failure.error_type()),
        };
        if let Some(closed) = self.attempt.close(end) {
            if end.is_err() {
                let lm = &mut self.counters.lock().lm;
                lm.wasted_tokens = lm.wasted_tokens.saturating_add(closed.tokens);
                lm.partials += u64::from(closed.partial);
            }
            self.totals.close(end.is_ok());
            metrics::attempt_ended(self.totals.program(), closed.took, error);
        }
        self.attempt.record().spent()
    }

    /// W3C's headers of the trace that the call is part of.
    pub(crate) fn trace_headers(&self) -> Option<BTreeMap<String, String>> {
        self.context.trace.as_ref().map(|trace| trace.to_map())
    }

    /// What is left of the call's budgets: tokens, US dollars, and whether the program is to come to an
    /// end. `None` without a budget.
    pub(crate) fn remaining_budget(&self) -> Option<BudgetLeft> {
        let left = self.context.remaining_budget()?;
        Some((left.tokens, left.usd.map(Usd::as_f64), left.wrap_up))
    }

    /// Records an LM call of the program that the host does not carry.
    pub(crate) fn record_bypass(&self, lm: &str) {
        self.counters.lock().lm.bypassed += 1;
        self.attempt.bypassed();
        if let Some(program) = &self.program {
            program.count_bypass(lm);
        }
    }

    /// Starts an exchange, unless the call may not have one any more. After an abort the LM runtime
    /// drops the exchange, which closes its connection; see `LmClient`, Cancel safety.
    pub(super) fn begin_exchange(
        &self,
        exchange: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) -> Option<AbortHandle> {
        // Under the lock, so that a cancel comes before all of this or after it.
        let mut progress = self.progress();
        if progress.is_over() {
            return None;
        }
        // Those that have ended are forgotten.
        while progress.exchanges.try_join_next().is_some() {}
        Some(progress.exchanges.spawn_on(exchange, runtime))
    }

    /// Cancels the call because of `cause`, where that is known; true the first time, when Python is to
    /// be signalled. A call that is answered, or settled, is left alone.
    ///
    /// From then on no LM call begins and no event is delivered: an error would let a program that
    /// catches exceptions go on before the signal reaches it. The connections close soon after.
    pub(crate) fn cancel(&self, cause: Option<Cause>) -> bool {
        self.cancel_after(cause, || ())
    }

    /// The same; the first time, `note` runs before the call's code can see it. It runs under the call's
    /// lock, and may not use the call.
    pub(super) fn cancel_after(&self, cause: Option<Cause>, note: impl FnOnce()) -> bool {
        let mut progress = self.progress();
        if progress.answered || progress.settled || progress.cancelled {
            return false;
        }
        note();
        progress.cancelled = true;
        // The cause first: an exchange that is aborted records it.
        if let Some(cause) = cause {
            let drops_at = self.context.enclosing().drops_at(Instant::now());
            self.attempt.stop(cause, drops_at);
        }
        progress.exchanges.abort_all();
        self.counters.lock().cancelled += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> (Arc<HostCounters>, Arc<CallState>) {
        let counters = HostCounters::new(0);
        let (context, route) = (CallContext::new(), Route::default());
        let call = CallState::new(
            context,
            WorkGuard::default(),
            route,
            None,
            None,
            counters.clone(),
        );
        (counters, call)
    }

    fn orphans_and_settled(counters: &HostCounters) -> (u64, u64) {
        let counted = counters.lock();
        (counted.orphans, counted.settled)
    }

    #[test]
    fn an_answered_call_is_an_orphan_until_it_is_settled() {
        let (counters, call) = call();
        call.set_answered();
        call.set_answered();
        assert_eq!(orphans_and_settled(&counters), (1, 0));
        call.settle(&[]);
        call.settle(&[]);
        assert_eq!(orphans_and_settled(&counters), (0, 1));
    }

    #[test]
    fn a_call_that_settles_before_its_answer_is_no_orphan() {
        let (counters, call) = call();
        call.settle(&[]);
        call.set_answered();
        assert_eq!(orphans_and_settled(&counters), (0, 1));
        assert!(call.is_over() && !call.is_cancelled());
    }

    #[test]
    fn a_call_is_cancelled_once_and_not_when_it_is_answered_or_settled() {
        let (counters, call) = call();
        assert!(call.cancel(None));
        assert!(!call.cancel(None));
        assert_eq!(counters.lock().cancelled, 1);
        let settle = |call: &CallState| call.settle(&[]);
        let answer = |call: &CallState| {
            call.set_answered();
        };
        for end in [settle as fn(&CallState), answer] {
            let (counters, ended) = self::call();
            end(&ended);
            assert!(!ended.cancel(None) && !ended.is_cancelled());
            assert_eq!(counters.lock().cancelled, 0);
        }
    }

    #[tokio::test]
    async fn a_cancel_aborts_the_exchanges_and_admits_no_other() {
        let (_, call) = call();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let exchange = async {
            std::future::pending::<()>().await;
            drop(held);
        };
        let runtime = Handle::current();
        assert!(call.begin_exchange(exchange, &runtime).is_some());
        call.cancel(None);
        assert!(dropped.await.is_err());
        assert!(call.begin_exchange(async {}, &runtime).is_none());
    }
}
