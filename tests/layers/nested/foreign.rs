//! Foreign layers between limits, and the names of merged limits.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{CancelLayer, Cause, DeadlineLayer, Scope, Stage, TimeoutLayer};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_call_refused_at_an_outer_limit_names_the_outer_limit() {
    let inner = TimeoutLayer::new(secs(9)).layer(Record::default().answers(secs(1)));
    let late = tower::service_fn(move |request: Request| {
        let call = inner.clone();
        async move {
            sleep(secs(3)).await;
            call.oneshot(request).await
        }
    });
    for grace in [0, 5] {
        let layer = TimeoutLayer::new(secs(3)).with_grace(secs(grace));
        let (took, result) = timed(layer.layer(late.clone()).oneshot(request())).await;
        assert_eq!(took, secs(3));
        // An attempt that may be worth another, and not the call's deadline.
        assert_eq!(elapsed(result).0, Scope::Attempt);
    }
}

#[tokio::test(start_paused = true)]
async fn the_cause_of_an_outer_drop_reaches_the_innermost_work() {
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(1)))
        // Foreign, and without a limit of ours inside it.
        .concurrency_limit(1)
        .layer(CancelLayer::new())
        .service(record.answers(secs(60)));
    elapsed(service.oneshot(request()).await);
    assert_eq!(record.drops(), [Cause::Deadline]);
}

/// Polls the inner future once, drops it, and then never answers.
#[derive(Clone)]
struct DropsAfterOnePoll<S>(S);

impl<S> Service<Request> for DropsAfterOnePoll<S>
where
    S: Service<Request, Response = &'static str, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = &'static str;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = self.0.call(request);
        Box::pin(async move {
            {
                let mut inner = pin!(inner);
                poll_fn(|cx| {
                    assert!(inner.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            std::future::pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_layer_that_drops_an_attempt_after_one_poll_does_not_hang_the_call() {
    for grace in [0, 2] {
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(secs(3)).with_grace(secs(grace)))
            .layer_fn(DropsAfterOnePoll)
            .layer(TimeoutLayer::new(secs(1)))
            .service(Record::default().answers(secs(60)));
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, secs(3 + grace));
        assert_eq!(elapsed(result).0, Scope::Deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_merged_with_an_outer_limit_names_the_outer_limit() {
    // Looser limits inside pass with the outer one, which ends the work and is named.
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(2)))
        .layer(DeadlineLayer::new(secs(9)))
        .layer(CancelLayer::new())
        .layer(TimeoutLayer::new(secs(5)))
        .layer(TimeoutLayer::new(secs(7)).with_grace(secs(60)))
        .service(record.answers(secs(60)));
    let (took, result) = timed(service.oneshot(due(secs(30)))).await;
    assert_eq!(took, secs(2));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(2)));
    assert_eq!(record.drops(), [Cause::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_limit_without_an_outer_enforcer_is_enforced() {
    for limit in [secs(3), secs(9)] {
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(5)))
            .layer(TimeoutLayer::new(limit))
            .service(Record::default().answers(secs(60)));
        let (took, result) = timed(service.oneshot(due(secs(2)))).await;
        assert_eq!(took, secs(2));
        assert_eq!(elapsed(result).0, Scope::Deadline);
    }
    // A task between hides nothing: the outer limit ends the work after its grace.
    let inner = TimeoutLayer::new(secs(5)).layer(Record::default().answers(secs(60)));
    let spawned = tower::service_fn(move |request: Request| {
        let call = tokio::spawn(inner.clone().oneshot(request));
        async move { call.await.map_err(BoxError::from)? }
    });
    let mut service = DeadlineLayer::new(secs(2))
        .with_grace(secs(9))
        .layer(spawned);
    let (took, result) = timed(service.call(request())).await;
    assert_eq!(took, secs(2 + 9));
    assert_eq!(elapsed(result).0, Scope::Deadline);
}

#[tokio::test(start_paused = true)]
async fn the_reported_stage_is_the_one_of_the_innermost_wait() {
    let limits = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(2)))
        .layer(CancelLayer::new())
        .layer(TimeoutLayer::new(secs(5)))
        .concurrency_limit(1)
        .service(Record::default().answers(secs(60)));
    let (first, second) =
        tokio::join!(limits.clone().oneshot(request()), limits.oneshot(request()));
    assert_eq!(elapsed(first), (Scope::Deadline, Stage::Running, secs(2)));
    assert_eq!(elapsed(second), (Scope::Deadline, Stage::Waiting, secs(2)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_at_a_merged_limit_is_ended_by_the_outer_limit() {
    for grace in [0, 5] {
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(2)).with_grace(secs(grace)))
            .layer(DeadlineLayer::from_context())
            .service(NeverReady);
        let (took, result) = timed(service.oneshot(request())).await;
        assert_eq!(took, secs(2));
        assert_eq!(elapsed(result).0, Scope::Attempt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_buffer_between_limits_changes_nothing() {
    let record = Record::default();
    let inner = TimeoutLayer::new(secs(60)).layer(record.tidies(secs(2)));
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)).with_grace(secs(5)))
        .buffer(1)
        .service(inner);
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(5));
    assert_eq!(elapsed(result).0, Scope::Deadline);
    assert!(record.drops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn selecting_between_two_calls_ends_each_by_its_own_limit() {
    let service = |limit| {
        TimeoutLayer::new(limit)
            .layer(Record::default().answers(secs(60)))
            .oneshot(request())
    };
    let (took, result) = timed(async {
        tokio::select! {
            result = service(secs(2)) => result,
            result = service(secs(1)) => result,
        }
    })
    .await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result).2, secs(1));
    sleep(secs(5)).await;

    // And polled by hand, from a task that is woken by nothing else.
    let mut call = task::spawn(service(secs(1)));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    assert!(call.is_woken());
    elapsed(assert_ready!(call.poll()));
}
