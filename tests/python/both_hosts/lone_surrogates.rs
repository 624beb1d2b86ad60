//! Text with lone surrogates, which Python can hold and UTF-8 cannot, on its way to Rust. Each
//! surrogate is replaced, and neither the call nor its host fails.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Classify, DspyService, Error, ErrorKind, Host, PredictRequest, Tool, ToolCall,
    testing::scripted_lm::Reply,
};

use crate::{
    captured_log::Captured,
    support::{ask, eventually, host, lm_server, lm_that_says, load, own_process, start},
};

/// What each of the programs says, as Rust has it.
const REPLACED: &str = "half \u{fffd}";

async fn of(host: &Host, function: &str) -> DspyService {
    load(host, &format!("surrogates:{function}"), "unused").await
}

fn keyed() -> PredictRequest {
    PredictRequest::new(json!({"key": "?"}))
}

#[tokio::test]
async fn an_exceptions_message_arrives_with_its_surrogates_replaced() {
    let host = host().await;
    let program = of(&host, "raises").await;
    let error = program.clone().oneshot(keyed()).await;
    let Err(Error::Program(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.python_type(), "ValueError");
    assert_eq!(error.message(), REPLACED);
    assert!(error.traceback().contains("raise ValueError(HALF)"));
    let error = program.oneshot(keyed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Program, "{error}");
}

#[tokio::test]
async fn the_values_and_names_of_an_answer_arrive_with_their_surrogates_replaced() {
    let host = host().await;
    let answer = of(&host, "answers").await.oneshot(keyed()).await.unwrap();
    // Two halves side by side are whole.
    let expected = json!({"answer": REPLACED, REPLACED: [REPLACED, "\u{1f600}"]});
    assert_eq!(json!(answer.outputs), expected);
}

#[tokio::test]
async fn a_lone_surrogate_from_an_lm_does_not_fail_the_answer() {
    let host = host().await;
    let half = r#"{"id": "1", "object": "chat.completion", "model": "x", "choices": [{"index": 0,
        "message": {"role": "assistant", "content":
        "[[ ## answer ## ]]\nhalf \ud83d\n\n[[ ## completed ## ]]"}, "finish_reason": "stop"}]}"#;
    let load = host.load("question -> answer").lm(lm_that_says(200, half));
    let answer = load.await.unwrap().oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], REPLACED);
}

#[tokio::test]
async fn a_lone_surrogate_in_a_providers_error_does_not_hide_the_status() {
    let host = host().await;
    let lm = lm_that_says(503, r#"{"error": {"message": "half \ud83d"}}"#);
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    let error = qa.oneshot(ask("?")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LmUnavailable, "{error}");
    let Error::Lm(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.status(), Some(503));
    assert!(error.message().contains(REPLACED), "{error}");
}

#[tokio::test]
async fn a_partial_answer_arrives_with_its_surrogates_replaced() {
    let (host, server) = (host().await, lm_server().await);
    server.script("surrogates", Reply::hang());
    let drafts = load(&host, "surrogates:Drafts", "surrogates").await;
    let token = CancellationToken::new();
    let call = tokio::spawn(drafts.oneshot(ask("?").with_cancel(token.clone())));
    let asked = server.wait_for("surrogates", |all| all.len() == 1).await;
    asked.unwrap();
    token.cancel();
    let error = call.await.unwrap().unwrap_err();
    let partial = error.spent().and_then(|spent| spent.partial.as_ref());
    assert_eq!(json!(partial), json!({"answer": REPLACED}));
}

#[tokio::test]
async fn the_arguments_of_a_tool_arrive_with_their_surrogates_replaced() {
    let host = host().await;
    let echo = Tool::new("echo", "Repeats a text.", |call: ToolCall| async move {
        Ok::<_, BoxError>(call.arguments["text"].clone())
    });
    let echo = echo.argument("text", json!({"type": "string"}));
    let load = host.load("surrogates:WithTool").tool(echo);
    let answer = load.await.unwrap().oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], REPLACED);
}

#[tokio::test]
async fn the_name_of_a_stray_task_arrives_with_its_surrogates_replaced() {
    let host = host().await;
    let program = of(&host, "leaves_a_task").await;
    program.clone().oneshot(keyed()).await.unwrap();
    eventually("the end of the task", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_log_record_arrives_with_its_surrogates_replaced() {
    if own_process("both_hosts::lone_surrogates::a_log_record_arrives_with_its_surrogates_replaced")
        .await
        .is_some()
    {
        return;
    }
    let captured = Captured::from("debug");
    let host = start().await;
    of(&host, "logs").await.oneshot(keyed()).await.unwrap();
    let logged = format!("logged {REPLACED}");
    eventually("the record", || captured.text().contains(&logged)).await;
}
