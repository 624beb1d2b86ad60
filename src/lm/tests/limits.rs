//! The limits of an LM call under paused time.

use std::convert::Infallible;

use tokio::{
    task::coop::{consume_budget, has_budget_remaining},
    time::{Instant, advance},
};

use super::*;
use crate::{
    call::{Cancel, Cause},
    layers::TimeoutLayer,
};

/// An LM whose head comes after `head` and whose pieces come after each of `waits`.
fn scripted(head: Duration, waits: &'static [u64], limits: LmLimits) -> LmHandle {
    counted(head, waits, limits).0
}

fn counted(head: Duration, waits: &'static [u64], limits: LmLimits) -> (LmHandle, Arc<AtomicU32>) {
    let (lm, sent) = lm(move |_, _| async move {
        sleep(head).await;
        let waits = waits.iter().map(|&millis| Duration::from_millis(millis));
        Ok::<_, Infallible>(Response::new(Pieces::after(waits)))
    });
    (connect(&lm.limits(limits)), sent)
}

fn ask() -> LmRequest {
    request(URL, "x", false)
}

fn ask_within(limit: Duration) -> LmRequest {
    let mut request = ask();
    request.context_mut().limit(Deadline::within(limit));
    request
}

/// Sends, reads to the end, and tells how it ended after how long.
async fn run(lm: &LmHandle, request: LmRequest) -> (Result<String, LmFailure>, Duration) {
    let began = Instant::now();
    let done = match lm.send(request).await {
        Ok(answer) => text(answer.into_body()).await,
        Err(failure) => Err(failure),
    };
    (done, began.elapsed())
}

