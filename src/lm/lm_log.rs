//! The log of LM calls: each attempt at one is recorded in an [`LmLog`], with its costs.

use std::sync::Arc;

use super::{
    LmRequest,
    http::{Asked, ExchangeNumber},
    usage::{Counts, UsageReader},
};
use crate::call::{
    Carrier, LmCall, LmOutcome, Usage, drop_scope,
    record::{AttemptRecord, CallRecord},
};

/// A log of the LM calls whose requests have it among their extensions.
///
/// Clones share one log. It keeps a bounded number of calls and [counts](Self::lost) the others.
#[derive(Clone, Debug)]
pub struct LmLog(Arc<AttemptRecord>);

impl LmLog {
    /// A log that keeps the first `most` calls.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(AttemptRecord::new(CallRecord::keeping(most), 0, None))
    }

    /// The log of an attempt of a program's call.
    #[cfg(feature = "_host")]
    pub(crate) fn of(attempt: Arc<AttemptRecord>) -> Self {
        Self(attempt)
    }

    /// The calls that have ended, in the order in which they did.
    #[must_use]
    pub fn calls(&self) -> Vec<LmCall> {
        self.0.record().read(|spent| spent.lm_calls.clone())
    }

    /// How many calls have ended and were not kept.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.record().read(|spent| spent.lm_calls_not_kept)
    }

    /// The tokens of all calls that have ended, also of those that were not kept.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.record().read(|spent| spent.usage)
    }
}

/// Keeps the 256 first calls.
impl Default for LmLog {
    fn default() -> Self {
        Self::new(CallRecord::MOST)
    }
}

/// An attempt that is under way. It is recorded once: when it ends, or else when this is dropped,
/// with the outcome that the cause of the drop makes it. Free where there is no log.
#[derive(Debug)]
pub(super) struct LmCallEntry(Option<Box<OpenEntry>>);

#[derive(Debug)]
struct OpenEntry {
    log: LmLog,
    id: u64,
    usage: UsageReader,
}

impl LmCallEntry {
    pub(super) fn begin(request: &LmRequest, provider: &Arc<str>, model: &Arc<str>) -> Self {
        Self(request.extensions().get::<LmLog>().map(|log| {
            let attempt = request.context().map_or(0, |context| context.attempt);
            let (provider, model) = match request.extensions().get() {
                Some(Asked(_)) => {
                    let (provider, model) = Asked::names(request, provider, model);
                    (provider.into(), model.into())
                }
                None => (provider.clone(), model.clone()),
            };
            let exchange = request.extensions().get();
            let id = log.0.begin(LmCall {
                attempt,
                exchange: exchange.map(|ExchangeNumber(number)| *number),
                ..LmCall::new(provider, model, LmOutcome::Cancelled)
            });
            Box::new(OpenEntry {
                log: log.clone(),
                id,
                usage: UsageReader::default(),
            })
        }))
    }

    /// The mark for the client that sends the request.
    pub(super) fn sent(&self) -> Option<SentMark> {
        let OpenEntry { log, id, .. } = self.0.as_deref()?;
        Some(SentMark(log.clone(), *id))
    }

    pub(super) fn status(&mut self, status: http::StatusCode) {
        if let Some(live) = &mut self.0 {
            live.log.0.answer_begins(live.id, status.as_u16());
        }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        let Some(live) = &mut self.0 else { return };
        let before = live.usage.counts;
        live.usage.read(bytes);
        let counts = live.usage.counts;
        if counts != before {
            // At once: the call that this is made for may end before the attempt does.
            live.log.0.update(live.id, |call| tell(call, counts));
        }
    }

    /// Ends the attempt with this outcome, the first time.
    pub(super) fn finish(&mut self, outcome: LmOutcome) {
        let Some(live) = self.0.take() else { return };
        let tokens = live.usage.counts.total().unwrap_or_default();
        live.log.0.end(live.id, outcome, tokens);
    }
}

/// Records when the request is sent: an extension of the request that a client gets.
#[derive(Clone, Debug)]
pub(super) struct SentMark(LmLog, u64);

impl SentMark {
    pub(super) fn now(&self) {
        self.0.0.sent(self.1);
    }
}

fn tell(call: &mut LmCall, counts: Counts) {
    call.prompt_tokens = counts.prompt;
    call.completion_tokens = counts.completion;
    call.total_tokens = counts.total();
}

impl Drop for LmCallEntry {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.finish(LmOutcome::of_cause(drop_scope::cause()));
        }
    }
}
