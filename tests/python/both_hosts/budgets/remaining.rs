//! What a program reads of its budgets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Budget, BudgetLayer, BudgetLimits, PredictRequest, Price, Usd, testing::scripted_lm::Reply,
};

use super::{short, tokens};
use crate::support::{ask, host, lm, lm_server, load};

const SHOWN: Duration = Duration::from_secs(30);

async fn reads(model: &str, request: PredictRequest) -> (Value, u64) {
    let host = host().await;
    let program = short(&host, "budgets:reads", model).await;
    let answer = program.oneshot(request).await.unwrap();
    (json!(answer.outputs), answer.usage.total_tokens)
}

fn nothing() -> PredictRequest {
    PredictRequest::new(json!({}))
}

#[tokio::test]
async fn a_program_reads_what_is_left_before_and_after_an_lm_call() {
    let (read, _) = reads("left-none", nothing()).await;
    let none = json!({"before": null, "after": null, "on_a_thread": null, "named": null});
    assert_eq!(read, none);
    let (read, spent) = reads("left-tokens", nothing().with_budget(&tokens(1000))).await;
    let left = 1000 - spent;
    assert_eq!(read["before"], json!([1000, null, false]));
    assert_eq!(read["after"], json!([left, null, false]));
    assert_eq!(read["on_a_thread"], read["after"]);
    let named = json!({"tokens": left, "usd": null, "wrap_up": false});
    assert_eq!(read["named"], named);
}

#[tokio::test]
async fn of_several_budgets_it_reads_the_least() {
    let host = host().await;
    let lm = lm("left-least").await.price(Price::per_million(1.0, 1.0));
    let program = host.load("budgets:reads").lm(lm).await.unwrap();
    let shared = Budget::new(BudgetLimits::new().with_usd(Usd::new(1.0)));
    let program = ServiceBuilder::new()
        .layer(BudgetLayer::shared(&shared))
        .layer(BudgetLayer::each(BudgetLimits::new().with_tokens(5000)))
        .service(program);
    let request = nothing().with_budget(&tokens(2000));
    let answer = program.oneshot(request).await.unwrap();
    let left = 2000 - answer.usage.total_tokens;
    let usd = 1.0 - 1e-6 * answer.usage.total_tokens as f64;
    assert_eq!(answer.outputs["before"], json!([2000, 1.0, false]));
    assert_eq!(answer.outputs["after"][0], left);
    let read = answer.outputs["after"][1].as_f64().expect("US dollars");
    assert!((read - usd).abs() < 1e-9, "{read} {usd}");
}

#[tokio::test]
async fn a_program_comes_to_an_end_when_the_soft_share_is_spent() {
    let host = host().await;
    let once = load(&host, "question -> answer", "wrap-up-once").await;
    let one = once.oneshot(ask("?")).await.unwrap().usage.total_tokens;
    let program = short(&host, "budgets:wraps_up", "wrap-up").await;
    // More than the share after the third.
    let limits = BudgetLimits::new().with_tokens(10 * one);
    let budget = Budget::new(limits.with_soft_share(0.25));
    let answer = program.oneshot(ask("?").with_budget(&budget)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.outputs["steps"], 3);
    assert_eq!(answer.outputs["left"], json!([7 * one, null, true]));
}

#[tokio::test]
async fn a_program_reads_what_an_lm_call_took_that_it_cut_off() {
    let (host, model) = (host().await, "left-cut");
    let program = short(&host, "budgets:cuts_off", model).await;
    lm_server().await.script(model, Reply::hang());
    // Any spending is more than the share.
    let limits = BudgetLimits::new().with_tokens(1000);
    let budget = Budget::new(limits.with_soft_share(0.001));
    let call = program.oneshot(ask("?").with_budget(&budget));
    let answer = timeout(SHOWN, call).await.expect("the spending is shown");
    let spent = budget.spent();
    assert!(spent.tokens > 0 && spent.estimated_tokens == spent.tokens);
    let left = 1000 - spent.tokens;
    assert_eq!(answer.unwrap().outputs["left"], json!([left, null, true]));
}
