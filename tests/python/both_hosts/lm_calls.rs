//! LM calls through Rust: they end with their prediction, keep the key out of Python, and none
//! begins afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tower::{ServiceExt, layer::layer_fn, util::MapRequestLayer};
use tower_dspy::{
    Carrier, Deadline, DspyService, Error, PredictRequest,
    lm::{LmLimits, LmRequest},
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::support::{ask, ask_as, eventually, host, lm, lm_server, load, open, own_process};

fn question(text: &str, times: usize) -> PredictRequest {
    PredictRequest::new(json!({"question": text, "times": times}))
}

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

/// Drops a call of `program` once its LM was asked; returns how often that was in the end.
async fn requests_of_a_dropped_call(
    program: DspyService,
    model: &str,
    request: PredictRequest,
) -> usize {
    let server = lm_server().await;
    server.script(model, Reply::hang());
    let call = tokio::spawn(program.clone().oneshot(request));
    server.wait_for(model, |all| !all.is_empty()).await.unwrap();
    call.abort();
    server.wait_for(model, all_gone).await.unwrap();
    eventually("the work's end", || program.in_flight() == 0).await;
    server.requests(model).len()
}

#[tokio::test]
async fn a_program_that_retries_on_any_error_sends_no_lm_call_after_its_end() {
    let host = host().await;
    let model = "retries-on-any";
    let program = load(&host, "lm_calls:retries_on_any_error", model).await;
    assert_eq!(
        requests_of_a_dropped_call(program, model, ask("?")).await,
        1
    );
}

#[tokio::test]
async fn no_lm_call_begins_in_the_cleanup_of_a_cancelled_call() {
    let host = host().await;
    let model = "asks-in-cleanup";
    let program = load(&host, "lm_calls:asks_again_in_its_cleanup", model).await;
    assert_eq!(
        requests_of_a_dropped_call(program, model, ask("?")).await,
        1
    );
}

#[tokio::test]
async fn a_program_that_swallows_every_exception_is_parked_at_its_next_lm_call() {
    // It never ends, and other tests wait until nothing runs.
    let name = "both_hosts::lm_calls::a_program_that_swallows_every_exception_is_parked_at_its_next_lm_call";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = (host().await, lm_server().await);
    let model = "swallows";
    server.script(model, Reply::hang());
    let program = load(&host, "lm_calls:swallows_everything", model).await;

    let call = tokio::spawn(program.clone().oneshot(question("?", 1_000_000)));
    server.wait_for(model, |all| !all.is_empty()).await.unwrap();
    call.abort();
    server.wait_for(model, all_gone).await.unwrap();

    // It neither ends nor holds up the loop, on which others are answered meanwhile.
    let other = load(&host, "question -> answer", "swallows-other").await;
    for _ in 0..10 {
        other.clone().oneshot(ask("?")).await.unwrap();
    }
    assert_eq!(server.requests(model).len(), 1);
    assert_eq!(program.in_flight(), 1);
}

#[tokio::test]
async fn an_lm_call_on_a_thread_ends_with_its_prediction() {
    let host = host().await;
    let model = "on-a-thread";
    let program = load(&host, "lm_calls:asks_on_a_thread", model).await;
    assert_eq!(
        requests_of_a_dropped_call(program.clone(), model, ask("?")).await,
        1
    );

    lm_server().await.script(model, Reply::answer("in time"));
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "in time");
}

