//! The configurations of retries: when, how soon, and how many altogether.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    check::{HOUR, MINUTE, duration, kinds, number, refuse},
    form,
};
use crate::{
    error::ErrorKind,
    layers::{
        Backoff, RetryBudget, RetryLayer,
        retry::{BackoffKind, RetryBudgetOptions, is_never_retried},
    },
};

/// The configuration of a [`RetryLayer`].
///
/// ```
/// use tower_dspy::stack::RetryConfig;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: RetryConfig = serde_json::from_str(
///     r#"{"retries": 1, "backoff": {"kind": "fixed", "base": "250ms"}}"#,
/// )?;
/// let layer = config.layer()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RetryConfig {
    /// At most so many retries, 0 to 10: one less than the attempts. By default 2.
    pub retries: u32,
    /// The kinds of failures that are retried, one at least: by default `elapsed` and
    /// `lm_unavailable`. `deadline`, `cancelled` and `shutting_down` cannot be.
    pub on: Vec<ErrorKind>,
    /// The wait before each.
    pub backoff: BackoffConfig,
    /// Needs so much of the deadline after the wait, or does not retry: up to 1 h, by default
    /// anything.
    #[serde(with = "form::min_attempt")]
    pub min_attempt: Duration,
    /// Whether each begins only when the work of the attempt before has ended; by default not.
    pub after_settled: bool,
    /// What they may cost altogether: by default 20 % of the requests that were answered in the last
    /// 10 s, and 1 a second.
    pub budget: BudgetConfig,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            retries: 2,
            on: vec![ErrorKind::Elapsed, ErrorKind::LmUnavailable],
            backoff: BackoffConfig::default(),
            min_attempt: Duration::ZERO,
            after_settled: false,
            budget: BudgetConfig::default(),
        }
    }
}

impl RetryConfig {
    /// The layer of this configuration, with a budget of its own.
    ///
    /// # Errors
    /// If a value is out of its range, or does not go with another.
    pub fn layer(&self) -> Result<RetryLayer, ConfigError> {
        self.check()?;
        Ok(self.build())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        number("retries", self.retries, 0..=10)?;
        kinds("on", &self.on)?;
        if let Some(never) = self.on.iter().find(|kind| is_never_retried(**kind)) {
            let allowed =
                "without `deadline`, `cancelled` and `shutting_down`, which no retry helps";
            let named = serde_json::to_string(&[never]).unwrap_or_default();
            return Err(refuse("on", named, allowed));
        }
        let backoff = self.backoff.check();
        backoff.map_err(ConfigError::within("backoff"))?;
        duration("min_attempt", self.min_attempt, Duration::ZERO..=HOUR)?;
        self.budget.check().map_err(ConfigError::within("budget"))
    }

    pub(super) fn build(&self) -> RetryLayer {
        let layer = RetryLayer::new(self.retries)
            .on_kinds(self.on.iter().copied())
            .with_backoff(self.backoff.build())
            .with_min_attempt(self.min_attempt)
            .with_budget(RetryBudget::new(
                self.budget.options(RetryConfig::BUDGET).of_answers(),
            ));
        match self.after_settled {
            true => layer.after_settled(),
            false => layer,
        }
    }

    const BUDGET: (f64, u32) = (20.0, 1);
}

/// The configuration of a [`Backoff`], whose formulas say what its numbers mean.
///
/// By default exponential from 100 ms to 10 s, with full jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BackoffConfig {
    /// How the waits grow.
    pub kind: BackoffKind,
    /// The first wait, and the step of a linear one: up to 1 h.
    #[serde(with = "form::base")]
    pub base: Duration,
    /// The longest wait: no less than the base, and up to 1 h. A fixed one has none.
    #[serde(with = "form::cap")]
    pub cap: Duration,
    /// Whether each wait is drawn from between zero and the formula's; by default those of an
    /// exponential backoff are, others not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            kind: BackoffKind::Exponential,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            jitter: None,
        }
    }
}

impl BackoffConfig {
    fn check(&self) -> Result<(), ConfigError> {
        duration("base", self.base, Duration::ZERO..=HOUR)?;
        if self.kind != BackoffKind::Fixed {
            duration("cap", self.cap, self.base..=HOUR)?;
        }
        Ok(())
    }

    fn build(&self) -> Backoff {
        let backoff = Backoff::new(self.kind, self.base, self.cap);
        match self.jitter {
            Some(true) => backoff.full_jitter(),
            Some(false) => backoff.without_jitter(),
            None => backoff,
        }
    }
}

/// The configuration of a [`RetryBudget`]. What is not given is as the layer has it by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// The share of the requests, 0 to 100, in steps of 0.1; for retries, of those that were
    /// [answered](RetryBudgetOptions::of_answers).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// So many a second besides, 0 to 1000, whatever the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// How long a request counts: 1 s to 1 minute. By default 10 s.
    #[serde(with = "form::ttl", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

impl BudgetConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        number("percent", self.percent.unwrap_or_default(), 0.0..=100.0)?;
        number("per_second", self.per_second.unwrap_or_default(), 0..=1_000)?;
        let ttl = self.ttl.unwrap_or(MINUTE);
        duration("ttl", ttl, Duration::from_secs(1)..=MINUTE)
    }

    pub(super) fn options(&self, (percent, per_second): (f64, u32)) -> RetryBudgetOptions {
        let permille = self.percent.unwrap_or(percent) * 10.0;
        let options = RetryBudgetOptions::permille(permille.round() as u32)
            .with_reserve(self.per_second.unwrap_or(per_second));
        match self.ttl {
            Some(ttl) => options.with_ttl(ttl),
            None => options,
        }
    }
}
