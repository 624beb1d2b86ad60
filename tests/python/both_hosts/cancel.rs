//! The work that stops when a call is cancelled or dropped, and the clean-up that still runs to its
//! end.

use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, CancelLayer, Cause, DeadlineLayer, Error, PredictRequest, Prediction, RetryLayer,
    Scope, Stage, TimeoutLayer, TrackLayer, Tracker,
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::blocker::Blocker;
use crate::support::{
    HOUR, ask, ask_as, eventually, eventually_seen, host, host_alone, in_a_worker, lm_server, load,
    open, question, seen,
};

fn one(requests: &[RequestRecord]) -> bool {
    requests.len() == 1
}

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

fn assert_cancelled(answer: Result<Prediction, Error>, cause: Cause) {
    match answer {
        Err(Error::Cancelled(cancelled)) => assert_eq!(cancelled.cause(), cause),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_call_closes_its_lm_connection_and_runs_its_finally() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("dropped", Reply::hang());
    let qa = load(&host, "cleanup:ask", "dropped").await;

    let call = tokio::spawn(qa.clone().oneshot(ask_as("dropped")));
    lm.wait_for("dropped", one).await.unwrap();
    assert_eq!(qa.in_flight(), 1);
    call.abort();

    lm.wait_for("dropped", all_gone).await.unwrap();
    eventually_seen(&host, "dropped", &["cancelled", "finally"]).await;
    eventually("its permit", || qa.in_flight() == 0).await;
    assert_eq!(lm.requests("dropped").len(), 1);
}

#[tokio::test]
async fn a_call_dropped_before_its_start_never_runs() {
    let (host, lm) = (host_alone().await, lm_server().await);
    let mut qa = load(&host, "cleanup:ask", "early").await;
    // While the loop is held up, nothing can begin.
    let blocker = Blocker::new(&host, "asks:holds_the_gil").await;
    let before = host.stats();

    drop(qa.ready().await.unwrap().call(ask_as("early")));
    if in_a_worker() {
        // A pool sends the call and its cancel from a thread of its own: both are to be there.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    blocker.release().await;
    eventually("its end", || host.stats().settled == before.settled + 2).await;
    assert_eq!(qa.in_flight(), 0);
    assert_eq!(seen(&host, "early").await, Vec::<String>::new());
    assert_eq!(lm.requests("early").len(), 0);
}

#[tokio::test]
async fn each_way_to_give_up_ends_the_lm_call() {
    let (host, lm) = (host().await, lm_server().await);
    // Long enough for each to have its LM call under way, on a busy machine as well.
    let limit = Duration::from_secs(5);
    lm.script("ways", Reply::hang());
    let qa = question(&host, "ways").await;

    let timeout = ServiceBuilder::new()
        .layer(TimeoutLayer::new(limit))
        .service(qa.clone());
    let deadline = ServiceBuilder::new()
        .layer(DeadlineLayer::new(limit))
        .service(qa.clone());
    let foreign = ServiceBuilder::new()
        .layer(tower::timeout::TimeoutLayer::new(limit))
        .service(qa.clone());
    let (attempt, call, towers) = tokio::join!(
        timeout.oneshot(ask("an attempt")),
        deadline.oneshot(ask("a call")),
        foreign.oneshot(ask("tower's own")),
    );
    match attempt {
        Err(Error::Elapsed(elapsed)) => {
            assert_eq!(
                (elapsed.scope(), elapsed.stage()),
                (Scope::Attempt, Stage::Running)
            );
        }
        other => panic!("{other:?}"),
    }
    match call {
        Err(Error::Elapsed(elapsed)) => assert_eq!(elapsed.scope(), Scope::Deadline),
        other => panic!("{other:?}"),
    }
    let error = towers.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");

    lm.wait_for("ways", |all| all.len() == 3 && all_gone(all))
        .await
        .unwrap();
    eventually("the permits", || qa.in_flight() == 0).await;
}

#[tokio::test]
async fn a_cancel_with_grace_waits_for_the_clean_up() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grace", Reply::hang());
    let qa = load(&host, "cleanup:slow", "grace").await;
    let cancel = CancelLayer::new().with_grace(HOUR);
    let stack = ServiceBuilder::new().layer(cancel).service(qa.clone());

    let token = CancellationToken::new();
    let call = tokio::spawn(stack.oneshot(ask_as("grace").with_cancel(token.clone())));
    lm.wait_for("grace", one).await.unwrap();
    token.cancel();
    // The LM is let go before the clean-up, not after it.
    lm.wait_for("grace", all_gone).await.unwrap();
    eventually_seen(&host, "grace", &["cleaning"]).await;
    assert!(!call.is_finished());
    assert_eq!(qa.in_flight(), 1);

    open(&host, "grace").await;
    assert_cancelled(call.await.unwrap(), Cause::Caller);
    assert_eq!(seen(&host, "grace").await, ["cleaning", "cleaned"]);
    assert_eq!(qa.in_flight(), 0);
}

#[tokio::test]
async fn a_finally_that_never_ends_is_bounded_by_the_grace_and_counted() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("endless", Reply::hang());
    let qa = load(&host, "cleanup:slow", "endless").await;
    let cancel = CancelLayer::new().with_grace(Duration::from_millis(50));
    let stack = ServiceBuilder::new().layer(cancel).service(qa.clone());

    let token = CancellationToken::new();
    let call = tokio::spawn(stack.oneshot(ask_as("endless").with_cancel(token.clone())));
    lm.wait_for("endless", one).await.unwrap();
    token.cancel();
    assert_cancelled(call.await.unwrap(), Cause::Caller);
    // The outcome is out; the work is not over, and not forgotten.
    assert_eq!(qa.in_flight(), 1);
    assert_eq!(host.stats().orphans, 1);
    eventually_seen(&host, "endless", &["cleaning"]).await;

    open(&host, "endless").await;
    eventually("its permit", || qa.in_flight() == 0).await;
    assert_eq!(seen(&host, "endless").await, ["cleaning", "cleaned"]);
    eventually("its end", || host.stats().running == 0).await;
    assert_eq!(host.stats().orphans, 0);
}

