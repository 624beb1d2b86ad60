//! What a call spent, as its answer or its error says it.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde_json::{Map, Value};

use super::{CallRecord, LmCall};
use crate::call::Usage;

/// What a call that has no answer had spent until it ended: a snapshot, taken when the call ended.
///
/// It rides on the error: [`Error::spent`](crate::Error::spent),
/// [`Elapsed::spent`](crate::Elapsed::spent), [`Cancelled::spent`](crate::Cancelled::spent), and
/// [`Spent::of`] for any other error that wraps one of them.
///
/// # What it covers
/// The whole call. All its attempts write into one record. Where attempts follow each other, in a
/// retry layer or as a fallback, each error has the costs of all attempts up to it; of two hedged
/// attempts the error that is returned has the costs of both. A foreign layer that drops the call,
/// such as tower's `Timeout`, does not ask; totals over all calls are in `HostStats`.
///
/// What a foreign service alone put onto its errors is added up where their type is
/// [`Error`](crate::Error) or [`BoxError`](tower::BoxError).
///
/// LM calls that were under way when the call ended are among them, ended by that; their tokens are
/// those that the provider had told until then, so what it bills may be more.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use tower_dspy::{Elapsed, Scope, Spent, Stage};
///
/// # let mut spent = Spent::default();
/// # spent.usage.total_tokens = 21;
/// # let elapsed = Elapsed::new(Scope::Deadline, Stage::Running, Duration::from_secs(4))
/// #     .with_spent(Arc::new(spent));
/// if let Some(spent) = elapsed.spent() {
///     println!("{} tokens for nothing", spent.usage.total_tokens);
/// }
/// # assert_eq!(elapsed.spent().unwrap().usage.total_tokens, 21);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Spent {
    /// The tokens of all LM calls, as far as the provider told them in time.
    pub usage: Usage,
    /// The LM calls, in the order in which they ended: a bounded number of them.
    pub lm_calls: Vec<LmCall>,
    /// How many LM calls there were beyond those in `lm_calls`.
    pub lm_calls_not_kept: u64,
    /// How many LM calls the program made past the host, by a client that it does not carry. They are
    /// neither in `lm_calls` nor in `usage`.
    pub lm_calls_bypassed: u64,
    /// The last partial answer that the program gave, whole; fields of its outputs.
    pub partial: Option<Map<String, Value>>,
    /// How many steps the program had done: the times that one of its predictors asked an LM and
    /// got the answer.
    pub steps: u32,
    /// The record that this is a reading of.
    pub(crate) record: Option<Arc<CallRecord>>,
}

impl Spent {
    /// What the call of `error` had spent: of the first among it and its sources that is one of this
    /// crate's errors.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use tower_dspy::{Elapsed, Scope, Spent, Stage};
    ///
    /// let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, Duration::from_secs(4));
    /// let error: tower::BoxError = elapsed.with_spent(Arc::new(Spent::default())).into();
    /// assert!(Spent::of(&*error).is_some());
    /// ```
    #[must_use]
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        crate::error::costs_of(error).map(|spent| &**spent)
    }

    /// Whether nothing was spent: no LM call, no step done, no partial answer.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.lm_calls.is_empty()
            && self.lm_calls_not_kept == 0
            && self.lm_calls_bypassed == 0
            && self.partial.is_none()
            && self.steps == 0
            && self.usage == Usage::default()
    }

    /// Adds what `other` says, and keeps at most `most` LM calls.
    pub(crate) fn add(&mut self, other: &Self, most: usize) {
        self.usage.add(other.usage);
        let room = most.saturating_sub(self.lm_calls.len());
        let calls = other.lm_calls.iter().take(room);
        self.lm_calls.extend(calls.cloned());
        self.lm_calls
            .sort_by_key(|call| call.started + call.duration);
        let beyond = other.lm_calls.len().saturating_sub(room) as u64;
        self.lm_calls_not_kept += other.lm_calls_not_kept + beyond;
        self.lm_calls_bypassed += other.lm_calls_bypassed;
        self.partial = other.partial.clone().or_else(|| self.partial.take());
        self.steps = self.steps.saturating_add(other.steps);
    }
}

impl PartialEq for Spent {
    fn eq(&self, other: &Self) -> bool {
        let counts = |spent: &Self| {
            (
                spent.usage,
                spent.lm_calls_not_kept,
                spent.lm_calls_bypassed,
                spent.steps,
            )
        };
        counts(self) == counts(other)
            && self.lm_calls == other.lm_calls
            && self.partial == other.partial
    }
}

/// Counts the LM calls and names the fields: an answer must not reach a log by accident.
impl fmt::Debug for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partial = self.partial.as_ref();
        f.debug_struct("Spent")
            .field("usage", &self.usage)
            .field("lm_calls", &self.lm_calls.len())
            .field("lm_calls_not_kept", &self.lm_calls_not_kept)
            .field("lm_calls_bypassed", &self.lm_calls_bypassed)
            .field(
                "partial",
                &partial.map(|fields| fields.keys().collect::<Vec<_>>()),
            )
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::call::LmOutcome;

    #[test]
    fn costs_add_up_and_the_lm_calls_stay_in_order_and_bounded() {
        let calls = |range: std::ops::Range<u64>, step: u64| {
            let mut spent = Spent::default();
            for i in range {
                let mut call = LmCall::new("openai", "m", LmOutcome::Answered);
                call.started = Duration::from_secs(i * step);
                spent.lm_calls.push(call);
            }
            spent.usage.total_tokens = 5;
            spent.lm_calls_not_kept = 1;
            spent
        };
        let mut both = calls(1..200, 2);
        both.add(&calls(0..100, 1), 256);
        assert_eq!((both.lm_calls.len(), both.lm_calls_not_kept), (256, 2 + 43));
        assert!(both.lm_calls.is_sorted_by_key(|call| call.started));
        assert_eq!(both.usage.total_tokens, 10);
    }

    #[test]
    fn debug_shows_no_answer() {
        let mut spent = Spent::default();
        assert!(spent.is_nothing());
        spent.partial = json!({"answer": "a secret"}).as_object().cloned();
        assert!(!spent.is_nothing());
        let shown = format!("{spent:?}");
        assert!(
            shown.contains("answer") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
