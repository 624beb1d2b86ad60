//! One exchange with an LM provider, and how it ended.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "lm")]
use crate::call::Cause;
use crate::call::Usage;

/// How an exchange with a provider ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LmOutcome {
    /// The whole answer came, whatever its status.
    Answered,
    /// A limit of time, or the deadline, ended it.
    Elapsed,
    /// The call that it was made for was cancelled, or dropped.
    Cancelled,
    /// It was not sent at all.
    Refused,
    /// It failed without an answer, or in the middle of one.
    Failed,
}

/// One HTTP exchange with an LM provider. Each attempt of a retry layer is one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LmCall {
    /// The provider, as in the LM's name.
    pub provider: Arc<str>,
    /// The model, as the provider knows it.
    pub model: Arc<str>,
    /// When it began, counted from when the program's call was handed to Python; in a
    /// [log](crate::lm::LmLog) of your own, from when the log was made.
    pub started: Duration,
    /// When a connection took the request, on the clock of `started`. `None` if none did: then the
    /// provider has not seen the request, and bills nothing. A service of your own, by
    /// [`Lm::http`](crate::Lm::http), does not report it.
    pub sent: Option<Duration>,
    /// When the first content of the answer came, on the clock of `started`: of a stream, the first
    /// event with a part of the answer, and not a ping, a comment or an empty event; else the first
    /// byte of the body.
    pub first_content: Option<Duration>,
    /// How long it took, the body included.
    pub duration: Duration,
    /// The HTTP status, if the head of an answer came.
    pub status: Option<u16>,
    /// How many attempts of the same LM call came before, in layers of the LM.
    pub attempt: u32,
    /// Which attempt of the program's call it was made for: 0 for the first.
    pub call_attempt: u32,
    /// How it ended.
    pub outcome: LmOutcome,
    /// Tokens of the prompt, if the provider counted them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the provider counted them.
    pub completion_tokens: Option<u64>,
    /// All tokens, if the provider counted them.
    pub total_tokens: Option<u64>,
    /// When the head of the answer came, on the clock of `started`.
    pub(crate) first_byte: Option<Duration>,
    /// Its number on Python's side.
    #[serde(skip)]
    pub(crate) exchange: Option<u64>,
}

impl LmOutcome {
    /// The outcome of an LM call that ended because of `cause`.
    #[cfg(feature = "lm")]
    pub(crate) const fn of_cause(cause: Cause) -> Self {
        match cause {
            Cause::Elapsed | Cause::Deadline => Self::Elapsed,
            _ => Self::Cancelled,
        }
    }
}

impl LmCall {
    /// A call with these fields alone, as a mock in a test reports one; set the others.
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
            sent: None,
            first_content: None,
            duration: Duration::ZERO,
            status: None,
            attempt: 0,
            first_byte: None,
            exchange: None,
            call_attempt: 0,
            outcome,
            prompt_tokens: None,
            completion_tokens: None,
            total_tokens: None,
        }
    }

    /// The same call with its times on a clock that began `shift` earlier.
    #[cfg(feature = "lm")]
    pub(super) fn later_by(&self, shift: Duration) -> Self {
        let later = |time: Option<Duration>| time.map(|time| time + shift);
        Self {
            started: self.started + shift,
            sent: later(self.sent),
            first_byte: later(self.first_byte),
            first_content: later(self.first_content),
            ..self.clone()
        }
    }

    /// The tokens, those that are not known as zero.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or_default(),
            completion_tokens: self.completion_tokens.unwrap_or_default(),
            total_tokens: self.total_tokens.unwrap_or_default(),
        }
    }
}