#[tokio::test]
async fn a_second_cancel_does_not_cut_the_clean_up_short() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("twice", Reply::hang());
    let qa = load(&host, "cleanup:slow", "twice").await;
    let cancel = CancelLayer::new().with_grace(HOUR);
    let stack = ServiceBuilder::new().layer(cancel).service(qa.clone());

    let token = CancellationToken::new();
    let call = tokio::spawn(stack.oneshot(ask_as("twice").with_cancel(token.clone())));
    lm.wait_for("twice", one).await.unwrap();
    token.cancel();
    eventually_seen(&host, "twice", &["cleaning"]).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());

    open(&host, "twice").await;
    eventually("its permit", || qa.in_flight() == 0).await;
    assert_eq!(seen(&host, "twice").await, ["cleaning", "cleaned"]);
}

#[tokio::test]
async fn a_program_that_swallows_the_cancel_cannot_undo_it() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("swallowed", Reply::hang());
    let qa = load(&host, "cleanup:asks_again", "swallowed").await;
    let cancel = CancelLayer::new().with_grace(HOUR);
    let stack = ServiceBuilder::new().layer(cancel).service(qa.clone());

    let token = CancellationToken::new();
    let call = tokio::spawn(stack.oneshot(ask_as("swallowed").with_cancel(token.clone())));
    lm.wait_for("swallowed", one).await.unwrap();
    token.cancel();
    assert_cancelled(call.await.unwrap(), Cause::Caller);
    assert_eq!(seen(&host, "swallowed").await, ["swallowed"]);
    assert_eq!(qa.in_flight(), 0);
}