#[tokio::test]
async fn lm_calls_on_dspys_threads_end_with_their_prediction() {
    let host = host().await;
    let model = "in-parallel";
    let program = load(&host, "lm_calls:asks_in_parallel", model).await;
    let answer = program.clone().oneshot(question("Q", 3)).await.unwrap();
    let answers = answer.outputs["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3);

    let server = lm_server().await;
    server.script(model, Reply::hang());
    let call = tokio::spawn(program.clone().oneshot(question("Q", 3)));
    let hanging = |all: &[RequestRecord]| all.len() == 6;
    server.wait_for(model, hanging).await.unwrap();
    call.abort();
    let gone = |all: &[RequestRecord]| all[3..].iter().all(|r| r.outcome == Outcome::ClientGone);
    server.wait_for(model, gone).await.unwrap();
    eventually("the threads' end", || program.in_flight() == 0).await;
    assert_eq!(server.requests(model).len(), 6);
}

#[tokio::test]
async fn python_never_sees_the_key() {
    let host = host().await;
    let key = format!("sk-test-{}", 6 * 7);
    let lm = lm("keyless").await.key(&key);
    let load = host.load("lm_calls:looks_for_keys").lm(lm).await.unwrap();
    let answer = load.oneshot(PredictRequest::new(json!({}))).await.unwrap();
    let seen = Value::Object(answer.outputs).to_string();
    assert!(!seen.contains(&key), "{seen}");

    let qa = host
        .load("question -> answer")
        .lm(crate::support::lm("keyless").await.key(&key))
        .await
        .unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    let sent = lm_server().await.requests("keyless");
    assert_eq!(sent[0].authorization(), Some(&*format!("Bearer {key}")));
}

#[tokio::test]
async fn layers_see_each_lm_call_with_the_context_of_its_prediction() {
    let host = host().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let lm = lm("layered")
        .await
        .layer(MapRequestLayer::new(move |request: LmRequest| {
            let context = request.context().expect("a context");
            assert!(context.call_id.is_some() && context.deadline.is_some());
            counter.fetch_add(1, Ordering::Relaxed);
            request
        }));
    let program = host.load("asks:twice").lm(lm).await.unwrap();
    let deadline = Deadline::within(Duration::from_secs(60));
    program
        .oneshot(ask("?").with_deadline(deadline))
        .await
        .unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_lm_has_limits_of_its_own() {
    let (host, server) = (host().await, lm_server().await);
    server.script("limited", Reply::hang());
    // Long enough for the request to come there, on a busy machine as well.
    let limits = LmLimits::new().with_first_byte(Duration::from_secs(5));
    let lm = lm("limited").await.limits(limits);
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    let error = qa.oneshot(ask("?")).await.unwrap_err();
    assert!(matches!(error, Error::Lm(_)), "{error:?}");
    server.wait_for("limited", all_gone).await.unwrap();
}

#[tokio::test]
async fn answers_stream_through() {
    let (host, server) = (host().await, lm_server().await);
    let reply = Reply::answer("one two three four five").drip(Duration::from_millis(1));
    server.script("streamed", reply);
    let program = load(&host, "lm_calls:streams", "streamed").await;
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "one two three four five");
    assert!(answer.outputs["pieces"].as_u64() > Some(1), "{answer:?}");
}

#[tokio::test]
async fn pings_thinking_and_empty_deltas_of_a_stream_leave_its_text_whole() {
    let (host, server) = (host().await, lm_server().await);
    let millisecond = Duration::from_millis(1);
    let reply = Reply::answer("one two three")
        .pings_after(0, 3, millisecond)
        .thinking(["let me", " see"])
        .empty_deltas_after(2, 3, millisecond)
        .comments_after(3, 3, millisecond);
    server.script("interrupted", reply.split_every(3));
    let program = load(&host, "lm_calls:streams", "interrupted").await;
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "one two three");
}

#[tokio::test]
async fn a_stream_of_pings_alone_is_ended_by_the_limit_of_its_first_content() {
    let (host, server) = (host().await, lm_server().await);
    let pings = Reply::answer("late").pings_after(0, 1_000_000, Duration::from_millis(5));
    server.script("pings-alone", pings);
    // Long enough for the request to come there, on a busy machine as well.
    let limits = LmLimits::new().with_first_content(Duration::from_secs(5));
    let lm = lm("pings-alone").await.limits(limits);
    let program = host.load("lm_calls:streams").lm(lm).await.unwrap();
    let error = program.oneshot(ask("?")).await.unwrap_err();
    assert!(error.to_string().contains("no content"), "{error:?}");
    server.wait_for("pings-alone", all_gone).await.unwrap();
}

#[tokio::test]
async fn a_call_refused_by_an_lm_layer_sends_no_request() {
    let host = host().await;
    let refuse = layer_fn(|_| {
        tower::service_fn(|_: LmRequest| async {
            Err::<tower_dspy::lm::LmResponse, _>(tower::BoxError::from("not today"))
        })
    });
    let lm = lm("refused").await.layer(refuse);
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    let error = qa.oneshot(ask("?")).await.unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    assert_eq!(lm_server().await.requests("refused").len(), 0);
}

#[tokio::test]
async fn a_cleanup_that_waits_for_a_child_task_sees_it_end() {
    let host = host().await;
    let model = "child";
    let program = load(&host, "lm_calls:waits_for_its_child", model).await;
    assert_eq!(
        requests_of_a_dropped_call(program, model, ask("?")).await,
        1
    );
}

#[tokio::test]
async fn a_thread_with_an_lm_call_in_flight_ends_when_the_program_answers() {
    let (host, server) = (host().await, lm_server().await);
    server.script("given-up-thread", Reply::hang());
    let program = load(&host, "lm_calls:gives_up_on_a_thread", "given-up-thread").await;
    let call = tokio::spawn(program.clone().oneshot(ask_as("given-up-thread")));
    let asked = server.wait_for("given-up-thread", |all| all.len() == 1);
    asked.await.unwrap();
    open(&host, "given-up-thread").await;
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.outputs["answer"], "a guess");
    server.wait_for("given-up-thread", all_gone).await.unwrap();
    eventually("the thread's end", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_program_may_run_a_loop_of_its_own_on_a_thread() {
    let (host, server) = (host().await, lm_server().await);
    server.script("own-loop", Reply::answer("from afar"));
    let program = load(&host, "lm_calls:asks_on_a_loop_of_its_own", "own-loop").await;
    let answer = program.oneshot(ask("?")).await.unwrap();
    assert_eq!(answer.outputs["answer"], "from afar");

    let model = "own-loop-dropped";
    let program = load(&host, "lm_calls:asks_on_a_loop_of_its_own", model).await;
    assert_eq!(
        requests_of_a_dropped_call(program, model, ask("?")).await,
        1
    );
}
