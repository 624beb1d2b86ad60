//! The cost of a call, on its answer or on its error.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, CancelLayer, Classify, Deadline, DeadlineLayer, Error, FallbackLayer, HedgeLayer,
    LmOutcome, PredictRequest, Prediction, RetryLayer, Shutdown, ShutdownLayer, Spent,
    TimeoutLayer,
    testing::scripted_lm::{Gate, Reply},
};

use crate::support::{
    HOUR, ask, ask_as, eventually, host, host_alone, lm_server, load, own_process, question,
};

/// Long enough for an LM call to begin, on a busy machine as well.
const LIMIT: Duration = Duration::from_secs(5);

fn outcomes(spent: &Spent) -> Vec<LmOutcome> {
    spent.lm_calls.iter().map(|call| call.outcome).collect()
}

/// Calls `service`, and does `then` once the LM has been asked `times` times.
async fn asked<S>(
    service: S,
    request: PredictRequest,
    (model, times): (&str, usize),
    then: impl AsyncFnOnce(),
) -> Spent
where
    S: Service<PredictRequest, Response = Prediction, Error = Error>,
{
    let then = async {
        let server = lm_server().await;
        let asked = server.wait_for(model, |all| all.len() == times).await;
        asked.unwrap();
        then().await;
    };
    let (answer, ()) = tokio::join!(service.oneshot(request), then);
    let error = answer.expect_err("it has no answer");
    error.spent().expect("the cost of an LM call").clone()
}

#[tokio::test]
async fn an_answer_reports_each_lm_call_including_those_on_dspys_threads() {
    let host = host().await;
    let program = load(&host, "spends:asks_four", "four").await;
    let answer = program.oneshot(ask("one two three")).await.unwrap();
    assert_eq!(answer.lm_calls.len(), 4);
    let mut total = 0;
    for call in &answer.lm_calls {
        assert_eq!((&*call.provider, &*call.model), ("openai", "four"));
        assert_eq!(
            (call.outcome, call.status),
            (LmOutcome::Answered, Some(200))
        );
        assert_eq!((call.attempt, call.call_attempt), (0, 0));
        assert!(call.duration > Duration::ZERO && call.duration <= answer.elapsed);
        assert!(call.started + call.duration <= answer.elapsed);
        let parts = call.prompt_tokens.unwrap() + call.completion_tokens.unwrap();
        assert_eq!(call.total_tokens, Some(parts));
        total += parts;
    }
    assert!(total > 0);
    assert_eq!(answer.usage.total_tokens, total);
    assert_eq!((answer.lm_calls_not_kept, answer.lm_calls_bypassed), (0, 0));
}

#[tokio::test]
async fn a_deadline_error_reports_the_finished_step_and_the_lm_call_that_it_ended() {
    let (host, server) = (host().await, lm_server().await);
    let models = ["spent-layer", "spent-service"];
    for model in models {
        server.script(model, [Reply::answer("first"), Reply::hang()]);
    }
    let [layer, service] = models;
    let by_layer = ServiceBuilder::new()
        .layer(DeadlineLayer::new(LIMIT))
        .service(load(&host, "asks:twice", layer).await);
    // The service itself ends it, with no layer around it.
    let by_service = load(&host, "asks:twice", service).await;
    let limited = ask("?").with_deadline(Deadline::within(LIMIT));
    let (by_layer, by_service) = tokio::join!(
        asked(by_layer, ask("?"), (layer, 2), async || ()),
        asked(by_service, limited, (service, 2), async || ()),
    );
    for spent in [by_layer, by_service] {
        let expected = [LmOutcome::Answered, LmOutcome::Elapsed];
        assert_eq!((outcomes(&spent), spent.steps), (expected.to_vec(), 1));
        assert_eq!(
            Some(spent.usage.total_tokens),
            spent.lm_calls[0].total_tokens
        );
        assert!(spent.usage.total_tokens > 0);
        assert_eq!(spent.lm_calls[1].status, None);
    }
}

#[tokio::test]
async fn errors_of_a_cancel_and_a_shutdown_report_the_spent_tokens() {
    let (host, server) = (host().await, lm_server().await);
    server.script("spent-cancel", Reply::hang());
    let qa = question(&host, "spent-cancel").await;

    for (n, layer) in [(1, true), (2, false)] {
        let token = CancellationToken::new();
        let request = ask("?").with_cancel(token.clone());
        let when = ("spent-cancel", n);
        let spent = if layer {
            let stack = ServiceBuilder::new().layer(CancelLayer::new());
            let stack = stack.service(qa.clone());
            asked(stack, request, when, async || token.cancel()).await
        } else {
            asked(qa.clone(), request, when, async || token.cancel()).await
        };
        assert_eq!(outcomes(&spent), [LmOutcome::Cancelled]);
    }

    let shutdown = Shutdown::new();
    let layer = ShutdownLayer::new(shutdown.clone());
    let stack = ServiceBuilder::new().layer(layer).service(qa);
    let stop = async || {
        shutdown.run(Duration::ZERO, Duration::ZERO).await;
    };
    let spent = asked(stack, ask("?"), ("spent-cancel", 3), stop).await;
    assert_eq!(outcomes(&spent), [LmOutcome::Cancelled]);
}

