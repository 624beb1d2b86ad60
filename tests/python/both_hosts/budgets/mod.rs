//! Limits in tokens and money, and the end of a call that finds one used up.

mod at_once;
mod of_host;
mod refusals;
mod remaining;
mod streams;
mod tenants;

use tower_dspy::{Budget, BudgetExceeded, BudgetLimits, DspyService, Error, Host};

use crate::support::lm;

/// A budget of so many tokens.
fn tokens(tokens: u64) -> Budget {
    Budget::new(BudgetLimits::new().with_tokens(tokens))
}

/// The program `target` with an LM whose answers have at most 16 tokens.
async fn short(host: &Host, target: &str, model: &str) -> DspyService {
    let lm = lm(model).await.option("max_tokens", 16);
    let load = host.load(target).lm(lm).await;
    load.unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()))
}

#[track_caller]
fn exceeded(error: Error) -> BudgetExceeded {
    match error {
        Error::BudgetExceeded(error) => error,
        other => panic!("{other:?}"),
    }
}
