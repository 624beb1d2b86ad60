//! [`StackConfig`]: the standard stack from a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    CallBudgetConfig, ConfigError, FallbackConfig, HedgeConfig, RetryConfig,
    check::{DAY, MINUTE, TICK, below, duration},
    form,
};

/// The configuration of a [`StandardStack`](crate::StandardStack), for a file in any format that serde reads.
///
/// What is not given has its default. In TOML, with all there is:
///
/// ```
/// use tower_dspy::StackConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: StackConfig = toml::from_str(r#"
///     deadline = "20s"         # the whole call; false: only the one that the request brings
///     reserve = "200ms"        # of it, kept for sending the answer
///     attempt_timeout = "6s"   # one attempt; false: as long as the call
///     grace = "500ms"          # for the clean-up of work that is stopped
///
///     [retry]                  # retry = false: no retries
///     retries = 2
///     on = ["elapsed", "lm_unavailable"]
///     min_attempt = "1s"
///     after_settled = true     # an attempt waits for the end of the work of the one before
///     backoff = { kind = "exponential", base = "100ms", cap = "5s", jitter = true }
///     budget = { percent = 20.0, per_second = 1, ttl = "10s" }
///
///     [hedge]                  # none unless it is given; hedge = true: with the defaults
///     percentile = 0.95        # or: after = "2s"
///     min_attempt = "1s"
///     budget = { percent = 10.0, per_second = 1 }
///
///     [budget]                 # none unless it is given; of the LM calls of each call
///     tokens = 50_000
///     usd = 0.10
///     soft_share = 0.8         # from here on the program is told to come to an end
///
///     [fallback]               # for the fallback that the program names
///     reserve = "2s"
///     on = ["elapsed", "deadline", "lm_unavailable", "overloaded"]
///     after_settled = true     # it waits for the end of the work of the service
/// "#)?;
/// let stack = config.layer()?;
/// # let _ = stack;
/// # Ok(())
/// # }
/// ```
///
/// and in JSON, with little more than the defaults:
///
/// ```
/// use tower_dspy::StackConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: StackConfig = serde_json::from_str(
///     r#"{"deadline": "1m 30s", "attempt_timeout": "30s", "retry": false, "hedge": {"after": "8s"}}"#,
/// )?;
/// assert!(config.layer().is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Units and ranges
/// A duration is text with a unit after each number: `ns`, `us`, `ms`, `s`, `m`, `h`, `d`; a number
/// alone is refused. Unknown fields are refused too, by the format, which says where.
///
/// ```
/// use tower_dspy::StackConfig;
///
/// let read = serde_json::from_str::<StackConfig>(r#"{"deadline": "10 parsecs"}"#);
/// let error = read.unwrap_err().to_string();
/// assert!(error.starts_with("`deadline`: \"10 parsecs\" is no duration: unknown time unit"));
/// ```
///
/// Whether the values make sense is checked by [`layer`](Self::layer), whose error names the field
/// by its path, the value, and what is allowed:
///
/// ```
/// use tower_dspy::StackConfig;
///
/// let config: StackConfig = serde_json::from_str(r#"{"retry": {"retries": 100}}"#).unwrap();
/// let error = config.layer().unwrap_err();
/// assert_eq!(error.to_string(), "`retry.retries` is 100, but has to be 0 to 10");
/// ```
///
/// # The defaults
/// A deadline of 30 s, attempts of 10 s with exponential backoff and jitter: those of .NET's standard
/// resilience handler, built on Polly. Two retries, so three attempts, the bound that Google's SRE
/// book gives for one request (chapter 21), under the budget of Finagle. No hedging, no reserve, no
/// grace and no budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StackConfig {
    /// The limit of the whole call, 1 ms to 1 day; `None`, in a file `false`, leaves the call the
    /// deadline that it brings. By default 30 s.
    #[serde(with = "form::deadline")]
    pub deadline: Option<Duration>,
    /// How much of the deadline is kept for sending the answer: less than the deadline. By default
    /// nothing.
    #[serde(with = "form::reserve")]
    pub reserve: Duration,
    /// The limit of one attempt, 1 ms to 1 day; `None`, in a file `false`, leaves it the deadline, as
    /// does one that is longer. By default 10 s.
    #[serde(with = "form::attempt_timeout")]
    pub attempt_timeout: Option<Duration>,
    /// How long work that is stopped, by whichever limit or by a cancellation, may clean up: up to
    /// 1 minute. By default it is dropped at once.
    #[serde(with = "form::grace")]
    pub grace: Duration,
    /// Retries; `None`, in a file `false`, does not retry.
    #[serde(with = "form::part")]
    pub retry: Option<RetryConfig>,
    /// Second attempts beside slow ones; `None`, which is the default, sends none.
    #[serde(with = "form::part")]
    pub hedge: Option<HedgeConfig>,
    /// The budget of each call's LM calls; `None`, which is the default, sets no limit.
    #[serde(with = "form::part")]
    pub budget: Option<CallBudgetConfig>,
    /// What holds for the fallback, if there is [one](crate::StandardStack::with_fallback).
    pub fallback: FallbackConfig,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            deadline: Some(Duration::from_secs(30)),
            reserve: Duration::ZERO,
            attempt_timeout: Some(Duration::from_secs(10)),
            grace: Duration::ZERO,
            retry: Some(RetryConfig::default()),
            hedge: None,
            budget: None,
            fallback: FallbackConfig::default(),
        }
    }
}

impl StackConfig {
    /// Whether the values make sense, without making anything of them.
    ///
    /// # Errors
    /// As with [`layer`](Self::layer).
    pub fn check(&self) -> Result<(), ConfigError> {
        duration("deadline", self.deadline.unwrap_or(DAY), TICK..=DAY)?;
        let attempt = self.attempt_timeout.unwrap_or(DAY);
        duration("attempt_timeout", attempt, TICK..=DAY)?;
        duration("reserve", self.reserve, Duration::ZERO..=DAY)?;
        duration("grace", self.grace, Duration::ZERO..=MINUTE)?;
        let before_deadline = |field, value| below(field, value, "deadline", self.deadline);
        before_deadline("reserve", self.reserve)?;
        if let Some(retry) = &self.retry {
            retry.check().map_err(ConfigError::within("retry"))?;
            before_deadline("retry.min_attempt", retry.min_attempt)?;
        }
        if let Some(hedge) = &self.hedge {
            hedge.check().map_err(ConfigError::within("hedge"))?;
            before_deadline("hedge.min_attempt", hedge.min_attempt)?;
            if let Some(after) = hedge.after {
                // Or there would never be one.
                let limit = self.attempt_timeout;
                below("hedge.after", after, "attempt_timeout", limit)?;
                before_deadline("hedge.after", after)?;
            }
        }
        if let Some(budget) = &self.budget {
            budget.check().map_err(ConfigError::within("budget"))?;
        }
        let fallback = &self.fallback;
        fallback.check().map_err(ConfigError::within("fallback"))?;
        before_deadline("fallback.reserve", fallback.reserve.unwrap_or_default())
    }
}
