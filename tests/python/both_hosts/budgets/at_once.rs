//! LM calls at once that share a budget.

use serde_json::json;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    BudgetLayer, DspyService,
    testing::scripted_lm::{Gate, Reply},
};

use super::{exceeded, short, tokens};
use crate::support::{ask, eventually, host, lm_server};

const CALLS: usize = 64;

/// What an LM call of `program` takes: the tokens that are counted, and those that are reserved.
async fn cost(program: &DspyService, model: &str) -> (u64, u64) {
    let answer = program.clone().oneshot(ask("question 00")).await.unwrap();
    let body = lm_server().await.requests(model)[0].body.to_string();
    // By the length of the body, and the most that it allows its answer.
    let estimate = (body.len() as u64).div_ceil(3) + 16;
    (answer.usage.total_tokens, estimate)
}

#[tokio::test]
async fn calls_at_once_never_pass_their_budget_by_more_than_one_estimate() {
    let (host, server) = (host().await, lm_server().await);
    let (model, gate) = ("at-once", Gate::new());
    let program = short(&host, "question -> answer", model).await;
    let (tokens_of_one, estimate) = cost(&program, model).await;
    assert!(estimate >= tokens_of_one);
    server.script(model, Reply::echo().held_by(&gate));
    let budget = tokens(10 * tokens_of_one);
    let shared = ServiceBuilder::new()
        .layer(BudgetLayer::shared(&budget))
        .service(program);
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let call = shared.clone().oneshot(ask(&format!("question {n:02}")));
        calls.spawn(call);
    }
    // All others are refused before the first answer comes.
    let most = (10 * tokens_of_one).div_ceil(estimate);
    let refused = CALLS as u64 - most;
    eventually("the refusals", || budget.spent().refused >= refused).await;
    // A reservation comes before its request.
    let asked = server.wait_for(model, |all| all.len() as u64 == 1 + most);
    asked.await.unwrap();
    gate.open();
    let mut answered = 0;
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => drop(exceeded(error)),
        }
    }
    assert_eq!(answered, most);
    let spent = budget.spent();
    assert_eq!((spent.reserved_tokens, spent.estimated_tokens), (0, 0));
    assert_eq!(spent.tokens, answered * tokens_of_one);
    assert!(spent.tokens <= 10 * tokens_of_one + estimate);
    // One after the other they use up what is left, and pass it by less than one call.
    let mut calls = 0;
    while shared.clone().oneshot(ask("question 00")).await.is_ok() {
        calls += 1;
        assert!(calls <= 10);
    }
    let spent = budget.spent().tokens;
    assert!((10 * tokens_of_one..10 * tokens_of_one + estimate).contains(&spent));
}

#[tokio::test]
async fn the_programs_inside_a_program_share_the_budget_of_its_call() {
    let (host, server) = (host().await, lm_server().await);
    for (target, model) in [
        ("budgets:gathered", "at-once-gathered"),
        ("budgets:InParallel", "at-once-parallel"),
    ] {
        let program = short(&host, target, model).await;
        let budget = tokens(1);
        let answer = program.oneshot(ask("?").with_budget(&budget)).await;
        let answer = answer.unwrap();
        // One reserved what there was, and the others found it reserved or spent.
        let outputs = json!({"answered": 1, "refused": 7});
        assert_eq!(json!(answer.outputs), outputs, "{target}");
        assert_eq!(server.requests(model).len(), 1, "{target}");
        let spent = budget.spent();
        assert_eq!((spent.refused, spent.reserved_tokens), (7, 0), "{target}");
        assert_eq!(spent.tokens, answer.usage.total_tokens, "{target}");
    }
}
