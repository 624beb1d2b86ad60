//! The configurations of other single layers, each with a way into its layer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    BudgetConfig, ConfigError,
    check::{DAY, HOUR, TICK, duration, kinds, number, refuse},
    form,
};
#[cfg(feature = "stale")]
use crate::layers::fallback::{Stale, StalePrediction};
use crate::{
    error::ErrorKind,
    layers::{FallbackLayer, HedgeLayer, Percentile, RetryBudget},
};

/// The configuration of a [`HedgeLayer`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HedgeConfig {
    /// Sends a second attempt when this share of the first attempts would have been answered: 0.5 to
    /// 0.999, by default 0.95.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
    /// Sends it after this time in place of a percentile: 1 ms to 1 h.
    #[serde(with = "form::after", skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// Needs so much of the deadline, or sends none: up to 1 h, by default anything.
    #[serde(with = "form::min_attempt")]
    pub min_attempt: Duration,
    /// What they may cost altogether: by default 10 % of the requests of the last 10 s, and 1 a
    /// second.
    pub budget: BudgetConfig,
}

impl HedgeConfig {
    /// The layer of this configuration, with a budget of its own.
    ///
    /// # Errors
    /// If a value is out of its range, or both a percentile and a time are given.
    pub fn layer(&self) -> Result<HedgeLayer, ConfigError> {
        self.check()?;
        Ok(self.build())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(share) = self.percentile {
            number("percentile", share, 0.5..=0.999)?;
        }
        if let Some(after) = self.after {
            duration("after", after, TICK..=HOUR)?;
            if let Some(share) = self.percentile {
                let allowed = "left out where `after` is given";
                return Err(refuse("percentile", share, allowed));
            }
        }
        duration("min_attempt", self.min_attempt, Duration::ZERO..=HOUR)?;
        self.budget.check().map_err(ConfigError::within("budget"))
    }

    pub(super) fn build(&self) -> HedgeLayer {
        let layer = match (self.after, self.percentile.map(Percentile::new)) {
            (Some(after), _) => HedgeLayer::after(after),
            (None, Some(Ok(percentile))) => HedgeLayer::percentile(percentile),
            (None, _) => HedgeLayer::percentile(Percentile::P95),
        };
        layer
            .with_min_attempt(self.min_attempt)
            .with_budget(RetryBudget::new(self.budget.options(HedgeConfig::BUDGET)))
    }

    const BUDGET: (f64, u32) = (10.0, 1);
}

/// What a configuration says of a [`FallbackLayer`], whose answer a program gives. What is not given
/// is as the layer has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FallbackConfig {
    /// The kinds of failures that it answers, one at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<ErrorKind>>,
    /// How much of the deadline is kept for it: up to 1 day, and at most half of what is left.
    #[serde(
        with = "form::fallback_reserve",
        skip_serializing_if = "Option::is_none"
    )]
    pub reserve: Option<Duration>,
    /// Whether it is asked only when the work of the failed call has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_settled: Option<bool>,
}

impl FallbackConfig {
    /// `layer`, as this configuration has it.
    ///
    /// # Errors
    /// If a value is out of its range.
    pub fn apply<A, C>(
        &self,
        layer: FallbackLayer<A, C>,
    ) -> Result<FallbackLayer<A, C>, ConfigError> {
        self.check()?;
        Ok(self.tune(layer))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(on) = &self.on {
            kinds("on", on)?;
        }
        let reserve = self.reserve.unwrap_or_default();
        duration("reserve", reserve, Duration::ZERO..=DAY)
    }

    pub(super) fn tune<A, C>(&self, mut layer: FallbackLayer<A, C>) -> FallbackLayer<A, C> {
        if let Some(on) = &self.on {
            layer = layer.on_kinds(on.iter().copied());
        }
        if let Some(reserve) = self.reserve {
            layer = layer.with_reserve(reserve);
        }
        if let Some(waits) = self.after_settled {
            layer = layer.set_after_settled(waits);
        }
        layer
    }
}

/// The configuration of the last good answers, a [`StalePrediction`].
///
/// ```
/// use tower_dspy::{FallbackLayer, stack::StaleConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: StaleConfig = toml::from_str(r#"max_age = "6h""#)?;
/// let layer = FallbackLayer::new(config.answers()?);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "stale")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StaleConfig {
    /// How old an answer may be: 1 ms to 365 days. By default 1 h.
    #[serde(with = "form::max_age")]
    pub max_age: Duration,
    /// How many questions' answers are kept: 1 to 10 000 000. By default 1000.
    pub capacity: u64,
}

#[cfg(feature = "stale")]
impl Default for StaleConfig {
    fn default() -> Self {
        Self {
            max_age: HOUR,
            capacity: 1_000,
        }
    }
}

#[cfg(feature = "stale")]
impl StaleConfig {
    /// The answers, none of which is there yet.
    ///
    /// # Errors
    /// If a value is out of its range.
    pub fn answers(&self) -> Result<StalePrediction, ConfigError> {
        duration("max_age", self.max_age, TICK..=365 * DAY)?;
        number("capacity", self.capacity, 1..=10_000_000)?;
        Ok(Stale::predictions(self.max_age).with_capacity(self.capacity))
    }
}