#[tokio::test]
async fn a_cancel_during_a_retrys_backoff_ends_the_call_at_once() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("backoff", Reply::status(503));
    let qa = question(&host, "backoff").await;
    let failed = std::sync::Arc::new(Notify::new());
    let attempt_failed = failed.clone();
    let stack = ServiceBuilder::new()
        .layer(CancelLayer::new())
        .layer(RetryLayer::new(3).with_backoff(Backoff::fixed(HOUR)))
        .map_result(move |answer: Result<Prediction, Error>| {
            attempt_failed.notify_one();
            answer
        })
        .service(qa.clone());

    let token = CancellationToken::new();
    let call = tokio::spawn(stack.oneshot(ask("?").with_cancel(token.clone())));
    // The attempt's failure and the begin of the backoff are one poll.
    failed.notified().await;
    token.cancel();
    assert_cancelled(call.await.unwrap(), Cause::Caller);
    assert_eq!(lm.requests("backoff").len(), 1);
    assert_eq!(qa.in_flight(), 0);
}

#[tokio::test]
async fn a_call_already_cancelled_or_late_is_refused_without_an_lm_call() {
    let (host, lm) = (host().await, lm_server().await);
    let qa = question(&host, "refused").await;
    let token = CancellationToken::new();
    token.cancel();
    let cancelled = ask("?").with_cancel(token);
    assert_cancelled(qa.clone().oneshot(cancelled).await, Cause::Caller);

    let late = PredictRequest::new(json!({"question": "?"}))
        .with_deadline(tower_dspy::Deadline::within(Duration::ZERO));
    match qa.clone().oneshot(late).await {
        Err(Error::Elapsed(elapsed)) => assert_eq!(elapsed.stage(), Stage::BeforeStart),
        other => panic!("{other:?}"),
    }
    assert_eq!(lm.requests("refused").len(), 0);
    assert_eq!(qa.in_flight(), 0);
}

#[tokio::test]
async fn a_call_is_cancelled_by_its_id_and_settled_once_its_clean_up_has_run() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("by-id", Reply::hang());
    let qa = load(&host, "cleanup:slow", "by-id").await;
    let tracker = Tracker::new().with_samples(1);
    let stack = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(CancelLayer::new())
        .service(qa.clone());
    let call = tokio::spawn(stack.oneshot(ask_as("by-id")));
    lm.wait_for("by-id", one).await.unwrap();
    let id = tracker.calls()[0].id;

    // Another task has only the id, as read from a log.
    let by_id = id.to_string().parse().unwrap();
    let cancellation = tracker.cancel(by_id);
    assert!(cancellation.found() && cancellation.signalled());
    lm.wait_for("by-id", all_gone).await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.call_id(), Some(id));
    assert_cancelled(Err(error), Cause::Caller);

    // It is answered, and its clean-up goes on.
    let mut settled = Box::pin(cancellation.settled());
    eventually_seen(&host, "by-id", &["cleaning"]).await;
    let early = tokio::time::timeout(Duration::from_millis(50), settled.as_mut()).await;
    assert!(early.is_err());
    assert_eq!(qa.in_flight(), 1);
    let orphans = tracker.orphans(None, 9);
    assert_eq!((orphans.len(), orphans[0].id), (1, Some(id)));

    open(&host, "by-id").await;
    tokio::time::timeout(HOUR, settled).await.unwrap();
    assert_eq!(seen(&host, "by-id").await, ["cleaning", "cleaned"]);
    eventually("its permit", || qa.in_flight() == 0).await;
    assert!(tracker.orphans(None, 9).is_empty());
    let timeline = tracker.timeline(id).unwrap();
    let (told, settled) = (timeline.stopped.unwrap().at, timeline.settled.unwrap());
    assert!(told <= timeline.answered.unwrap().at && told < settled);
    let counts = tracker.counts();
    assert_eq!((counts.cancelled, counts.accepted), (1, 1));
    assert!(!tracker.cancel(id).found());
}