#[tokio::test]
async fn an_answer_within_the_grace_reports_the_spent_tokens() {
    let (host, server) = (host().await, lm_server().await);
    server.script("spent-grace", Reply::hang());
    // It answers all the same, and the answer is not handed out.
    let program = load(&host, "cleanup:asks_again", "spent-grace").await;
    let cancel = CancelLayer::new().with_grace(HOUR);
    let stack = ServiceBuilder::new().layer(cancel).service(program);
    let token = CancellationToken::new();
    let request = ask_as("spent-grace").with_cancel(token.clone());
    let spent = asked(stack, request, ("spent-grace", 1), async || token.cancel()).await;
    assert_eq!(outcomes(&spent), [LmOutcome::Cancelled]);
}

#[tokio::test]
async fn an_lm_call_ended_by_a_limit_with_grace_is_recorded_as_elapsed() {
    let (host, server) = (host().await, lm_server().await);
    server.script("spent-graced", Reply::hang());
    let program = load(&host, "cleanup:ask", "spent-graced").await;
    let limit = TimeoutLayer::new(LIMIT).with_grace(HOUR);
    let stack = ServiceBuilder::new().layer(limit).service(program);
    let request = ask_as("spent-graced");
    let spent = asked(stack, request, ("spent-graced", 1), async || ()).await;
    assert_eq!(outcomes(&spent), [LmOutcome::Elapsed]);
}

#[tokio::test]
async fn a_stopping_host_reports_the_spent_tokens_of_its_calls() {
    let name = "both_hosts::spent::a_stopping_host_reports_the_spent_tokens_of_its_calls";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = (host().await, lm_server().await);
    server.script("spent-stopped", [Reply::answer("first"), Reply::hang()]);
    let program = load(&host, "asks:twice", "spent-stopped").await;
    let stop = async || {
        host.stop(LIMIT).await;
    };
    let spent = asked(program, ask("?"), ("spent-stopped", 2), stop).await;
    let expected = [LmOutcome::Answered, LmOutcome::Cancelled];
    assert_eq!((outcomes(&spent), spent.steps), (expected.to_vec(), 1));
}

#[tokio::test]
async fn a_retry_reports_the_spent_tokens_of_all_attempts() {
    let (host, server) = (host().await, lm_server().await);
    let retry = || {
        ServiceBuilder::new()
            .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::ZERO)))
            .layer(TimeoutLayer::new(LIMIT))
    };
    let answered = Reply::answer("at last");
    server.script(
        "spent-retried",
        [Reply::hang(), Reply::status(503), answered],
    );
    let qa = question(&host, "spent-retried").await;
    let answer = retry().service(qa).oneshot(ask("?")).await.unwrap();
    let calls = answer.lm_calls.iter();
    let calls: Vec<_> = calls
        .map(|call| (call.call_attempt, call.outcome, call.status))
        .collect();
    let expected = [
        (0, LmOutcome::Elapsed, None),
        (1, LmOutcome::Answered, Some(503)),
        (2, LmOutcome::Answered, Some(200)),
    ];
    assert_eq!(calls, expected);

    server.script("spent-failed", Reply::status(503));
    let qa = question(&host, "spent-failed").await;
    let error = retry().service(qa).oneshot(ask("?")).await.unwrap_err();
    assert!(matches!(error, Error::Lm(_)), "{error:?}");
    assert_eq!(outcomes(error.spent().unwrap()), [LmOutcome::Answered; 3]);
}

