//! Limits within a grace.

use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{Cancel, CancelLayer, Cause, DeadlineLayer, Scope, Stage, TimeoutLayer};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_tighter_of_deadline_and_attempt_limit_ends_the_work_in_either_order() {
    for (deadline, attempt, scope, cause) in [
        (9, 4, Scope::Attempt, Cause::Elapsed),
        (4, 9, Scope::Deadline, Cause::Deadline),
        (4, 4, Scope::Deadline, Cause::Deadline),
    ] {
        let record = Record::default();
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(secs(deadline)))
            .layer(TimeoutLayer::new(secs(attempt)))
            .service(record.answers(secs(60)));
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, secs(4));
        assert_eq!(elapsed(result), (scope, Stage::Running, secs(4)));
        assert_eq!(record.drops(), [cause]);
    }
    for (attempt, deadline, scope) in [(9, 4, Scope::Deadline), (4, 4, Scope::Deadline)] {
        let record = Record::default();
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(attempt)))
            .layer(DeadlineLayer::new(secs(deadline)))
            .service(record.answers(secs(60)));
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, secs(4));
        assert_eq!(elapsed(result).0, scope);
        assert_eq!(record.drops().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_wins_a_tie_with_every_limit_at_once() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(4)).with_grace(secs(1)))
        .layer(CancelLayer::new())
        .layer(TimeoutLayer::new(secs(4)).with_grace(secs(1)))
        .service(Record::default().answers(secs(4)));
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_grace_of_an_attempt() {
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(TimeoutLayer::new(secs(1)).with_grace(secs(9)))
        .service(record.tidies(secs(60)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(3)));
    // The signal was the attempt's, the end the deadline's.
    assert_eq!(record.context().cancel.cause(), Some(Cause::Elapsed));
    assert_eq!(record.drops(), [Cause::Deadline]);
}

#[tokio::test(start_paused = true)]
async fn a_deadlines_grace_bounds_that_of_an_attempt() {
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)).with_grace(secs(2)))
        .layer(TimeoutLayer::new(secs(1)).with_grace(secs(9)))
        .service(record.tidies(secs(60)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(5));
    assert_eq!(elapsed(result).0, Scope::Deadline);
    assert_eq!(record.drops(), [Cause::Deadline]);
}

#[tokio::test(start_paused = true)]
async fn inner_limits_leave_the_end_to_the_layer_that_gives_the_grace() {
    // Both limits pass at once, and the node of the call is cancelled with them; neither the
    // attempt's limit nor the cancel layer, which have no grace, may take that of the deadline.
    for attempt in [3, 60] {
        let record = Record::default();
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(secs(3)).with_grace(secs(5)))
            .layer(CancelLayer::new())
            .layer(TimeoutLayer::new(secs(attempt)))
            .service(record.tidies(secs(2)));
        let mut request = request();
        request.context.cancel = Cancel::new();
        let (took, result) = timed(service.oneshot(request)).await;
        assert_eq!(took, secs(5));
        assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(3)));
        assert_eq!(record.context().cancel.cause(), Some(Cause::Deadline));
        assert!(record.drops().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_noticed_late_does_not_cut_an_outer_grace() {
    // As each is by a real clock: a timer fires in the millisecond after its instant.
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)).with_grace(secs(5)))
        .layer(TimeoutLayer::new(secs(60)))
        .service(record.tidies(secs(2)));
    let mut call = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    advance(millis(3_001)).await;
    let (took, result) = timed(call).await;
    assert_eq!(took, secs(2));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(3)));
    assert!(record.drops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_inner_limit_does_not_cut_the_grace_of_a_cancel() {
    let record = Record::default();
    let cancel = Cancel::new();
    let service = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(secs(9)))
        .layer(TimeoutLayer::new(secs(2)))
        .service(record.tidies(secs(5)));
    let mut request = request();
    request.context.cancel = cancel.clone();
    let mut call = task::spawn(service.oneshot(request));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    cancel.cancel(Cause::ClientGone);
    let (took, result) = timed(call).await;
    assert_eq!(took, secs(5));
    assert_eq!(cancelled(result), Cause::ClientGone);
    assert!(record.drops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_inner_cancel_layer_leaves_the_end_to_the_layer_that_gives_the_grace() {
    let record = Record::default();
    let cancel = Cancel::new();
    let service = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(secs(9)))
        .layer(CancelLayer::new())
        .service(record.tidies(secs(5)));
    let mut request = request();
    request.context.cancel = cancel.clone();
    let mut call = task::spawn(service.oneshot(request));
    assert_pending!(call.poll());
    cancel.cancel(Cause::ClientGone);
    let (took, result) = timed(call).await;
    assert_eq!(took, secs(5));
    assert_eq!(cancelled(result), Cause::ClientGone);
    assert!(record.drops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_inner_cancel_layer_with_its_own_token_ends_the_work_itself() {
    let record = Record::default();
    let inner = Cancel::new();
    let service = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(secs(9)))
        .layer(CancelLayer::new().with_token(&inner))
        .service(record.answers(secs(5)));
    let mut request = request();
    request.context.cancel = Cancel::new();
    let mut call = task::spawn(service.oneshot(request));
    assert_pending!(call.poll());
    inner.cancel(Cause::ClientGone);
    assert!(call.is_woken());
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::ClientGone);
    assert_eq!(record.drops(), [Cause::ClientGone]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_before_the_cancels_grace_still_ends_the_work() {
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(secs(9)))
        .layer(TimeoutLayer::new(secs(2)))
        .service(record.answers(secs(60)));
    let mut request = request();
    request.context.cancel = Cancel::new();
    let (took, result) = timed(service.oneshot(request)).await;
    assert_eq!(took, secs(2));
    assert_eq!(elapsed(result).0, Scope::Attempt);
}

#[tokio::test(start_paused = true)]
async fn a_wait_inside_a_grace_does_not_start_the_call_late() {
    // The inner deadline layer still waits for readiness when the outer one's limit passes.
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)).with_grace(secs(5)))
        .layer(DeadlineLayer::new(secs(60)))
        .service(NeverReady);
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Waiting, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn an_inner_wait_gets_no_grace_either() {
    // The layer between has taken the call, and its own service is not ready for it until the
    // grace; there it must not start.
    let record = Record::default();
    let cancel = Cancel::new();
    let busy = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(record.answers(secs(4)));
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(3)).with_grace(secs(9)))
        .layer(CancelLayer::new())
        .service(busy.clone());
    let mut first = task::spawn(busy.oneshot(request()));
    assert_pending!(first.poll());
    let mut second = request();
    second.context.cancel = cancel;
    let (took, (_, result)) = timed(async { tokio::join!(first, service.oneshot(second)) }).await;
    assert_eq!(took, secs(4));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Waiting, secs(3)));
    assert_eq!(record.calls(), 1);
}
