//! What each exchange with a provider was and cost: [`LmCall`], kept in an [`LmLog`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{LmRequest, usage::UsageReader};
use crate::{Carrier, Cause, LmCall, LmOutcome, Usage, drop_scope};

/// Takes down the LM calls of whoever puts it into their requests' extensions.
///
/// Clones share one log. It keeps a bounded number of calls and [counts](Self::lost) the others.
#[derive(Clone, Debug)]
pub struct LmLog(Arc<Log>);

#[derive(Debug)]
struct Log {
    began: Instant,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<LmCall>,
    lost: u64,
}

impl LmLog {
    /// A log that keeps the first `most` calls.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Log {
            began: Instant::now(),
            most,
            state: Mutex::default(),
        }))
    }

    /// The calls that have ended, in the order in which they did.
    #[must_use]
    pub fn calls(&self) -> Vec<LmCall> {
        self.lock().calls.clone()
    }

    /// How many calls have ended and were not kept.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// The tokens of all calls that were kept.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        let add = |sum: &mut u64, tokens: Option<u64>| {
            *sum = sum.saturating_add(tokens.unwrap_or_default());
        };
        for call in &self.lock().calls {
            add(&mut sum.prompt_tokens, call.prompt_tokens);
            add(&mut sum.completion_tokens, call.completion_tokens);
            add(&mut sum.total_tokens, call.total_tokens);
        }
        sum
    }

    fn push(&self, call: LmCall) {
        let mut state = self.lock();
        if state.calls.len() < self.0.most {
            state.calls.push(call);
        } else {
            state.lost += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the 256 first calls.
impl Default for LmLog {
    fn default() -> Self {
        Self::new(256)
    }
}

/// An exchange that is under way. It is put down exactly once: when it ends, or else when this is
/// dropped, with the outcome that the drop's cause makes it. Free where there is no log.
#[derive(Debug)]
pub(super) struct Record(Option<Box<Live>>);

#[derive(Debug)]
struct Live {
    log: LmLog,
    began: Instant,
    call: LmCall,
    usage: UsageReader,
}

impl Record {
    pub(super) fn begin(request: &LmRequest, provider: &Arc<str>, model: &Arc<str>) -> Self {
        Self(request.extensions().get::<LmLog>().map(|log| {
            let began = Instant::now();
            Box::new(Live {
                log: log.clone(),
                began,
                call: LmCall {
                    started: began.saturating_duration_since(log.0.began),
                    attempt: request.context().map_or(0, |context| context.attempt),
                    ..LmCall::new(provider.clone(), model.clone(), LmOutcome::Cancelled)
                },
                usage: UsageReader::default(),
            })
        }))
    }

    pub(super) fn status(&mut self, status: http::StatusCode) {
        if let Some(live) = &mut self.0 {
            live.call.status = Some(status.as_u16());
        }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        if let Some(live) = &mut self.0 {
            live.usage.read(bytes);
        }
    }

    /// The exchange ended like this; what is said afterwards does not count.
    pub(super) fn finish(&mut self, outcome: LmOutcome) {
        let Some(live) = self.0.take() else { return };
        let Live {
            log,
            began,
            mut call,
            usage,
        } = *live;
        call.duration = began.elapsed();
        call.outcome = outcome;
        call.prompt_tokens = usage.counts.prompt;
        call.completion_tokens = usage.counts.completion;
        call.total_tokens = usage.counts.total();
        log.push(call);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.finish(match drop_scope::cause() {
                Cause::Elapsed | Cause::Deadline => LmOutcome::Elapsed,
                _ => LmOutcome::Cancelled,
            });
        }
    }
}
