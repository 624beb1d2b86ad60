//! What a call cost, whatever came of it: [`Spent`], and each of its LM calls, [`LmCall`].

use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::Usage;

/// What a call that has no answer had spent until it ended.
///
/// It rides on the error: [`Error::spent`](crate::Error::spent),
/// [`Elapsed::spent`](crate::Elapsed::spent), [`Cancelled::spent`](crate::Cancelled::spent).
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
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Spent {
    /// The tokens of all LM calls, as far as the provider told them in time.
    pub usage: Usage,
    /// The LM calls, in the order in which they ended: a bounded number of them.
    pub lm_calls: Vec<LmCall>,
    /// How many LM calls there were beyond those in `lm_calls`.
    pub lm_calls_not_kept: u64,
    /// The last partial answer that the program gave, whole; fields of its outputs.
    pub partial: Option<Map<String, Value>>,
    /// How many of the program's steps were done: the predictors and tools that it called and
    /// that returned.
    pub steps: u32,
}

impl Spent {
    /// Whether nothing was spent: no LM call, no step done, no partial answer.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.lm_calls.is_empty()
            && self.lm_calls_not_kept == 0
            && self.partial.is_none()
            && self.steps == 0
            && self.usage == Usage::default()
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
            .field(
                "partial",
                &partial.map(|fields| fields.keys().collect::<Vec<_>>()),
            )
            .field("steps", &self.steps)
            .finish()
    }
}

/// How an exchange with a provider ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LmOutcome {
    /// The whole answer came, whatever its status.
    Answered,
    /// A limit of time, or the deadline, ended it.
    Elapsed,
    /// Nobody wanted the answer any more.
    Cancelled,
    /// It was not sent at all.
    Refused,
    /// It failed without an answer, or in the middle of one.
    Failed,
}

/// One HTTP exchange with an LM provider. Each attempt of a retry layer is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LmCall {
    /// The provider, as in the LM's name.
    pub provider: Arc<str>,
    /// The model, as the provider knows it.
    pub model: Arc<str>,
    /// When it began, from when the log was made.
    pub started: Duration,
    /// How long it took, the body included.
    pub duration: Duration,
    /// The HTTP status, if the head of an answer came.
    pub status: Option<u16>,
    /// How many attempts of the same LM call came before.
    pub attempt: u32,
    /// How it ended.
    pub outcome: LmOutcome,
    /// Tokens of the prompt, if the provider told.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the provider told.
    pub completion_tokens: Option<u64>,
    /// All tokens, if the provider told.
    pub total_tokens: Option<u64>,
}

impl LmCall {
    /// A call without more to tell of, as a mock in a test reports one; set the other fields.
    #[must_use]
    pub fn new(
        provider: impl Into<Arc<str>>,
        model: impl Into<Arc<str>>,
        outcome: LmOutcome,
    ) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            started: Duration::ZERO,
            duration: Duration::ZERO,
            status: None,
            attempt: 0,
            outcome,
            prompt_tokens: None,
            completion_tokens: None,
            total_tokens: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
