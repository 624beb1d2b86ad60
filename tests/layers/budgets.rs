//! The budgets of calls, over a provider that counts, and their windows under paused time.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::time::{Instant, advance, sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_dspy::{
    Backoff, Budget, BudgetLayer, BudgetLimits, CallContext, Carrier, DspyServiceBuilderExt,
    ErrorKind, HedgeLayer, Lm, PredictRequest, RetryLayer, StackConfig, Tenant, TimeoutLayer,
    layers::TenantBudgets,
    lm::{LmFailure, LmFailureKind, LmHandle, LmRequest},
};

use crate::support::secs;

type Program = BoxCloneSyncService<PredictRequest, u64, BoxError>;

/// What the provider counts for each LM call.
const COST: u64 = 100;

/// An LM that answers after `delay`, and counts 100 tokens.
fn lm(delay: Duration) -> LmHandle {
    let http = service_fn(move |_: LmRequest| async move {
        sleep(delay).await;
        let usage = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}"#;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
            usage.as_bytes(),
        ))))
    });
    let lm = Lm::new("openai/counting")
        .base_url("http://lm/v1")
        .key("test-key");
    lm.http(http).connect().expect("an LM")
}

async fn ask(lm: &LmHandle, context: &CallContext) -> Result<(), LmFailure> {
    let body = json!({"messages": [], "max_tokens": 8}).to_string();
    let request = http::Request::post("http://lm/v1/chat/completions");
    let mut request = request.body(Bytes::from(body)).expect("a request");
    *request.context_mut() = context.clone();
    let answer = lm.send(request).await?;
    let body = answer.into_body().collect().await;
    body.map(drop)
        .map_err(|error| LmFailure::of(&*BoxError::from(error)))
}

/// A program of as many LM calls as it is asked for, one after the other, that answers with their
/// number; each takes a second.
fn program() -> Program {
    let lm = lm(secs(1));
    BoxCloneSyncService::new(service_fn(move |request: PredictRequest| {
        let lm = lm.clone();
        async move {
            let (asked, context) = request.into_parts();
            let calls = asked["calls"].as_u64().unwrap_or(1);
            for _ in 0..calls {
                ask(&lm, &context).await?;
            }
            Ok(calls)
        }
    }))
}

fn calls(calls: u64) -> PredictRequest {
    PredictRequest::new(json!({ "calls": calls }))
}

fn of(tenant: &'static str) -> PredictRequest {
    calls(1).with_tenant(Tenant::new(tenant))
}

fn limits(tokens: u64) -> BudgetLimits {
    BudgetLimits::new().with_tokens(tokens)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, BoxError>) {
    let error = answer.expect_err("it is refused");
    assert_eq!(ErrorKind::of(&*error), ErrorKind::BudgetExceeded, "{error}");
}

#[tokio::test(start_paused = true)]
async fn each_call_has_a_fresh_budget_which_its_attempts_share() {
    let flaky = |program: Program| {
        service_fn(move |request: PredictRequest| {
            let program = program.clone();
            async move {
                let first = request
                    .context()
                    .is_some_and(|context| context.attempt == 0);
                program.oneshot(request).await?;
                match first {
                    true => Err(BoxError::from(LmFailure::new(LmFailureKind::Read, "cut"))),
                    false => Ok(()),
                }
            }
        })
    };
    let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO));
    let budget = BudgetLayer::each(limits(2 * COST));
    let around = ServiceBuilder::new()
        .layer(budget.clone())
        .layer(retry.clone())
        .service(flaky(program()));
    for _ in 0..2 {
        around.clone().oneshot(calls(1)).await.expect("200 for two");
        refused(around.clone().oneshot(calls(2)).await);
    }
    let inside = ServiceBuilder::new()
        .layer(retry)
        .layer(budget)
        .service(flaky(program()));
    inside
        .oneshot(calls(2))
        .await
        .expect("200 for each attempt");
}

