//! The budget of a host.

use tower::ServiceExt;
use tower_dspy::{Budget, BudgetLimits, Host};

use super::{exceeded, short, tokens};
use crate::support::{ask, in_a_worker, lm_server, own_process, programs, venv};

/// A host with this budget.
async fn host(budget: &Budget) -> Host {
    let venv = venv().await;
    if in_a_worker() {
        let workers = Host::workers(1).venv(venv).python_path(programs());
        return workers.budget(budget).start().await.expect("a worker");
    }
    let embedded = Host::embedded().venv(venv).python_path(programs());
    embedded.budget(budget).start().await.expect("a host")
}

#[tokio::test]
async fn all_lm_calls_of_a_host_are_charged_to_its_budget() {
    let name = "both_hosts::budgets::of_host::all_lm_calls_of_a_host_are_charged_to_its_budget";
    if own_process(name).await.is_some() {
        return;
    }
    let limits = BudgetLimits::new().with_name("host").with_tokens(1_000_000);
    let budget = Budget::new(limits);
    let host = host(&budget).await;
    let qa = short(&host, "question -> answer", "host-budget").await;
    let answer = qa.clone().oneshot(ask("?")).await.unwrap();
    let one = answer.usage.total_tokens;
    assert_eq!(budget.spent().tokens, one);
    // One that belongs to no call as well.
    let other = short(&host, "budgets:asks_of_no_call", "host-budget").await;
    other.oneshot(ask("?")).await.unwrap();
    assert_eq!(lm_server().await.requests("host-budget").len(), 2);
    assert_eq!(budget.spent().tokens, 2 * one);
    // Beside that of a call, which is used up first.
    let request = ask("?").with_budget(&tokens(0));
    let error = exceeded(qa.oneshot(request).await.unwrap_err());
    assert_eq!((error.budget(), budget.spent().refused), (None, 0));
}
