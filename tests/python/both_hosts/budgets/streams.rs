//! The budgets of answers that are read as they are written.

use futures_util::StreamExt;
use tower::ServiceExt;
use tower_dspy::{
    StreamEvent,
    testing::scripted_lm::{Gate, Reply},
};

use super::{exceeded, short, tokens};
use crate::support::{ask, eventually, host, lm_server};

#[tokio::test]
async fn a_stream_that_is_cut_is_charged_what_came_and_that_is_an_estimate() {
    let (host, server) = (host().await, lm_server().await);
    let (model, gate) = ("budget-cut", Gate::new());
    let words = "word ".repeat(40);
    server.script(model, Reply::answer(words).pause_after(30, &gate));
    let program = short(&host, "question -> answer", model).await.streaming();
    let budget = tokens(100_000);
    let mut stream = program
        .oneshot(ask("?").with_budget(&budget))
        .await
        .unwrap();
    let mut text = String::new();
    while text.matches("word").count() < 10 {
        if let StreamEvent::Text { delta, .. } = stream.next().await.unwrap().unwrap() {
            text.push_str(&delta);
        }
    }
    assert!(budget.spent().reserved_tokens > 0);
    drop(stream);
    eventually("the end of its LM call", || {
        budget.spent().reserved_tokens == 0
    })
    .await;
    let spent = budget.spent();
    // Its prompt, and the words that came.
    assert!(spent.estimated_tokens >= 10, "{spent:?}");
    assert_eq!(spent.tokens, spent.estimated_tokens);
    gate.open();
}

#[tokio::test]
async fn a_stream_ends_with_the_refusal_and_its_text_is_the_partial_answer() {
    let (host, model) = (host().await, "budget-streamed");
    let program = short(&host, "asks:twice", model).await;
    let streamed = program.clone().streaming();
    let mut stream = streamed
        .oneshot(ask("?").with_budget(&tokens(1)))
        .await
        .unwrap();
    let mut last = None;
    while let Some(event) = stream.next().await {
        last = Some(event);
    }
    let error = exceeded(last.expect("an end").unwrap_err());
    assert_eq!(error.spent().expect("what it spent").lm_calls.len(), 2);
    // Refused before its first event.
    let error = program
        .streaming()
        .oneshot(ask("?").with_budget(&tokens(0)))
        .await;
    exceeded(error.unwrap_err());
}
