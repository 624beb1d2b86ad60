//! The configuration of the budget of each call.

use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    check::{number, refuse},
};
use crate::{
    call::{BudgetLimits, Usd},
    layers::{BudgetLayer, budget::EachCall},
};

/// The configuration of a [`BudgetLayer`] with a fresh budget for each call: a limit in tokens, in money,
/// or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CallBudgetConfig {
    /// The most tokens of its LM calls, of prompts and of answers: 1 to 10^12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The most that they may cost, in US dollars: up to 1 000 000. LMs whose price is not known are
    /// then refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
    /// The share of a limit from which on the program is told to come to an end: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_share: Option<f64>,
}

impl CallBudgetConfig {
    /// The layer of this configuration.
    ///
    /// # Errors
    /// If a value is out of its range.
    pub fn layer(&self) -> Result<BudgetLayer<EachCall>, ConfigError> {
        self.check()?;
        Ok(BudgetLayer::each(self.limits()))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tokens.is_none() && self.usd.is_none() {
            return Err(refuse("tokens", "not given", "given, or `usd`"));
        }
        number("tokens", self.tokens.unwrap_or(1), 1..=1_000_000_000_000)?;
        number("usd", self.usd.unwrap_or_default(), 0.0..=1e6)?;
        number("soft_share", self.soft_share.unwrap_or_default(), 0.0..=1.0)
    }

    pub(super) fn limits(&self) -> BudgetLimits {
        let mut limits = BudgetLimits::new();
        limits.tokens = self.tokens;
        limits.usd = self.usd.map(Usd::new);
        limits.soft_share = self.soft_share;
        limits
    }
}
