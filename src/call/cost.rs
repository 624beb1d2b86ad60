//! The cost of LM calls.

use serde::Serialize;

#[cfg(feature = "lm")]
use crate::call::LmCall;
use crate::call::Usd;

/// What LM calls cost, by the prices of their LMs.
///
/// ```
/// use tower_dspy::Cost;
///
/// fn report(cost: Cost) -> String {
///     match cost.unknown_calls {
///         0 => format!("{}", cost.usd),
///         unknown => format!("at least {}: {unknown} LM calls have no price", cost.usd),
///     }
/// }
/// # assert_eq!(report(Cost::default()), "$0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// What the tokens cost that the providers counted. If `unknown_calls` is not 0, at least that.
    pub usd: Usd,
    /// What the tokens cost that no provider counted, as those of answers that were cut off: an
    /// estimate, which is not in `usd`.
    pub estimated_usd: Usd,
    /// How many LM calls have a cost that is not known, as there is no price for their LM.
    pub unknown_calls: u64,
}

impl Cost {
    /// The cost of one LM call.
    #[cfg(feature = "lm")]
    pub(crate) fn of(call: &LmCall) -> Self {
        Self {
            usd: call.cost.unwrap_or_default(),
            estimated_usd: call.estimated_cost.unwrap_or_default(),
            unknown_calls: u64::from(call.cost.is_none() || call.estimated_cost.is_none()),
        }
    }

    /// Adds another cost.
    pub fn add(&mut self, other: Self) {
        self.usd = self.usd + other.usd;
        self.estimated_usd = self.estimated_usd + other.estimated_usd;
        self.unknown_calls = self.unknown_calls.saturating_add(other.unknown_calls);
    }

    /// Adds `after` in the place of `before`, which was added earlier.
    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(crate) fn replace(&mut self, before: Self, after: Self) {
        self.usd = self.usd.saturating_sub(before.usd);
        self.estimated_usd = self.estimated_usd.saturating_sub(before.estimated_usd);
        self.unknown_calls = self.unknown_calls.saturating_sub(before.unknown_calls);
        self.add(after);
    }
}
