//! The LM that programs call, and the HTTP stack that each of its calls goes through.
//!
//! Python opens no connection for it: each LM call of a program comes to Rust as an [`LmRequest`],
//! and [`LmHandle::send`] answers it. So LM traffic is composed as all else is, of tower layers,
//! and it ends when its call does: dropping it closes the connection. What the provider makes of that is
//! told [below](#what-goes-on-at-the-provider).
//!
//! ```
//! use std::time::Duration;
//! use tower::limit::GlobalConcurrencyLimitLayer;
//! use tower_dspy::{Lm, RetryLayer, TimeoutLayer, lm::LmLimits};
//!
//! let lm = Lm::new("openai/gpt-4o-mini")
//!     .key_env("OPENAI_API_KEY")
//!     .limits(LmLimits::new().with_idle(Duration::from_secs(5)))
//!     .layer(RetryLayer::new(2))                          // outermost: at most 3 attempts
//!     .layer(TimeoutLayer::new(Duration::from_secs(20)))  // until the head of each answer
//!     .layer(GlobalConcurrencyLimitLayer::new(32));       // over all that load this LM
//! ```
//!
//! # What a layer sees
//! Requests with a placeholder for the key, and the context of the call. Answers of a status below
//! 400; others are a [`BadStatus`], an error, and failures an [`LmFailure`]: both in a
//! [`BoxError`](tower::BoxError), and both known to [`ErrorKind::of`](crate::ErrorKind::of).
//!
//! # What calls cost
//! Each LM call has its cost in USD, and so have the call and its error that it was made for
//! ([`Cost`](crate::Cost)), the metrics, the page and its span. The price is that of
//! [`Lm::price`](crate::Lm::price), else of the table by which DSPy estimates costs: by the model and the
//! service tier that the request asks for. Both count tokens alone: not what a provider charges for
//! hosted tools or for images that it makes. An answer with tokens of audio has no known cost.
//!
//! - An LM that is in neither has a cost that is unknown, which is not zero:
//!   [`Cost::unknown_calls`](crate::Cost::unknown_calls). A [`Budget`](crate::Budget) of money refuses
//!   its calls.
//! - What the provider counts is exact. Where it does not, as for an answer that was cut off, the tokens
//!   are estimated, and kept apart: those of the prompt by the length of the request, those of the answer
//!   by what came of it.
//! - Nothing is charged for a request that no connection took, nor for an answer with the status of an
//!   error. Each attempt of a retry and of a hedge is charged by itself.
#![doc = include_str!("stack.md")]
#![doc = include_str!("providers.md")]

pub mod abort;
mod answer_labels;
mod attempt;
mod base_url;
mod charge;
mod chat_span;
mod client;
mod config_error;
mod content;
mod content_limits;
mod credential;
mod credential_lookup;
mod departure;
mod embedding;
mod encoding;
mod error_body;
mod estimate;
mod event_text;
mod failover;
mod failure;
mod first_content;
mod group;
mod handle;
mod http;
#[cfg(feature = "_host")]
pub(crate) mod inspection;
mod key;
mod key_source;
#[cfg(feature = "workers")]
mod known_key_variables;
mod limited_body;
mod limits;
mod lm_log;
pub(crate) mod model;
mod model_name;
mod placeholder;
mod provider;
mod proxy;
mod rate_headers;
mod redact;
mod reserved_options;
mod resolved;
mod sent_mark;
mod status;
mod stream_event;
#[cfg(all(test, feature = "test-util"))]
mod tests;
mod token_rate;
mod usage;
mod variable_name;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::error_body::read_error_bytes;
#[cfg(feature = "workers")]
pub(crate) use self::known_key_variables::KEY_VARIABLES;
#[cfg(feature = "_host")]
pub(crate) use self::{
    charge::ListPrice,
    departure::CallOver,
    embedding::EmbeddingRequest,
    group::LmCombination,
    http::{AskedModel, CallSpan, ExchangeNumber, MemberLimit, ReadTimeout, RequestTrace},
    key::mark_keys,
    limits::LmEnd,
    placeholder::Placeholder,
    provider::LmProvider,
    redact::without_keys,
};
pub use self::{
    client::LmClient,
    config_error::LmConfigError,
    handle::LmHandle,
    http::{LmBody, LmHttp, LmRequest, LmResponse},
    limits::LmLimits,
    lm_log::LmLog,
    placeholder::PLACEHOLDER,
    token_rate::{TokenRate, TokenRateLayer},
};
pub use crate::error::{BadStatus, LmFailure, LmFailureKind};
#[cfg(any(feature = "_host", test))]
pub(crate) use model::Lm;
