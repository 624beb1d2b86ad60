//! The budgets of tenants.

use std::time::Duration;

use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    BudgetLayer, BudgetLimits, Classify, Tenant, inbound::respond::ErrorResponse,
    layers::TenantBudgets,
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
    let call = |tenant: &'static str| {
        let request = ask("?").with_tenant(Tenant::new(tenant));
        program.clone().oneshot(request)
    };
    call("a").await.unwrap();
    let error = call("a").await.unwrap_err();
    let wait = error.retry_after().expect("a time to wait");
    assert!(wait <= window + window / 60, "{wait:?}");
    assert_eq!(ErrorResponse::of(error).status(), 429);
    call("b").await.unwrap();
    // Those of no tenant share one.
    program.clone().oneshot(ask("?")).await.unwrap();
    let error = program.clone().oneshot(ask("?")).await.unwrap_err();
    exceeded(error);
    assert_eq!(lm_server().await.requests(model).len(), 3);

    sleep(wait).await;
    assert_eq!(budgets.of(Some(&Tenant::new("a"))).spent().tokens, 0);
    call("a").await.unwrap();
    assert_eq!(lm_server().await.requests(model).len(), 4);
}
