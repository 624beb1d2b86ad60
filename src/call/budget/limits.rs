//! The limits of a budget.

use std::{sync::Arc, time::Duration};

use super::spent::Amount;
use crate::call::Usd;

/// What a [`Budget`](crate::Budget) allows. Without a limit it only counts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BudgetLimits {
    /// How errors and metrics name the budget.
    pub name: Option<Arc<str>>,
    /// The most tokens, of prompts and of answers.
    pub tokens: Option<u64>,
    /// The most money.
    pub usd: Option<Usd>,
    /// The time over which the limits hold; without it they hold for good.
    pub window: Option<Duration>,
    /// The share of a limit, between 0 and 1, at which the program is told to come to an end.
    pub soft_share: Option<f64>,
}

impl BudgetLimits {
    /// No limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the budget a name, for errors and metrics.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// At most so many tokens.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// At most so much money. LM calls whose price is not known are then refused.
    #[must_use]
    pub const fn with_usd(mut self, usd: Usd) -> Self {
        self.usd = Some(usd);
        self
    }

    /// Makes the limits hold over each span of this length, clamped to between 1 s and 366 days. What
    /// is spent counts for the window, and for up to a sixtieth of it longer.
    #[must_use]
    pub fn with_window(mut self, window: Duration) -> Self {
        const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
        self.window = Some(window.clamp(Duration::from_secs(1), LONGEST));
        self
    }

    /// Tells the program to come to an end once this share of a limit is spent, clamped to between 0
    /// and 1.
    #[must_use]
    pub const fn with_soft_share(mut self, share: f64) -> Self {
        self.soft_share = Some(share.clamp(0.0, 1.0));
        self
    }

    /// Whether this much is as much as a limit, or more.
    pub(super) fn is_reached_by(&self, taken: Amount) -> bool {
        self.tokens.is_some_and(|limit| taken.tokens >= limit)
            || self.usd.is_some_and(|limit| taken.usd >= limit)
    }
}
