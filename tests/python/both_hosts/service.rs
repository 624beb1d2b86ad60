//! The service itself, without a layer around it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tower_dspy::{
    Cancel, Cause, Classify, Deadline, Error, ErrorKind, Scope, Stage, WithContext,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use crate::support::{HOUR, ask, eventually, host, lm_server, load, question};

#[derive(Serialize)]
struct Question {
    question: &'static str,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Answer {
    answer: String,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    #[expect(dead_code, reason = "it is missing in the answer")]
    verdict: bool,
}

#[tokio::test]
async fn a_function_without_parameters_is_called_with_null_or_no_fields() {
    let host = host().await;
    let tasks = host.function("witness:tasks", None).await.unwrap();
    for none in [json!(null), json!({})] {
        assert!(tasks.call(none).await.unwrap().is_u64());
    }
    let error = tasks.call(json!({"more": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Program);
}

#[tokio::test]
async fn a_requests_own_deadline_is_kept() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("own deadline", Reply::hang());
    let qa = question(&host, "own deadline").await;
    // On a busy machine a deadline may pass before the request is sent.
    for limit in [1, 4, 16].map(Duration::from_secs) {
        let call = ask("?").with_deadline(Deadline::within(limit));
        match qa.clone().oneshot(call).await {
            Err(Error::Elapsed(elapsed)) => {
                assert_eq!(elapsed.scope(), Scope::Deadline);
                if elapsed.stage() == Stage::BeforeStart {
                    continue;
                }
                assert_eq!(elapsed.stage(), Stage::Running);
                assert!(elapsed.limit() <= limit);
            }
            other => panic!("{other:?}"),
        }
        eventually("its permit", || qa.in_flight() == 0).await;
        if !lm.requests("own deadline").is_empty() {
            break;
        }
    }
    let gone = |request: &RequestRecord| request.outcome == Outcome::ClientGone;
    lm.wait_for("own deadline", |all| {
        !all.is_empty() && all.iter().all(gone)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_requests_own_token_is_kept_and_its_cause_is_reported() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("own token", Reply::hang());
    let qa = question(&host, "own token").await;
    for (cancel, cause, kind) in [
        (Cancel::new(), Cause::ClientGone, ErrorKind::Cancelled),
        (Cancel::new(), Cause::Shutdown, ErrorKind::ShuttingDown),
    ] {
        let before = lm.requests("own token").len();
        let call = tokio::spawn(qa.clone().oneshot(ask("?").with_cancel(cancel.clone())));
        lm.wait_for("own token", |all| all.len() > before)
            .await
            .unwrap();
        cancel.cancel(cause);
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(
            matches!(&error, Error::Cancelled(c) if c.cause() == cause),
            "{error}"
        );
    }
    eventually("the permits", || qa.in_flight() == 0).await;
}

#[tokio::test]
async fn a_ready_answer_wins_over_a_token_and_a_deadline() {
    let (host, gate) = (host().await, Gate::new());
    let reply = Reply::echo().held_by(&gate);
    lm_server().await.script("ready", reply);
    let mut qa = question(&host, "ready").await;
    let token = CancellationToken::new();
    let call = ask("?")
        .with_cancel(token.clone())
        .with_deadline(Deadline::within(HOUR));
    let mut call = task::spawn(qa.ready().await.unwrap().call(call));
    assert_pending!(call.poll());
    gate.open();
    // By the answer: a permit that is free again would not do, as that comes first.
    eventually("the wake-up", || call.is_woken()).await;
    token.cancel();
    let answer = assert_ready_ok!(call.poll());
    assert_eq!(answer.outputs["answer"], "You said: ?");
}

#[tokio::test]
async fn an_answer_reports_its_usage_and_lm_calls() {
    let host = host().await;
    let program = load(&host, "asks:twice", "usage").await;
    let answer = program.oneshot(ask("one two three")).await.unwrap();
    assert_eq!(answer.lm_calls.len(), 2);
    let usage = answer.usage;
    assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
    assert_eq!(
        usage.total_tokens,
        usage.prompt_tokens + usage.completion_tokens
    );
    assert!(answer.elapsed > Duration::ZERO);
}

#[tokio::test]
async fn a_program_can_answer_without_its_lm() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("forgiven", Reply::status(500));
    let program = load(&host, "asks:forgives", "forgiven").await;
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert!(answer.outputs["answer"].as_str().unwrap().starts_with("LM"));
    let statuses: Vec<_> = answer.lm_calls.iter().map(|call| call.status).collect();
    assert_eq!((statuses, answer.usage.total_tokens), (vec![Some(500)], 0));
}

#[tokio::test]
async fn inputs_and_outputs_convert_to_and_from_structs() {
    let host = host().await;
    let qa = question(&host, "typed").await;
    let typed = qa.clone().typed::<Question, Answer>();
    let question = WithContext::new(Question { question: "why?" });
    let answer = typed.clone().oneshot(question).await.unwrap();
    assert_eq!(answer.answer, "You said: why?");

    let wrong = qa.clone().typed::<Answer2, Answer>();
    let error = wrong
        .oneshot(WithContext::new(Answer2 { answer: 1 }))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let question = WithContext::new(Question { question: "why?" });
    let error = qa
        .typed::<Question, Verdict>()
        .oneshot(question)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("verdict"), "{error}");
    // The answer was paid for, though it cannot be used.
    let spent = error.spent().unwrap();
    assert_eq!(spent.lm_calls.len(), 1);
    assert!(spent.usage.total_tokens > 0);
    assert_eq!(lm_server().await.requests("typed").len(), 2);
}

#[derive(Serialize)]
struct Answer2 {
    answer: u8,
}

#[tokio::test]
async fn the_schema_lists_the_fields() {
    let host = host().await;
    let rich = load(&host, "inputs:Rich", "unused").await;
    let names: Vec<_> = rich
        .schema()
        .inputs
        .iter()
        .map(|field| &*field.name)
        .collect();
    let expected = [
        "question", "passages", "mood", "person", "limit", "ratio", "flag", "note",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        rich.schema().outputs.as_deref(),
        Some(&["answer".to_owned()][..])
    );
    assert_eq!(rich.program(), "inputs:Rich");

    let defaults = load(&host, "inputs:Defaults", "unused").await;
    let fields: Vec<_> = defaults
        .schema()
        .inputs
        .iter()
        .map(|field| (&*field.name, field.required, &*field.expected))
        .collect();
    // A reserved name with a default is no input.
    assert_eq!(fields, [("question", true, "str"), ("style", false, "str")]);
}

#[tokio::test]
async fn a_call_can_be_awaited_on_any_runtime() {
    let host = host().await;
    let mut qa = question(&host, "anywhere").await;
    let call = qa.ready().await.unwrap().call(ask("?"));
    let elsewhere = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(call)
    });
    elsewhere.join().unwrap().unwrap();
}
