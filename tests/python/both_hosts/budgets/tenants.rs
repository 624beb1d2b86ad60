//! The budgets of tenants.

use std::{cell::Cell, time::Duration};

use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    BudgetLayer, BudgetLimits, Classify, Error, PredictRequest, Prediction, Tenant,
    inbound::respond::ErrorResponse, layers::TenantBudgets,
};

use super::{exceeded, short};
use crate::support::{ask, host, lm_server};

#[tokio::test]
async fn each_tenant_has_its_own_budget_which_is_free_again_after_its_window() {
    let (host, model) = (host().await, "tenants-window");
    let program = short(&host, "question -> answer", model).await;
    let window = Duration::from_secs(2);
    let limits = BudgetLimits::new().with_tokens(1).with_window(window);
    let budgets = TenantBudgets::new(limits);
    let program = ServiceBuilder::new()
        .layer(BudgetLayer::new(budgets.clone()))
        .service(program);
    let answered = Cell::new(0);
    let ask_as = |tenant| ask("?").with_tenant(Tenant::new(tenant));
    let answer = async |request| {
        let answer = program.clone().oneshot(request).await?;
        answered.set(answered.get() + 1);
        Ok::<Prediction, Error>(answer)
    };
    // A second call may begin after the window of the first, on a slow machine.
    let refusal = async |request: PredictRequest| {
        loop {
            if let Err(error) = answer(request.clone()).await {
                break error;
            }
        }
    };
    let error = refusal(ask_as("a")).await;
    let wait = error.retry_after().expect("a time to wait");
    assert!(wait <= window + window / 60, "{wait:?}");
    assert_eq!(ErrorResponse::of(error).status(), 429);
    answer(ask_as("b")).await.unwrap();
    // Those of no tenant share one.
    exceeded(refusal(ask("?")).await);
    let requests = async || lm_server().await.requests(model).len();
    assert_eq!(requests().await, answered.get());

    sleep(wait).await;
    assert_eq!(budgets.of(Some(&Tenant::new("a"))).spent().tokens, 0);
    answer(ask_as("a")).await.unwrap();
    assert_eq!(requests().await, answered.get());
}