#[tokio::test]
async fn attempts_are_added_up_under_a_custom_classification_too() {
    let (host, server) = (host().await, lm_server().await);
    let retry = RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::ZERO));
    let retry = retry.classify(|error: &Error| error.kind());
    let failed = || Reply::status(503);
    server.script(
        "spent-sorted",
        [failed(), failed(), Reply::answer("at last")],
    );
    let qa = question(&host, "spent-sorted").await;
    let stack = ServiceBuilder::new().layer(retry).service(qa);
    let answer = stack.oneshot(ask("?")).await.unwrap();
    let attempts = answer.lm_calls.iter().map(|call| call.call_attempt);
    assert_eq!(attempts.collect::<Vec<_>>(), [0, 1, 2]);

    server.script("spent-sorted-dear", Reply::status(503));
    let dear = question(&host, "spent-sorted-dear").await;
    let cheap = question(&host, "spent-sorted-cheap").await;
    let fallback = FallbackLayer::service(cheap).classify(|error: &Error| error.kind());
    let stack = ServiceBuilder::new().layer(fallback).service(dear);
    let answer = stack.oneshot(ask("?")).await.unwrap();
    let models = answer.lm_calls.iter().map(|call| &*call.model);
    let expected = ["spent-sorted-dear", "spent-sorted-cheap"];
    assert_eq!(models.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_error_of_two_concurrent_failed_attempts_reports_both() {
    let (host, server) = (host().await, lm_server().await);
    let gate = Gate::new();
    server.script("spent-hedged", Reply::status(503).held_by(&gate));
    let qa = question(&host, "spent-hedged").await;
    let hedge = HedgeLayer::after(Duration::from_millis(1));
    let stack = ServiceBuilder::new()
        .layer(hedge.clone())
        .service(qa.clone());
    let both = async || gate.open();
    let spent = asked(stack, ask("?"), ("spent-hedged", 2), both).await;
    assert_eq!(outcomes(&spent), [LmOutcome::Answered; 2]);

    let gate = Gate::new();
    server.script("spent-hedged", Reply::status(503).held_by(&gate));
    let hedge = hedge.classify(|error: &Error| error.kind());
    let stack = ServiceBuilder::new().layer(hedge).service(qa);
    let both = async || gate.open();
    let spent = asked(stack, ask("?"), ("spent-hedged", 4), both).await;
    assert_eq!(outcomes(&spent), [LmOutcome::Answered; 2]);
}

#[tokio::test]
async fn a_fallback_reports_the_spent_tokens_of_the_first_service_too() {
    let (host, server) = (host().await, lm_server().await);
    server.script("spent-dear", Reply::status(503));
    let dear = question(&host, "spent-dear").await;
    let cheap = question(&host, "spent-cheap").await;
    let fallback = FallbackLayer::service(cheap);
    let stack = ServiceBuilder::new().layer(fallback).service(dear);
    let answer = stack.oneshot(ask("?")).await.unwrap();
    let models = answer.lm_calls.iter().map(|call| &*call.model);
    assert_eq!(models.collect::<Vec<_>>(), ["spent-dear", "spent-cheap"]);
}

#[tokio::test]
async fn a_failed_program_reports_its_spent_tokens_and_its_partial_answer() {
    let host = host().await;
    let program = load(&host, "spends:drafts_and_fails", "spent-raised").await;
    let error = program.oneshot(ask("?")).await.unwrap_err();
    assert!(matches!(error, Error::Program(_)), "{error:?}");
    let spent = error.spent().unwrap();
    assert_eq!(
        (outcomes(spent), spent.steps),
        (vec![LmOutcome::Answered], 1)
    );
    let partial = spent.partial.as_ref().unwrap();
    assert_eq!(partial["answer"], "You said: ?");
    assert!(!format!("{error:?}").contains("You said"));

    let qa = question(&host, "spent-nothing").await;
    let error = qa
        .oneshot(PredictRequest::new(json!({})))
        .await
        .unwrap_err();
    assert!(error.spent().is_none());
}

#[tokio::test]
async fn the_host_stats_add_up_the_lm_calls_and_tokens() {
    let (host, server) = (host_alone().await, lm_server().await);
    let before = host.stats();
    let gate = Gate::new();
    let held = Reply::answer("two").held_by(&gate);
    server.script("totals", [Reply::answer("one"), Reply::status(500), held]);
    let qa = question(&host, "totals").await;
    let answer = qa.clone().oneshot(ask("?")).await.unwrap();
    qa.clone().oneshot(ask("?")).await.unwrap_err();
    let call = tokio::spawn(qa.oneshot(ask("?")));
    server
        .wait_for("totals", |all| all.len() == 3)
        .await
        .unwrap();
    call.abort();
    eventually("the call's end", || host.stats().running == 0).await;

    let program = load(&host, "spends:drafts_and_fails", "totals-wasted").await;
    let wasted = program.oneshot(ask("?")).await.unwrap_err();
    let wasted = wasted.spent().unwrap().usage.total_tokens;

    let now = host.stats();
    let lm = |read: fn(&tower_dspy::LmTotals) -> u64| read(&now.lm) - read(&before.lm);
    assert_eq!(lm(|lm| lm.answered), 3);
    assert_eq!(lm(|lm| lm.cancelled), 1);
    assert_eq!(lm(|lm| lm.elapsed + lm.refused + lm.failed), 0);
    let used = answer.usage.total_tokens + wasted;
    assert_eq!(lm(|lm| lm.usage.total_tokens), used);
    assert_eq!(lm(|lm| lm.wasted_tokens), wasted);
    assert_eq!((lm(|lm| lm.late_tokens), lm(|lm| lm.partials)), (0, 1));
    assert_eq!(now.cancelled - before.cancelled, 1);
}