async fn fails(lm: &LmHandle, request: LmRequest) -> (LmFailureKind, Duration) {
    let (done, took) = run(lm, request).await;
    (done.expect_err("it fails").kind(), took)
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_limit_is_exact() {
    let limits = LmLimits::new().with_first_byte(SECOND);
    let lm = scripted(2 * SECOND, &[], limits);
    let (request, log) = with_log(ask());
    let got = fails(&lm, request).await;
    assert_eq!(got, (LmFailureKind::FirstByteTimeout, SECOND));
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
    assert_eq!(log.calls()[0].duration, SECOND);

    // What is ready at that very moment wins.
    let lm = scripted(SECOND, &[], limits);
    let (done, took) = run(&lm, ask()).await;
    assert_eq!((done, took), (Ok(String::new()), SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_pause_limit_restarts_with_each_chunk() {
    let limits = LmLimits::new().with_idle(SECOND);
    let lm = scripted(5 * SECOND, &[900, 900, 1000, 100], limits);
    let (done, took) = run(&lm, ask()).await;
    assert_eq!(done.as_deref(), Ok("xxxx"));
    assert_eq!(took, Duration::from_millis(7900));

    let lm = scripted(Duration::ZERO, &[900, 900, 1001, 100], limits);
    let (request, log) = with_log(ask());
    let got = fails(&lm, request).await;
    assert_eq!(
        got,
        (LmFailureKind::IdleTimeout, Duration::from_millis(2800))
    );
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_slow_reader_does_not_count_as_a_pause() {
    let limits = LmLimits::new().with_idle(SECOND);
    let lm = scripted(Duration::ZERO, &[500, 500], limits);
    let mut body = lm.send(ask()).await.expect("a head").into_body();
    for _ in 0..2 {
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        sleep(60 * SECOND).await;
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_total_limit_covers_the_body_too() {
    let limits = LmLimits::new().with_total(SECOND).with_idle(SECOND);
    let lm = scripted(Duration::from_millis(300), &[300, 300, 300], limits);
    let (request, log) = with_log(ask());
    let got = fails(&lm, request).await;
    assert_eq!(got, (LmFailureKind::TotalTimeout, SECOND));
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);

    let lm = scripted(2 * SECOND, &[], limits);
    let got = fails(&lm, ask()).await;
    assert_eq!(got, (LmFailureKind::TotalTimeout, SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_less_the_reserve_ends_a_call() {
    let limits = LmLimits::new().with_reserve(SECOND).with_total(9 * SECOND);
    let lm = scripted(Duration::ZERO, &[60_000], limits);
    let got = fails(&lm, ask_within(5 * SECOND)).await;
    assert_eq!(got, (LmFailureKind::Deadline, 4 * SECOND));
    // Where both end at once it is the deadline that is named.
    let got = fails(&lm, ask_within(10 * SECOND)).await;
    assert_eq!(got, (LmFailureKind::Deadline, 9 * SECOND));
    let got = fails(&lm, ask_within(20 * SECOND)).await;
    assert_eq!(got, (LmFailureKind::TotalTimeout, 9 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_late_or_cancelled_request_is_not_sent() {
    let limits = LmLimits::new().with_reserve(SECOND);
    let (lm, sent) = counted(Duration::ZERO, &[], limits);
    let (late, log) = with_log(ask_within(SECOND));
    let error = lm.send(late).await.expect_err("it is too late");
    assert_eq!(error.kind(), LmFailureKind::Refused);
    assert_eq!(Classify::kind(&error), ErrorKind::Deadline);
    assert_eq!(outcomes(&log), [LmOutcome::Refused]);

    let (mut cancelled, log) = with_log(ask());
    let node = Cancel::new();
    node.cancel(Cause::ClientGone);
    cancelled.context_mut().cancel = node;
    let error = lm.send(cancelled).await.expect_err("it is cancelled");
    assert_eq!(error.kind(), LmFailureKind::Refused);
    assert_eq!(Classify::kind(&error), ErrorKind::Cancelled);
    assert_eq!(outcomes(&log), [LmOutcome::Refused]);
    assert_eq!(sent.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_ends_the_head_and_the_body() {
    for head in [60 * SECOND, Duration::ZERO] {
        let lm = scripted(head, &[60_000], LmLimits::new());
        let node = Cancel::new();
        let (mut request, log) = with_log(ask());
        request.context_mut().cancel = node.clone();
        let (got, ()) = tokio::join!(fails(&lm, request), async {
            sleep(SECOND).await;
            node.cancel(Cause::Shutdown);
        });
        assert_eq!(got, (LmFailureKind::Cancelled, SECOND));
        assert_eq!(outcomes(&log), [LmOutcome::Cancelled]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_enforces_the_calls_limit_does_not_rename_the_limit() {
    let (lm, _) = lm(|_, _| async {
        sleep(60 * SECOND).await;
        Ok::<_, Infallible>(Response::new(Pieces::after([])))
    });
    let lm = lm.layer(TimeoutLayer::new(5 * SECOND));
    let attempt = connect(&lm);
    let got = fails(&attempt, ask()).await;
    assert_eq!(got, (LmFailureKind::TotalTimeout, 5 * SECOND));
    let total = lm.clone().limits(LmLimits::new().with_total(2 * SECOND));
    let got = fails(&connect(&total), ask()).await;
    assert_eq!(got, (LmFailureKind::TotalTimeout, 2 * SECOND));
    let got = fails(&attempt, ask_within(SECOND)).await;
    assert_eq!(got, (LmFailureKind::Deadline, SECOND));
}

#[tokio::test(start_paused = true)]
async fn any_duration_is_a_limit() {
    let forever = Duration::MAX;
    let limits = LmLimits::new()
        .with_first_byte(forever)
        .with_first_content(forever)
        .with_idle(forever);
    let lm = scripted(SECOND, &[1000], limits.with_total(forever));
    assert_eq!(run(&lm, ask()).await.0.as_deref(), Ok("x"));
    let lm = scripted(SECOND, &[], limits.with_reserve(forever));
    let error = lm
        .send(ask_within(forever))
        .await
        .expect_err("all is kept back");
    assert_eq!(error.kind(), LmFailureKind::Refused);
}

/// Without any limit of the LM's own: a retry layer waits for it, and the status is known.
#[tokio::test(start_paused = true)]
async fn the_wait_for_the_body_of_an_error_is_bounded() {
    let (lm, _) = lm(|_, _| {
        let pieces = Pieces::after([SECOND, 60_000 * SECOND]);
        std::future::ready(Response::builder().status(503).body(pieces))
    });
    let lm = connect(&lm);
    let (request, log) = with_log(ask());
    let began = Instant::now();
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert_eq!(answer.status(), 503);
    assert_eq!(text(answer.into_body()).await.as_deref(), Ok("x"));
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
    assert_eq!(log.calls()[0].status, Some(503));
}

#[tokio::test(start_paused = true)]
async fn a_task_with_an_exhausted_coop_budget_sees_the_limit_of_a_call() {
    let lm = scripted(9 * SECOND, &[], LmLimits::new().with_total(SECOND));
    let mut call = Box::pin(lm.send(ask()));
    let ended = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(ended.is_pending());
    advance(2 * SECOND).await;
    let ended = std::future::poll_fn(|cx| {
        while has_budget_remaining() {
            let _ = std::pin::pin!(consume_budget()).poll(cx);
        }
        Poll::Ready(call.as_mut().poll(cx))
    });
    let Poll::Ready(Err(failure)) = ended.await else {
        panic!("the limit was not seen");
    };
    assert_eq!(failure.kind(), LmFailureKind::TotalTimeout);
}