#[tokio::test(start_paused = true)]
async fn an_lm_call_is_charged_to_all_budgets_of_its_call() {
    let (host, own) = (Budget::new(limits(10 * COST)), Budget::new(limits(COST)));
    let service = ServiceBuilder::new()
        .layer(BudgetLayer::shared(&host))
        .layer(BudgetLayer::each(limits(3 * COST)))
        .service(program());
    let request = calls(2).with_budget(&own);
    refused(service.clone().oneshot(request).await);
    assert_eq!((own.spent().tokens, own.spent().refused), (COST, 1));
    assert_eq!((host.spent().tokens, host.spent().refused), (COST, 0));
    refused(service.clone().oneshot(calls(4)).await);
    assert_eq!(host.spent().tokens, 4 * COST);
    assert_eq!(service.oneshot(calls(3)).await.expect("its own"), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_counts_for_its_window() {
    let minute = secs(60);
    let budget = Budget::new(limits(2 * COST).with_window(minute));
    let service = BudgetLayer::shared(&budget);
    let service = ServiceBuilder::new().layer(service).service(program());
    let mut at = Vec::new();
    let start = Instant::now();
    while at.len() < 6 {
        match service.clone().oneshot(calls(1)).await {
            Ok(_) => at.push(start.elapsed()),
            Err(error) => {
                refused::<()>(Err(error));
                advance(secs(1)).await;
            }
        }
    }
    // In no minute more than two, and after at most a sixtieth of it more the next.
    for (n, later) in at.iter().enumerate().skip(2) {
        let between = *later - at[n - 2];
        assert!(between >= minute && between <= minute + secs(4), "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_tenant_has_a_budget_and_those_of_none_share_one() {
    let budgets = TenantBudgets::new(limits(COST).with_window(secs(60)));
    let service = ServiceBuilder::new()
        .layer(BudgetLayer::new(budgets.clone()))
        .service(program());
    for request in [of("a"), of("b"), calls(1)] {
        let answer = service.clone().oneshot(request.clone()).await;
        answer.expect("its first");
        refused(service.clone().oneshot(request).await);
    }
    let left = budgets.of(Some(&Tenant::new("a"))).remaining();
    assert_eq!(left.tokens, Some(0));
    advance(secs(62)).await;
    service.oneshot(of("a")).await.expect("in the next window");
}

#[tokio::test(start_paused = true)]
async fn a_function_chooses_the_budget() {
    let small = Budget::new(limits(0));
    let service = ServiceBuilder::new()
        .layer(BudgetLayer::by(move |request: &PredictRequest| {
            (request.lm() == Some("cheap")).then(|| small.clone())
        }))
        .service(program());
    service.clone().oneshot(calls(9)).await.expect("no limit");
    refused(service.oneshot(calls(1).with_lm("cheap")).await);
}

/// As a layer of one LM, whose requests have the tenant among their extensions.
#[tokio::test(start_paused = true)]
async fn the_calls_of_one_lm_have_budgets_of_their_own() {
    let http = service_fn(|_: LmRequest| async {
        let usage = r#"{"usage":{"total_tokens":100}}"#;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
            usage.as_bytes(),
        ))))
    });
    let lm = Lm::new("openai/limited")
        .base_url("http://lm/v1")
        .key("test-key");
    let lm = lm.http(http).layer(BudgetLayer::per_tenant(limits(1)));
    let lm = lm.connect().expect("an LM");
    let send = |tenant: &'static str| {
        let request = http::Request::post("http://lm/v1/chat/completions");
        let request = request.extension(Tenant::new(tenant));
        let request = request.body(Bytes::from_static(b"{}")).expect("a request");
        let sent = lm.send(request);
        async { sent.await?.into_body().collect().await.map(drop) }
    };
    for tenant in ["a", "b"] {
        send(tenant).await.expect("its first");
        refused(send(tenant).await);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_leave_nothing_reserved() {
    let budget = Budget::new(limits(10 * COST));
    let limited = ServiceBuilder::new()
        .layer(BudgetLayer::shared(&budget))
        .layer(TimeoutLayer::new(Duration::from_millis(500)))
        .service(program());
    let mut call = tokio_test::task::spawn(limited.clone().oneshot(calls(1)));
    tokio_test::assert_pending!(call.poll());
    assert!(budget.spent().reserved_tokens > 0);
    drop(call);
    assert_eq!(budget.spent().reserved_tokens, 0);
    limited.oneshot(calls(1)).await.expect_err("too slow");
    assert_eq!(budget.spent().reserved_tokens, 0);
}

#[tokio::test(start_paused = true)]
async fn both_attempts_of_a_hedge_are_charged() {
    let budget = Budget::new(limits(10 * COST));
    let hedged = ServiceBuilder::new()
        .layer(BudgetLayer::shared(&budget))
        .layer(HedgeLayer::after(Duration::from_millis(500)))
        .service(program());
    hedged.oneshot(calls(1)).await.expect("an answer");
    let spent = budget.spent();
    assert_eq!(spent.tokens - spent.estimated_tokens, COST);
    assert!(spent.estimated_tokens > 0 && spent.reserved_tokens == 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_may_have_its_budget_from_the_stack_or_the_builder() {
    let config: StackConfig = toml::from_str("[budget]\ntokens = 100").expect("well formed");
    let by_config = ServiceBuilder::new()
        .standard_stack(config.layer().expect("it is allowed"))
        .service(program());
    let by_builder = ServiceBuilder::new()
        .call_budget(limits(COST))
        .service(program());
    let services = [
        BoxCloneSyncService::new(by_config),
        BoxCloneSyncService::new(by_builder),
    ];
    for service in services {
        for _ in 0..2 {
            service.clone().oneshot(calls(1)).await.expect("an answer");
            refused(service.clone().oneshot(calls(2)).await);
        }
    }
    let mut by_tenant = ServiceBuilder::new()
        .tenant_budgets(limits(COST))
        .service(program());
    for tenant in ["a", "b"] {
        let by_tenant = by_tenant.ready().await.expect("it is ready");
        by_tenant.call(of(tenant)).await.expect("its first");
        refused(by_tenant.call(of(tenant)).await);
    }
}
