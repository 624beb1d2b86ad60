//! One exchange with an LM provider, and how it ended.

use std::{sync::Arc, time::Duration};

use super::seconds::{seconds, seconds_or_null};
#[cfg(feature = "lm")]
use crate::call::Cause;
#[cfg(any(feature = "_host", all(feature = "lm", test)))]
use crate::call::PricedTokens;
use crate::call::{Price, Usage, Usd};

/// How an exchange with a provider ended.
///
/// As JSON it is its name in `snake_case`.
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
///
/// Its instants are on the clock of [`started`](Self::started). What the provider says of itself is at
/// most [`TEXT`](Self::TEXT) characters long, and holds nothing of the prompt or of the answer.
/// As JSON, its times are numbers of seconds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LmCall {
    /// The provider, as in the LM's name.
    pub provider: Arc<str>,
    /// The model, as the provider knows it.
    pub model: Arc<str>,
    /// When it began, counted from when the program's call was handed to Python; in a
    /// [log](crate::lm::LmLog) of your own, from when the log was made.
    #[serde(serialize_with = "seconds")]
    pub started: Duration,
    /// When a connection took the request, on the clock of `started`. `None` if none did: then the
    /// provider has not seen the request, and bills nothing. A service of your own, by
    /// [`Lm::http`](crate::Lm::http), does not report it.
    ///
    /// The time from `started` to here is that of the key, of the name's resolution, of a new
    /// connection with its TLS, or else of the wait for one: they are not told apart, as the HTTP
    /// client does not report when a connection is made.
    #[serde(serialize_with = "seconds_or_null")]
    pub sent: Option<Duration>,
    /// When the head of the answer came, on the clock of `started`.
    #[serde(serialize_with = "seconds_or_null")]
    pub first_byte: Option<Duration>,
    /// When the first content of the answer came, on the clock of `started`: of a stream, the first
    /// event with a part of the answer, and not a ping, a comment or an empty event; else the first
    /// byte of the body.
    #[serde(serialize_with = "seconds_or_null")]
    pub first_content: Option<Duration>,
    /// When the last chunk of the answer came, as far as it has come; on the clock of `started`.
    #[serde(serialize_with = "seconds_or_null")]
    pub last_content: Option<Duration>,
    /// How many chunks of the answer came, counted from that of `first_content`. A chunk is what the
    /// connection gives at once: of a stream mostly an event, at times several.
    pub chunks: u64,
    /// Whether the answer came as a stream of events, by its `Content-Type`.
    pub is_stream: bool,
    /// How long it took, the body included.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// The HTTP status, if the head of an answer came.
    pub status: Option<u16>,
    /// How many attempts of the same LM call came before, in layers of the LM.
    pub attempt: u32,
    /// Which attempt of the program's call it was made for: 0 for the first.
    pub call_attempt: u32,
    /// How it ended.
    pub outcome: LmOutcome,
    /// The model that answered, as the answer names it.
    pub response_model: Option<Arc<str>>,
    /// The id of the answer, as the provider gave it.
    pub response_id: Option<Arc<str>>,
    /// Why the answer ended, in the provider's own word, such as `stop`, `end_turn` or `MAX_TOKENS`; of
    /// several alternatives the last.
    pub finish_reason: Option<Arc<str>>,
    /// The provider's id of the request, by which its support finds it: of the header `x-request-id`,
    /// `request-id`, or a header of another name with the same meaning.
    pub request_id: Option<Arc<str>>,
    /// Tokens of the prompt, those read from and written to a cache too, if the provider counted them.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, those of its reasoning too, if the provider counted them.
    pub completion_tokens: Option<u64>,
    /// All tokens, if the provider counted them.
    pub total_tokens: Option<u64>,
    /// Tokens of the prompt that were read from a cache, if the provider counted them.
    pub cached_tokens: Option<u64>,
    /// Tokens of the prompt that were written to a cache, if the provider counted them.
    pub cache_write_tokens: Option<u64>,
    /// Tokens of the answer that are reasoning, if the provider counted them.
    pub reasoning_tokens: Option<u64>,
    /// What the tokens that the provider counted cost, in USD; zero for what the provider does not
    /// bill, such as a request that no connection took, and an answer with the status of an error.
    /// `None` if the LM's [price](crate::Lm::price) is not known.
    pub cost: Option<Usd>,
    /// Tokens that the provider took and did not count, as where the answer was cut off: an estimate,
    /// of the prompt by the length of the request, of the answer by what came of it. They are in no
    /// other count.
    pub estimated_tokens: u64,
    /// What `estimated_tokens` cost, in USD; it is not in `cost`. `None` if the price is not known.
    pub estimated_cost: Option<Usd>,
    /// What its tokens cost.
    #[serde(skip)]
    pub(crate) price: Option<Arc<Price>>,
    /// It asks for embeddings, and not for a completion.
    #[serde(skip)]
    pub(crate) is_embedding: bool,
    /// The key of its attempt in the record.
    #[serde(skip)]
    pub(crate) attempt_key: u64,
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
    /// How many characters of a text of the provider are kept.
    pub const TEXT: usize = 64;

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
            first_byte: None,
            first_content: None,
            last_content: None,
            chunks: 0,
            is_stream: false,
            duration: Duration::ZERO,
            status: None,
            attempt: 0,
            call_attempt: 0,
            outcome,
            response_model: None,
            response_id: None,
            finish_reason: None,
            request_id: None,
            prompt_tokens: None,
            completion_tokens: None,
            total_tokens: None,
            cached_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            cost: None,
            estimated_tokens: 0,
            estimated_cost: None,
            price: None,
            is_embedding: false,
            attempt_key: 0,
            exchange: None,
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
            last_content: later(self.last_content),
            ..self.clone()
        }
    }

    /// Takes these tokens for those that the provider counted.
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(super) fn count(&mut self, usage: Usage) {
        self.prompt_tokens = Some(usage.prompt_tokens);
        self.completion_tokens = Some(usage.completion_tokens);
        self.total_tokens = Some(usage.total_tokens);
        let tokens = PricedTokens {
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens,
            completion: usage.completion_tokens,
            reasoning: usage.reasoning_tokens,
            ..PricedTokens::default()
        };
        self.cost = self.price.as_ref().and_then(|price| price.cost(tokens));
        self.estimated_tokens = 0;
        self.estimated_cost = Some(Usd::ZERO);
    }

    /// The tokens, those that are not known as zero.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or_default(),
            completion_tokens: self.completion_tokens.unwrap_or_default(),
            total_tokens: self.total_tokens.unwrap_or_default(),
            cached_tokens: self.cached_tokens.unwrap_or_default(),
            reasoning_tokens: self.reasoning_tokens.unwrap_or_default(),
        }
    }
}
