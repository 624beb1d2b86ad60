//! The wait for the end of the work below a node, and the attempts and fallbacks that wait for it.

use std::{future::pending, time::Duration};

use futures_util::FutureExt;
use serde_json::{Map, json};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Backoff, Cancel, CancelLayer, Carrier, Cause, Classify, Deadline, DeadlineLayer, Error,
    ErrorKind, FallbackLayer, PredictRequest, Prediction, RetryBudget, RetryLayer, Scope,
    StackConfig, TimeoutLayer,
    layers::RetryBudgetOptions,
    patterns::{CancellablePrediction, GracefulCancellationHandler, PredictionStatus},
    testing::mock::{CallRecord, MockDspy, Reply},
};

const SECOND: Duration = Duration::from_secs(1);

fn request(node: &Cancel) -> PredictRequest {
    PredictRequest::new(json!({})).with_cancel(node.clone())
}

/// A call at a program whose clean-up code takes a second, once it runs.
async fn running(program: &MockDspy, node: &Cancel) {
    let before = program.calls().len();
    tokio::spawn(program.clone().oneshot(request(node)));
    program.wait_for(|calls| calls.len() > before).await;
}

fn lingering() -> MockDspy {
    MockDspy::from_fn(|_| Reply::hang().lingers(SECOND))
}

