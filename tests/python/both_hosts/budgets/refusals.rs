//! The refusal of an LM call, as the error of its call.

use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Budget, BudgetLayer, BudgetLimits, Classify, Error, ErrorKind, FallbackLayer, LmOutcome,
    Prediction, Price, RetryLayer, Tenant, Usd, testing::scripted_lm::Reply,
};

use super::{exceeded, short, tokens};
use crate::support::{ask, call, host, lm, lm_server, load};

#[tokio::test]
async fn the_call_ends_with_what_it_spent_and_its_partial_answer() {
    let (host, server) = (host().await, lm_server().await);
    for (target, model) in [
        ("budgets:Drafts", "over-async"),
        ("budgets:SyncDrafts", "over-sync"),
    ] {
        let program = short(&host, target, model).await;
        let limits = BudgetLimits::new().with_name("draft").with_tokens(1);
        let budget = Budget::new(limits.clone());
        let error = program.oneshot(ask("?").with_budget(&budget)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BudgetExceeded);
        assert!(error.call_id().is_some() && error.may_have_started());
        let error = exceeded(error);
        assert_eq!((error.budget(), error.limits()), (Some("draft"), &limits));
        assert_eq!(error.retry_after(), None);
        // The first was sent, as nothing was spent.
        assert_eq!(server.requests(model).len(), 1);
        let spent = error.spent().expect("what it spent");
        let outcomes: Vec<_> = spent.lm_calls.iter().map(|call| call.outcome).collect();
        assert_eq!(outcomes, [LmOutcome::Answered, LmOutcome::Refused]);
        assert!(spent.usage.total_tokens > 1);
        assert_eq!(error.budget_spent().tokens, spent.usage.total_tokens);
        assert_eq!(error.budget_spent().refused, 1);
        assert_eq!(budget.spent(), *error.budget_spent());
        assert_eq!(
            json!(spent.partial),
            json!({"answer": "You said: ? 0"}),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_found_whichever_client_made_the_request() {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    let anthropic = tower_dspy::Lm::new("anthropic/over-anthropic")
        .base_url(server.base_url())
        .key("test-key")
        .option("max_tokens", 16);
    let programs = [
        host.load("budgets:Drafts").lm(anthropic).await,
        host.load("budgets:by_litellm").await,
    ];
    for program in programs {
        let program = program.unwrap();
        let error = program.oneshot(ask("?").with_budget(&tokens(1))).await;
        let spent = exceeded(error.unwrap_err());
        assert_eq!(spent.spent().expect("what it spent").lm_calls.len(), 2);
    }
}

#[tokio::test]
async fn a_refusal_that_a_program_wraps_is_still_one() {
    let host = host().await;
    for target in ["Together", "Caused", "InParallel", "InBatch"] {
        let program = load(&host, &format!("wraps:{target}"), "over-wrapped").await;
        let error = program.oneshot(ask("?").with_budget(&tokens(0))).await;
        let error = exceeded(error.unwrap_err());
        assert_eq!(error.budget_spent().tokens, 0, "{target}");
    }
    let program = load(&host, "wraps:Beside", "over-wrapped").await;
    let error = program.oneshot(ask("?").with_budget(&tokens(0))).await;
    assert!(matches!(error, Err(Error::Program(_))), "{error:?}");
    assert!(lm_server().await.requests("over-wrapped").is_empty());
}

#[tokio::test]
async fn a_program_that_catches_the_refusal_answers() {
    let host = host().await;
    let program = short(&host, "budgets:answers_anyway", "over-caught").await;
    let answer = program.oneshot(ask("?").with_budget(&tokens(1))).await;
    let answer = answer.unwrap();
    assert_eq!(answer.outputs["answer"], "You said: ? 0");
    assert_eq!(answer.outputs["failure"], "LMTransportError");
    assert_eq!(answer.outputs["left"], json!([0, null, false]));
    assert_eq!(answer.lm_calls.len(), 2);
}

#[tokio::test]
async fn the_attempts_of_a_retry_share_the_budget_of_their_call_and_a_refusal_is_not_retried() {
    let (host, server) = (host().await, lm_server().await);
    let once = short(&host, "question -> answer", "over-once").await;
    server.script("over-once", Reply::answer("first"));
    let one = once.oneshot(ask("?")).await.unwrap().usage.total_tokens;
    let program = short(&host, "asks:twice", "over-retried").await;
    // Each call has a fresh one.
    for asked in [3, 6] {
        let script = [
            Reply::answer("first"),
            Reply::status(503),
            Reply::answer("first"),
        ];
        server.script("over-retried", script);
        let limited = ServiceBuilder::new()
            .layer(BudgetLayer::each(BudgetLimits::new().with_tokens(one + 1)))
            .layer(
                RetryLayer::new(2).on_kinds([ErrorKind::BudgetExceeded, ErrorKind::LmUnavailable]),
            )
            .service(program.clone());
        let error = exceeded(limited.oneshot(ask("?")).await.unwrap_err());
        // The first attempt's two, of which one failed and cost nothing, and the first of the second.
        assert_eq!(server.requests("over-retried").len(), asked);
        assert_eq!(error.budget_spent().tokens, 2 * one);
        assert_eq!(error.spent().expect("what it spent").lm_calls.len(), 4);
    }
}

#[tokio::test]
async fn a_fallback_answers_where_it_is_asked_to() {
    let host = host().await;
    let program = load(&host, "budgets:Drafts", "over-fallback").await;
    let sorry = Prediction::new(
        [("answer".to_owned(), json!("sorry"))]
            .into_iter()
            .collect(),
    );
    let fallback = FallbackLayer::value(sorry);
    let by_default = ServiceBuilder::new()
        .layer(fallback.clone())
        .service(program.clone());
    let error = by_default.oneshot(ask("?").with_budget(&tokens(0))).await;
    exceeded(error.unwrap_err());
    let asked = ServiceBuilder::new()
        .layer(fallback.on_kinds([ErrorKind::BudgetExceeded]))
        .service(program);
    let answer = asked.oneshot(ask("?").with_budget(&tokens(0))).await;
    assert_eq!(answer.unwrap().outputs["answer"], "sorry");
}

#[tokio::test]
async fn a_limit_of_money_needs_the_price_of_the_lm() {
    let (host, model) = (host().await, "over-unpriced");
    let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(1e-9)));
    let unpriced = load(&host, "question -> answer", model).await;
    let error = unpriced.oneshot(ask("?").with_budget(&budget)).await;
    let error = exceeded(error.unwrap_err());
    assert!(error.is_unpriced() && error.to_string().contains("`Lm::price`"));
    assert!(lm_server().await.requests(model).is_empty());

    let priced = lm(model).await.price(Price::per_million(1.0, 2.0));
    let priced = host.load("budgets:Drafts").lm(priced).await.unwrap();
    let error = priced.oneshot(ask("?").with_budget(&budget)).await;
    let error = exceeded(error.unwrap_err());
    assert!(!error.is_unpriced());
    assert!(error.budget_spent().usd > Usd::new(1e-9));
    assert_eq!(lm_server().await.requests(model).len(), 1);
}

#[tokio::test]
async fn neither_the_prompt_nor_the_key_nor_the_tenant_is_in_the_error() {
    let host = host().await;
    let program = load(&host, "question -> answer", "over-secret").await;
    let limits = BudgetLimits::new().with_tokens(0);
    let program = ServiceBuilder::new()
        .layer(BudgetLayer::per_tenant(limits))
        .service(program);
    let request = ask("a-secret-question").with_tenant(Tenant::new("a-secret-tenant"));
    let error = exceeded(program.oneshot(request).await.unwrap_err());
    let shown = format!("{error} {error:?} {:?}", Error::from(error.clone()));
    for secret in ["a-secret-question", "a-secret-tenant", "test-key"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(error.budget(), Some("tenant"));
    let spent = error.spent().expect("the refused LM call");
    assert_eq!(json!(spent.partial), Value::Null);
}
