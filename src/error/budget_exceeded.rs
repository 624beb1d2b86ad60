//! [`BudgetExceeded`]: a budget was used up before an LM call of the call.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
    debug_as_display,
};
use crate::call::{Budget, BudgetLimits, BudgetRefusal, BudgetSpent, CallId, Spent};

/// A [`Budget`] of the call was used up, so that an LM call of it was not sent, and the program ended
/// with that.
///
/// What the call itself had spent, and its partial answer, are in [`spent`](Self::spent). Two are
/// equal when their budgets have the same limits and had spent the same. What the calls had spent does
/// not count.
///
/// From a server it comes without the limits of the budget and without what is spent of them, as the
/// budget may be shared by all clients.
///
/// ```
/// use tower_dspy::{Budget, BudgetExceeded, BudgetLimits, Classify, ErrorKind};
///
/// let limits = BudgetLimits::new().with_name("acme").with_tokens(1000);
/// let error = BudgetExceeded::new(&Budget::new(limits));
/// assert_eq!(error.budget(), Some("acme"));
/// assert_eq!(error.limits().tokens, Some(1000));
/// assert_eq!(error.kind(), ErrorKind::BudgetExceeded);
/// ```
#[derive(Clone, PartialEq, thiserror::Error)]
#[error("{}", Self::text(&.0.limits, &.0.budget_spent, .0.unpriced))]
pub struct BudgetExceeded(Box<BudgetExceededFields>);

#[derive(Clone, PartialEq)]
struct BudgetExceededFields {
    limits: BudgetLimits,
    budget_spent: BudgetSpent,
    retry_after: Option<Duration>,
    unpriced: bool,
    spent: ErrorCosts,
}

impl BudgetExceeded {
    /// The error of a call that found `budget` used up, as a mock in a test raises one.
    #[must_use]
    pub fn new(budget: &Budget) -> Self {
        Self::saying(budget.limits().clone(), budget.spent())
    }

    /// The error of a call of which an LM call was refused so.
    #[cfg(feature = "_host")]
    pub(crate) fn of(refusal: &BudgetRefusal) -> Self {
        let error = Self::new(&refusal.budget).with_retry_after(refusal.retry_after);
        match refusal.unpriced {
            true => error.into_unpriced(),
            false => error,
        }
    }

    pub(crate) fn saying(limits: BudgetLimits, budget_spent: BudgetSpent) -> Self {
        Self(Box::new(BudgetExceededFields {
            limits,
            budget_spent,
            retry_after: None,
            unpriced: false,
            spent: ErrorCosts::NONE,
        }))
    }

    /// The same, with the time after which some of the budget is free again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.0.retry_after = wait.into();
        self
    }

    /// The same, of a limit of money that met an LM without a known price.
    #[must_use]
    pub fn into_unpriced(mut self) -> Self {
        self.0.unpriced = true;
        self
    }

    /// The name of the budget, if it has one.
    #[must_use]
    pub fn budget(&self) -> Option<&str> {
        self.0.limits.name.as_deref()
    }

    /// The limits of the budget.
    #[must_use]
    pub fn limits(&self) -> &BudgetLimits {
        &self.0.limits
    }

    /// What the budget had spent when the call ended, in its window if it has one: of all calls that
    /// it is for, and not of this one alone.
    #[must_use]
    pub fn budget_spent(&self) -> &BudgetSpent {
        &self.0.budget_spent
    }

    /// The time until some of the budget is free again; `None` if it has no window, or is of no use
    /// for this LM.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the LM call was refused because the budget has a limit of money and the price of the LM
    /// is not known.
    #[must_use]
    pub fn is_unpriced(&self) -> bool {
        self.0.unpriced
    }

    /// What happened, and what to do about it.
    fn text(limits: &BudgetLimits, spent: &BudgetSpent, unpriced: bool) -> impl fmt::Display {
        let of = match &limits.name {
            Some(name) => format!("the budget `{name}`"),
            None => "the budget of the call".to_owned(),
        };
        if unpriced {
            return format!(
                "{of} has a limit of money, and the price of the LM is not known: give it by \
                 `Lm::price`, or limit tokens alone; the LM call was not made"
            );
        }
        let tokens = limits.tokens.map(|limit| {
            let (spent, reserved) = (spent.tokens, spent.reserved_tokens);
            format!(
                "{spent} of {limit} tokens are spent{}",
                also(reserved > 0, reserved)
            )
        });
        let usd = limits.usd.map(|limit| {
            let (spent, reserved) = (spent.usd, spent.reserved_usd);
            format!(
                "{spent} of {limit} are spent{}",
                also(reserved > Default::default(), reserved)
            )
        });
        let amounts: Vec<_> = tokens.into_iter().chain(usd).collect();
        let amounts = match amounts.is_empty() {
            true => String::new(),
            false => format!(": {}", amounts.join(", ")),
        };
        let window = limits.window.map(|window| format!(" within {window:?}"));
        let window = window.unwrap_or_default();
        format!("{of} is used up{amounts}{window}; no further LM call was made")
    }
}

fn also(is_some: bool, reserved: impl fmt::Display) -> String {
    match is_some {
        true => format!(" and {reserved} reserved"),
        false => String::new(),
    }
}

impl fmt::Display for BudgetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limits, spent) = (self.budget.limits(), self.budget.spent());
        BudgetExceeded::text(limits, &spent, self.unpriced).fmt(f)
    }
}

impl Classify for BudgetExceeded {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BudgetExceeded
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

costs_in_field!(BudgetExceeded, 0.spent);

debug_as_display!(BudgetExceeded);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Usd;

    #[test]
    fn its_message_names_the_budget_its_limits_and_what_is_spent() {
        let limits = BudgetLimits::new().with_tokens(1000);
        let spent = BudgetSpent {
            tokens: 900,
            reserved_tokens: 150,
            ..BudgetSpent::default()
        };
        let error = BudgetExceeded::saying(limits.clone(), spent);
        assert_eq!(
            error.to_string(),
            "the budget of the call is used up: 900 of 1000 tokens are spent and 150 reserved; \
             no further LM call was made"
        );
        let limits = limits.with_name("acme").with_usd(Usd::new(0.5));
        let limits = limits.with_window(Duration::from_secs(60));
        let spent = BudgetSpent {
            tokens: 20,
            usd: Usd::new(0.75),
            ..BudgetSpent::default()
        };
        let error = BudgetExceeded::saying(limits, spent);
        assert_eq!(
            error.to_string(),
            "the budget `acme` is used up: 20 of 1000 tokens are spent, $0.75 of $0.5 are spent \
             within 60s; no further LM call was made"
        );
        let unpriced = error.into_unpriced().to_string();
        assert!(
            unpriced.contains("`acme`") && unpriced.contains("`Lm::price`"),
            "{unpriced}"
        );
    }
}
