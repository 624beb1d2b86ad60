//! The patterns for plain futures, around predictions of real DSPy.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Cause, DspyService, Error, FallbackLayer,
    layers::Stale,
    patterns::{
        CancellablePrediction, DeadlineExecutor, GracefulCancellationHandler, PredictionStatus,
        TimeoutConfig, TimeoutError, retry_on_timeout, run_cancellable, run_with_cancellation,
        timeout,
    },
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::support::{
    HOUR, TestHost, ask, ask_as, eventually, eventually_seen, host, lm_server, load, open,
    question, seen,
};

/// Enough for an answer of an LM that is well, however busy the machine.
const AMPLE: Duration = Duration::from_secs(30);
/// Passes while an LM hangs; enough for the request to have reached it, also on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

fn one(requests: &[RequestRecord]) -> bool {
    requests.len() == 1
}

/// The program that notes its clean-up, with an LM that follows `script`.
async fn tidy(host: &TestHost, model: &str, script: Vec<Reply>) -> DspyService {
    lm_server().await.script(model, script);
    load(host, "cleanup:ask", model).await
}

/// That the LM was let go of all requests that it did not answer, of which there are `gone`.
async fn let_go(model: &str, gone: usize) {
    let over = |requests: &[RequestRecord]| {
        let gone_so_far = requests.iter().filter(|r| r.outcome == Outcome::ClientGone);
        gone_so_far.count() == gone && requests.iter().all(|r| r.outcome != Outcome::Running)
    };
    lm_server().await.wait_for(model, over).await.unwrap();
}

#[tokio::test]
async fn a_timeout_stops_the_prediction() {
    let host = host().await;
    let qa = tidy(&host, "p-timeout", vec![Reply::hang()]).await;

    let result = timeout(BRIEF, qa.clone().oneshot(ask_as("p-timeout"))).await;
    let Err(TimeoutError::Elapsed(elapsed)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(elapsed.limit(), BRIEF);
    let_go("p-timeout", 1).await;
    eventually_seen(&host, "p-timeout", &["cancelled", "finally"]).await;
    eventually("its permit", || qa.in_flight() == 0).await;
}

#[tokio::test]
async fn a_token_cancelled_from_another_task_stops_the_prediction() {
    let (host, lm) = (host().await, lm_server().await);
    let qa = tidy(&host, "p-token", vec![Reply::hang()]).await;

    let token = CancellationToken::new();
    let canceller = token.clone();
    let cancelled = tokio::spawn(async move {
        lm.wait_for("p-token", one).await.unwrap();
        canceller.cancel();
    });
    let result = run_cancellable(token.clone(), qa.clone().oneshot(ask_as("p-token"))).await;
    assert!(
        matches!(result, Err(TimeoutError::Cancelled(_))),
        "{result:?}"
    );
    cancelled.await.unwrap();
    let_go("p-token", 1).await;
    eventually_seen(&host, "p-token", &["cancelled", "finally"]).await;

    // By its other name: what is cancelled already never comes to the LM.
    let result = run_with_cancellation(token, qa.oneshot(ask_as("p-token"))).await;
    assert!(
        matches!(result, Err(TimeoutError::Cancelled(_))),
        "{result:?}"
    );
    assert_eq!(lm.requests("p-token").len(), 1);
}

#[tokio::test]
async fn one_deadline_holds_over_several_predictions() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("p-deadline", [Reply::answer("one"), Reply::hang()]);
    let qa = question(&host, "p-deadline").await;

    let executor = DeadlineExecutor::new(Instant::now() + 4 * BRIEF);
    let first = executor.execute(qa.clone().oneshot(ask("one?"))).await;
    assert_eq!(first.unwrap().get("answer").unwrap(), "one");

    let second = executor.execute_with_timeout(BRIEF, qa.clone().oneshot(ask("two?")));
    let second = second.await;
    assert!(
        matches!(second, Err(TimeoutError::Elapsed(_))),
        "{second:?}"
    );

    let third = executor.execute(qa.clone().oneshot(ask("three?"))).await;
    assert!(matches!(third, Err(TimeoutError::Deadline(_))), "{third:?}");
    let_go("p-deadline", 2).await;
    assert!(executor.running_operations().is_empty());

    // After the deadline nothing is asked.
    let late = executor.execute(qa.oneshot(ask("four?"))).await;
    assert!(matches!(late, Err(TimeoutError::Deadline(_))), "{late:?}");
    assert_eq!(lm.requests("p-deadline").len(), 3);
}

