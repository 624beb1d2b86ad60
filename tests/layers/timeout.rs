use std::time::Duration;

use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, ServiceExt};
use tower_dspy::{Cause, Scope, Stage, Timeout, TimeoutLayer};
use tower_test::mock;

use super::support::*;

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_instant_of_the_limit_wins() {
    for (delay, answers) in [(999, true), (1_000, true), (1_001, false)] {
        let record = Record::default();
        let service = Timeout::new(record.answers(millis(delay)), secs(1));
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, millis(delay.min(1_000)));
        if answers {
            assert_eq!(result.unwrap(), "answer");
            assert!(record.drops().is_empty());
        } else {
            assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(1)));
            assert_eq!(record.drops(), [Cause::Elapsed]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_work_without_a_cause() {
    let record = Record::default();
    let service = Timeout::new(record.answers(secs(9)), secs(5));
    let mut call = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_limit_and_deadline_applies_and_a_tie_names_the_deadline() {
    for (deadline, after, scope, cause) in [
        (9, 4, Scope::Attempt, Cause::Elapsed),
        (4, 4, Scope::Deadline, Cause::Deadline),
        (3, 3, Scope::Deadline, Cause::Deadline),
    ] {
        let record = Record::default();
        let service = Timeout::new(record.answers(secs(60)), secs(4));
        let start = Instant::now();
        let (took, result) = timed(service.oneshot(due(secs(deadline)))).await;
        assert_eq!(took, secs(after));
        assert_eq!(elapsed(result), (scope, Stage::Running, secs(after)));
        assert_eq!(record.drops(), [cause]);
        let inward = record.context().deadline.unwrap().instant();
        assert_eq!(inward, start + secs(after));
    }
}

#[tokio::test(start_paused = true)]
async fn a_past_deadline_is_refused_without_a_call() {
    let record = Record::default();
    let service = Timeout::new(record.answers(secs(0)), secs(4));
    let request = due(secs(1));
    advance(secs(1)).await;
    let result = service.oneshot(request).await;
    assert_eq!(
        elapsed(result),
        (Scope::Deadline, Stage::BeforeStart, Duration::ZERO)
    );
    assert_eq!(record.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_any_duration_is_accepted() {
    let service = Timeout::new(Record::default().answers(secs(86_400)), Duration::MAX);
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");

    // No time at all: what is ready at once still answers.
    let ready = tower::service_fn(|_: Request| async { Ok::<_, BoxError>("answer") });
    let service = Timeout::new(ready, Duration::ZERO);
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
    let service = Timeout::new(Record::default().answers(secs(1)), Duration::ZERO);
    let (took, result) = timed(service.oneshot(request())).await;
    elapsed(result);
    assert!(took <= millis(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn readiness_is_not_limited() {
    let service = Timeout::new(NeverReady, secs(1));
    let (took, result) = timed(tokio::time::timeout(
        secs(3_600),
        service.oneshot(request()),
    ))
    .await;
    assert!(result.is_err());
    assert_eq!(took, secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn the_limit_starts_at_the_call() {
    let layer = TimeoutLayer::new(secs(2));
    let (mut service, mut handle) = mock::spawn_layer::<Request, &str, _>(layer);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    advance(secs(9)).await;
    handle.allow(1);
    assert_ready!(service.poll_ready()).unwrap();
    let mut call = task::spawn(service.call(request()));
    assert_pending!(call.poll());
    advance(millis(1_999)).await;
    assert_pending!(call.poll());
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_response("answer");
    assert_eq!(assert_ready!(call.poll()).unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn the_inner_error_is_returned() {
    let layer = TimeoutLayer::new(secs(1));
    let (mut service, mut handle) = mock::spawn_layer::<http::Request<&str>, (), _>(layer);
    assert_ready!(service.poll_ready()).unwrap();
    let call = service.call(http::Request::new("why?"));
    let (request, answer) = handle.next_request().await.unwrap();
    assert!(
        request
            .extensions()
            .get::<tower_dspy::CallContext>()
            .is_some()
    );
    answer.send_error("refused");
    assert_eq!(call.await.unwrap_err().to_string(), "refused");
}

#[tokio::test(start_paused = true)]
async fn a_grace_lets_the_work_clean_up_and_the_limit_stays_the_outcome() {
    let record = Record::default();
    let layer = TimeoutLayer::new(secs(1)).with_grace(secs(5));
    let (took, result) = timed(layer.layer(record.tidies(secs(2))).oneshot(request())).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(1)));
    assert!(record.drops().is_empty());
    assert_eq!(record.context().cancel.cause(), Some(Cause::Elapsed));
}

#[tokio::test(start_paused = true)]
async fn a_grace_is_bounded() {
    let record = Record::default();
    let layer = TimeoutLayer::new(secs(1)).with_grace(secs(5));
    let (took, result) = timed(layer.layer(record.tidies(secs(60))).oneshot(request())).await;
    assert_eq!(took, secs(6));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(1)));
    assert_eq!(record.drops(), [Cause::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn a_grace_of_zero_is_no_grace() {
    let record = Record::default();
    let layer = TimeoutLayer::new(secs(1)).with_grace(Duration::ZERO);
    let (took, result) = timed(layer.layer(record.tidies(secs(0))).oneshot(request())).await;
    assert_eq!(took, secs(1));
    elapsed(result);
    assert_eq!(record.drops(), [Cause::Elapsed]);
    assert!(!record.context().cancel.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_limit_cancels_nothing() {
    let record = Record::default();
    let layer = TimeoutLayer::new(secs(2)).with_grace(secs(5));
    let result = layer
        .layer(record.answers(secs(1)))
        .oneshot(request())
        .await;
    assert_eq!(result.unwrap(), "answer");
    assert_eq!(record.context().cancel.cause(), None);
}

#[tokio::test(start_paused = true)]
async fn a_grace_cancels_the_attempt_and_not_the_call() {
    let record = Record::default();
    let layer = TimeoutLayer::new(secs(1)).with_grace(secs(5));
    let call = tower_dspy::Cancel::new();
    let mut request = request();
    request.context.cancel = call.clone();
    elapsed(layer.layer(record.tidies(secs(2))).oneshot(request).await);
    assert_eq!(record.context().cancel.cause(), Some(Cause::Elapsed));
    assert!(!call.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn work_that_exhausts_the_coop_budget_is_ended_on_time() {
    // Each poll takes all that tokio grants a task between two yields.
    let greedy = tower::service_fn(|_: Request| async {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        loop {
            send.send(()).unwrap();
            receive.recv().await.unwrap();
            if receive.is_closed() {
                return Ok::<&str, BoxError>("answer");
            }
        }
    });
    let call = tokio::spawn(Timeout::new(greedy, secs(1)).oneshot(request()));
    tokio::task::yield_now().await;
    advance(millis(999)).await;
    assert!(!call.is_finished());
    advance(millis(1)).await;
    elapsed(call.await.unwrap());
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<TimeoutLayer>();
    shared::<Timeout<Mocked>>();
    let mut service = TimeoutLayer::new(secs(1)).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    assert_eq!(service.clone().into_inner().delay, secs(2));
    sent(&service.map_future(|call| {
        sent(&call);
        call
    }));
}