#[tokio::test(start_paused = true)]
async fn a_node_without_work_has_settled() {
    for node in [Cancel::none(), Cancel::new(), Cancel::new().child()] {
        assert!(node.settled().now_or_never().is_some());
        node.cancel(Cause::Caller);
        assert!(node.settled().now_or_never().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_node_settles_when_the_clean_up_code_has_ended() {
    let (program, node) = (lingering(), Cancel::new());
    running(&program, &node.child()).await;
    running(&program, &node).await;
    let start = Instant::now();
    node.cancel(Cause::Caller);
    node.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_the_work_below_it_alone() {
    let (program, call) = (lingering(), Cancel::new());
    let [first, second] = [call.child(), call.child()];
    running(&program, &first).await;
    running(&program, &second).await;
    first.cancel(Cause::Superseded);
    first.settled().await;
    assert!(second.settled().now_or_never().is_none());
    assert!(call.settled().now_or_never().is_none());
    second.cancel(Cause::Caller);
    second.settled().await;
    assert!(call.settled().now_or_never().is_some());
}

/// A caller that has gone leaves work behind.
#[tokio::test(start_paused = true)]
async fn the_work_of_a_dropped_call_is_waited_for() {
    let (program, node) = (lingering(), Cancel::new());
    let mut call = Box::pin(program.clone().oneshot(request(&node)));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    assert_eq!(program.stopped(), [Cause::Dropped]);
    let start = Instant::now();
    node.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_layer_waits_for_the_work_of_all_its_calls() {
    let (program, layer) = (lingering(), Cancel::new());
    let service = CancelLayer::new().with_token(&layer).layer(program.clone());
    for node in [Cancel::none(), Cancel::new()] {
        tokio::spawn(service.clone().oneshot(request(&node)));
    }
    program.wait_for(|calls| calls.len() == 2).await;
    let start = Instant::now();
    layer.cancel(Cause::Shutdown);
    layer.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_no_work() {
    let (program, node) = (lingering(), Cancel::new());
    node.cancel(Cause::Caller);
    assert!(program.oneshot(request(&node)).await.is_err());
    assert!(node.settled().now_or_never().is_some());
}

/// The poll after the cancellation finds the backoff over, and reaches the retry before the layer.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_once_the_cancelled_token_of_a_layer_has_settled() {
    for node in [Cancel::none(), Cancel::new()] {
        let program = MockDspy::new([Reply::fail(ErrorKind::Elapsed), Reply::answer("Paris")]);
        let layer = Cancel::new();
        let stack = ServiceBuilder::new()
            .layer(CancelLayer::new().with_token(&layer))
            .layer(retry(1))
            .service(program.clone());
        let mut call = Box::pin(stack.oneshot(request(&node)));
        assert!(call.as_mut().now_or_never().is_none());
        advance(SECOND).await;
        layer.cancel(Cause::Caller);
        assert!(layer.settled().now_or_never().is_some());
        let answer = call.await;
        // A call that is refused takes no reply.
        assert_eq!(program.replies_left(), 1, "an attempt began");
        assert_eq!(answer.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        assert!(!node.is_cancelled());
    }
}

/// The times at which the calls came, since `start`.
fn times(program: &MockDspy, start: Instant) -> Vec<Duration> {
    let calls = program.calls();
    calls.iter().map(|call| call.at - start).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Its first call hangs, and cleans up for so long; later ones are answered.
fn once_slow(clean_up: Duration) -> MockDspy {
    MockDspy::from_fn(move |call| match call.attempt {
        0 => Reply::hang().lingers(clean_up),
        _ => Reply::answer("Paris"),
    })
}

fn retry(backoff: u64) -> RetryLayer {
    RetryLayer::new(2).with_backoff(Backoff::fixed(secs(backoff)))
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_settled_begins_when_the_work_has_ended_and_the_backoff_is_over() {
    for (retry, clean_up, second) in [
        (retry(0), 3, 4),
        (retry(0).after_settled(), 3, 7),
        (retry(5).after_settled(), 3, 9),
        (retry(5).after_settled(), 0, 9),
    ] {
        let program = once_slow(secs(clean_up));
        let stack = ServiceBuilder::new()
            .layer(retry)
            .layer(TimeoutLayer::new(secs(4)))
            .service(program.clone());
        let start = Instant::now();
        let answer = stack.oneshot(PredictRequest::new(json!({}))).await;
        assert!(answer.is_ok());
        assert_eq!(times(&program, start), [secs(0), secs(second)]);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_after_settled_never_run_beside_each_other() {
    let program = MockDspy::from_fn(|_| Reply::hang().lingers(3 * SECOND)).max_in_flight(9);
    let stack = ServiceBuilder::new()
        .layer(retry(0).after_settled())
        .layer(TimeoutLayer::new(secs(4)).with_grace(secs(1)))
        .service(program.clone());
    let start = Instant::now();
    let call = tokio::spawn(stack.oneshot(PredictRequest::new(json!({}))));
    program
        .wait_for(|calls| {
            let at_work = calls.iter().filter(|call| call.in_flight).count();
            assert!(at_work <= 1, "{calls:?}");
            calls.len() == 3 && at_work == 0
        })
        .await;
    assert_eq!(times(&program, start), [secs(0), secs(7), secs(14)]);
    let error = call.await.expect("no panic").expect_err("all are slow");
    assert_eq!(error.kind(), ErrorKind::Elapsed);
}

/// Its own node is waited for, not that of another call.
#[tokio::test(start_paused = true)]
async fn a_retry_after_settled_waits_for_its_own_call_alone() {
    let (program, node) = (once_slow(secs(1)), Cancel::new());
    running(&lingering(), &node).await;
    let stack = ServiceBuilder::new()
        .layer(retry(0).after_settled())
        .layer(TimeoutLayer::new(secs(4)))
        .service(program.clone());
    let start = Instant::now();
    assert!(stack.oneshot(request(&node)).await.is_ok());
    assert_eq!(times(&program, start), [secs(0), secs(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_settled_is_not_made_once_the_deadline_leaves_too_little_time() {
    for (min_attempt, end) in [(0, 10), (2, 8)] {
        let budget = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(1));
        let before = budget.available();
        let program = once_slow(Duration::MAX);
        let stack = ServiceBuilder::new()
            .layer(
                retry(0)
                    .after_settled()
                    .with_min_attempt(secs(min_attempt))
                    .with_budget(budget.clone()),
            )
            .layer(TimeoutLayer::new(secs(4)))
            .service(program.clone());
        let request = PredictRequest::new(json!({})).with_deadline(Deadline::within(secs(10)));
        let start = Instant::now();
        let error = stack.oneshot(request).await.expect_err("no attempt more");
        assert_eq!(error.kind(), ErrorKind::Elapsed);
        assert_eq!(start.elapsed(), secs(end));
        assert_eq!((program.calls().len(), budget.available()), (1, before));
    }
}

#[tokio::test(start_paused = true)]
async fn the_layer_that_ends_a_call_answers_for_it_during_the_wait() {
    let program = once_slow(Duration::MAX);
    let node = Cancel::new();
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)))
        .layer(CancelLayer::new())
        .layer(FallbackLayer::service(program.clone()).after_settled())
        .layer(retry(0).after_settled())
        .layer(TimeoutLayer::new(secs(4)))
        .service(program.clone());
    let start = Instant::now();
    let error = stack.clone().oneshot(PredictRequest::new(json!({})));
    assert_eq!(error.await.expect_err("late").kind(), ErrorKind::Deadline);
    assert_eq!(start.elapsed(), secs(10));
    let (answer, ()) = tokio::join!(stack.oneshot(request(&node)), async {
        sleep(secs(5)).await;
        node.cancel(Cause::Caller);
    });
    assert_eq!(answer.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!((program.calls().len(), start.elapsed()), (2, secs(15)));
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_host_is_not_waited_for() {
    let slow = service_fn(|request: PredictRequest| async move {
        match request.context().map(|context| context.attempt) {
            Some(0) => pending().await,
            _ => Ok::<_, Error>(Prediction::new(Map::new())),
        }
    });
    let stack = ServiceBuilder::new()
        .layer(retry(0).after_settled())
        .layer(TimeoutLayer::new(secs(4)))
        .service(slow);
    let start = Instant::now();
    let answer = stack.oneshot(PredictRequest::new(json!({}))).await;
    assert!(answer.is_ok());
    assert_eq!(start.elapsed(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_after_settled_is_asked_when_the_work_has_ended() {
    for (after_settled, asked) in [(false, 4), (true, 7)] {
        let (slow, quick) = (once_slow(secs(3)), MockDspy::new([Reply::answer("42")]));
        let fallback = FallbackLayer::service(quick.clone());
        let fallback = match after_settled {
            true => fallback.after_settled(),
            false => fallback,
        };
        let stack = ServiceBuilder::new()
            .layer(fallback)
            .layer(TimeoutLayer::new(secs(4)))
            .service(slow);
        let start = Instant::now();
        let answer = stack.oneshot(PredictRequest::new(json!({}))).await;
        assert!(answer.is_ok());
        assert_eq!(times(&quick, start), [secs(asked)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_waits_in_vain_returns_the_error_of_the_service_at_the_deadline() {
    let (slow, quick) = (once_slow(Duration::MAX), MockDspy::new([] as [Reply; 0]));
    let layer = FallbackLayer::service(quick).with_reserve(secs(5));
    let stack = layer.after_settled().layer(slow.clone());
    let call = PredictRequest::new(json!({})).with_deadline(Deadline::within(secs(10)));
    let start = Instant::now();
    let error = stack.clone().oneshot(call).await.expect_err("it is late");
    assert!(matches!(error, Error::Elapsed(elapsed) if elapsed.scope() == Scope::Reserve));
    assert_eq!(start.elapsed(), secs(10));

    // A cancelled call waits no longer, and has no fallback.
    let node = Cancel::new();
    let call = request(&node).with_deadline(Deadline::within(secs(10)));
    let (error, ()) = tokio::join!(stack.oneshot(call), async {
        sleep(secs(6)).await;
        node.cancel(Cause::Caller);
    });
    assert_eq!(error.expect_err("cancelled").kind(), ErrorKind::Elapsed);
    assert_eq!(start.elapsed(), secs(16));
}

#[tokio::test(start_paused = true)]
async fn a_cancellable_prediction_has_settled_when_its_work_has_ended() {
    let (program, own) = (lingering(), Cancel::new());
    for grace in [secs(0), secs(3)] {
        let prediction = CancellablePrediction::new().with_grace(grace);
        let handle = prediction.handle();
        tokio::spawn(prediction.call(program.clone(), request(&own)));
        let at_work = |calls: &[CallRecord]| calls.last().is_some_and(|call| call.in_flight);
        program.wait_for(at_work).await;
        assert!(own.settled().now_or_never().is_none());
        let start = Instant::now();
        handle.cancel();
        assert_eq!(handle.settled().await, PredictionStatus::Cancelled);
        assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
        assert!(own.settled().now_or_never().is_some());
    }
}

/// Its operation ends with the cancellation, and leaves work behind.
#[tokio::test(start_paused = true)]
async fn a_graceful_cancellation_waits_for_the_work_of_hosts_within_its_grace() {
    for (clean_up, took) in [(1, 1), (9, 5)] {
        let program = MockDspy::new([Reply::hang().lingers(secs(clean_up))]);
        let handler = GracefulCancellationHandler::new();
        let node = handler.child();
        let (called, token) = (program.clone(), handler.child_token());
        tokio::spawn(handler.execute(async move {
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                _ = called.oneshot(request(&node)) => {}
            }
        }));
        program.wait_for(|calls| !calls.is_empty()).await;
        let report = handler.cancel_gracefully(secs(5)).await;
        assert_eq!((report.ended, report.took), (1, secs(took)));
    }
}

#[test]
fn a_configuration_says_whether_attempts_and_fallbacks_wait_for_the_work() {
    let config = r#"{"retry": {"after_settled": true}, "fallback": {"after_settled": true}}"#;
    let config: StackConfig = serde_json::from_str(config).expect("a configuration");
    let stack = config.layer().expect("a stack");
    let stack = stack.with_fallback(FallbackLayer::value(Prediction::new(Map::new())));
    let shown = format!("{stack:?}");
    assert_eq!(shown.matches("after_settled: true").count(), 2, "{shown}");
}