#[tokio::test]
async fn slow_attempts_are_stopped_before_the_next_begins() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script(
        "p-retry",
        [Reply::hang(), Reply::hang(), Reply::answer("at last")],
    );
    let qa = question(&host, "p-retry").await;

    let attempt = || qa.clone().oneshot(ask("again?"));
    // The machine may be too busy for the third, so it has limits that grow.
    let mut limits = [BRIEF, BRIEF, AMPLE].into_iter();
    let answer = loop {
        match timeout(limits.next().unwrap(), attempt()).await {
            Err(TimeoutError::Elapsed(_)) => {}
            answer => break answer,
        }
    };
    assert_eq!(answer.unwrap().get("answer").unwrap(), "at last");
    let requests = lm.requests("p-retry");
    assert_eq!(requests.len(), 3);
    for pair in requests.windows(2) {
        assert!(
            pair[0]
                .client_gone
                .is_some_and(|gone| gone <= pair[1].arrived)
        );
    }

    lm.script("p-retries", Reply::hang());
    let qa = question(&host, "p-retries").await;
    let result = retry_on_timeout(|| qa.clone().oneshot(ask("never?")), BRIEF, 1).await;
    assert!(
        matches!(result, Err(TimeoutError::Elapsed(_))),
        "{result:?}"
    );
    let_go("p-retries", 2).await;

    let config = TimeoutConfig::new()
        .with_request_timeout(BRIEF)
        .with_max_retries(1);
    let result = config
        .execute_with_retry(|| qa.clone().oneshot(ask("never?")))
        .await;
    assert!(
        matches!(result, Err(TimeoutError::Elapsed(_))),
        "{result:?}"
    );
    let_go("p-retries", 4).await;
}

#[tokio::test]
async fn a_prediction_reports_its_status_and_can_be_cancelled() {
    let (host, lm) = (host().await, lm_server().await);
    let script = vec![
        Reply::hang(),
        Reply::answer("Paris"),
        Reply::status(503),
        Reply::hang(),
    ];
    let qa = tidy(&host, "p-status", script).await;

    let prediction = CancellablePrediction::new().with_timeout(HOUR);
    let handle = prediction.handle();
    assert_eq!(handle.status(), PredictionStatus::Pending);
    let running = tokio::spawn(prediction.call(qa.clone(), ask_as("p-status")));
    lm.wait_for("p-status", one).await.unwrap();
    assert_eq!(handle.status(), PredictionStatus::Running);
    assert!(handle.cancel());
    assert_eq!(handle.ended().await, PredictionStatus::Cancelled);
    let result = running.await.unwrap();
    assert!(
        matches!(result, Err(TimeoutError::Cancelled(_))),
        "{result:?}"
    );
    let_go("p-status", 1).await;
    eventually_seen(&host, "p-status", &["cancelled", "finally"]).await;

    for (ends, key) in [
        (PredictionStatus::Completed, "p-completes"),
        (PredictionStatus::Failed, "p-fails"),
    ] {
        let prediction = CancellablePrediction::new();
        let handle = prediction.handle();
        let result = prediction.call(qa.clone(), ask_as(key)).await;
        assert_eq!(handle.status(), ends, "{result:?}");
        assert!(!handle.elapsed().is_zero());
    }

    let prediction = CancellablePrediction::new().with_timeout(BRIEF);
    let handle = prediction.handle();
    let result = prediction.call(qa, ask_as("p-slow")).await;
    assert!(
        matches!(result, Err(TimeoutError::Elapsed(_))),
        "{result:?}"
    );
    assert_eq!(handle.status(), PredictionStatus::TimedOut);
    let_go("p-status", 2).await;
}

#[tokio::test]
async fn a_graceful_end_waits_for_the_predictions_clean_up() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("p-graceful", Reply::hang());
    let qa = load(&host, "cleanup:slow", "p-graceful").await;

    let handler = GracefulCancellationHandler::new();
    handler.on_cleanup(|| async {});
    let request = ask_as("p-graceful").with_cancel(handler.child());
    let call = tokio::spawn(handler.execute(qa.oneshot(request)));
    lm.wait_for("p-graceful", one).await.unwrap();
    assert_eq!(handler.pending_operations().len(), 1);

    let ender = handler.clone();
    let ending = tokio::spawn(async move { ender.cancel_gracefully(HOUR).await });
    // The LM is let go at once; the program cleans up, and the handler waits for it.
    let_go("p-graceful", 1).await;
    eventually_seen(&host, "p-graceful", &["cleaning"]).await;
    assert!(!ending.is_finished());
    open(&host, "p-graceful").await;
    let report = ending.await.unwrap();
    assert_eq!(seen(&host, "p-graceful").await, ["cleaning", "cleaned"]);
    assert_eq!((report.ended, report.cut, report.cleaned_up), (1, 0, 1));
    assert!(report.abandoned.is_empty());
    match call.await.unwrap() {
        Err(TimeoutError::Failed(Error::Cancelled(cancelled))) => {
            assert_eq!(cancelled.cause(), Cause::Caller);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stale_answer_replaces_a_failed_prediction() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script(
        "p-stale",
        [Reply::answer("Paris"), Reply::status(503), Reply::hang()],
    );
    let service = tower::ServiceBuilder::new()
        .layer(FallbackLayer::new(Stale::predictions(HOUR)))
        .service(question(&host, "p-stale").await);

    let fresh = service.clone().oneshot(ask("the capital?")).await.unwrap();
    assert_eq!((fresh.stale_age, fresh.lm_calls.len()), (None, 1));
    let stale = service.clone().oneshot(ask("the capital?")).await.unwrap();
    assert_eq!(stale.outputs, fresh.outputs);
    assert!(stale.stale_age.is_some_and(|age| !age.is_zero()));
    assert_eq!((stale.lm_calls.len(), stale.usage.total_tokens), (0, 0));
    assert_eq!(lm.requests("p-stale").len(), 2);
}
