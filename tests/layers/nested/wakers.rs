//! Limits within each other, and the task that each wakes.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_dspy::{Cause, DeadlineLayer, RetryLayer, Scope, Stage, TimeoutLayer, patterns};

use crate::support::*;

type Attempt = BoxFuture<'static, Result<&'static str, BoxError>>;

/// An attempt of `limit` at a service that takes a minute.
fn attempt(limit: u64, record: &Record) -> Attempt {
    let service = TimeoutLayer::new(secs(limit)).layer(record.answers(secs(60)));
    service.oneshot(request()).boxed()
}

/// What `work` does, within an attempt of 9 s.
async fn within<F>(work: impl Fn() -> F + Clone) -> Result<&'static str, BoxError>
where
    F: Future<Output = Result<&'static str, BoxError>>,
{
    let service = service_fn(move |_: Request| work());
    let limited = TimeoutLayer::new(secs(9)).layer(service);
    limited.oneshot(request()).await
}

#[tokio::test(start_paused = true)]
async fn each_of_two_limits_side_by_side_wakes_at_its_time() {
    for (left, right) in [(1, 2), (2, 1)] {
        let record = Record::default();
        let answer = within(|| async {
            let (left_ended, right_ended) = tokio::join!(
                timed(attempt(left, &record)),
                timed(attempt(right, &record))
            );
            assert_eq!(left_ended.0, secs(left));
            assert_eq!(right_ended.0, secs(right));
            Ok("both")
        });
        assert_eq!(answer.await.unwrap(), "both");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_polled_with_its_own_waker_wakes_that_waker() {
    // Once woken, this one polls only those whose own waker was used.
    let record = Record::default();
    let work = within(|| async {
        let calls = [attempt(1, &record), attempt(2, &record)];
        let mut calls = FuturesUnordered::from_iter(calls);
        calls.next().await.unwrap()
    });
    let (took, result) = timed(work).await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_call_moved_to_another_task_is_woken_there() {
    let record = Record::default();
    let work = within(|| attempt(1, &record));
    let mut call = task::spawn(work);
    assert_pending!(call.poll());
    let (took, result) = timed(call).await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result).0, Scope::Attempt);
}

#[tokio::test(start_paused = true)]
async fn a_limit_passed_before_the_first_poll_ends_the_call_at_once() {
    let record = Record::default();
    let inner = TimeoutLayer::new(secs(1)).layer(record.answers(secs(60)));
    let mut service = TimeoutLayer::new(secs(9)).layer(inner);
    let call = service.ready().await.unwrap().call(request());
    advance(secs(2)).await;
    let (took, result) = timed(call).await;
    assert_eq!(took, secs(0));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_around_passed_limits_wakes_at_its_own_time() {
    // Each attempt has the task woken for itself; at the end that is the deadline's turn.
    let record = Record::default();
    let attempts = TimeoutLayer::new(secs(2)).layer(record.answers(secs(60)));
    let service = RetryLayer::new(9).layer(attempts);
    let service = DeadlineLayer::new(secs(7)).layer(service);
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(7));
    assert_eq!(elapsed(result).0, Scope::Deadline);
    assert_eq!(record.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_inner_limit_no_longer_polled_does_not_hang_the_call() {
    let record = Record::default();
    let work = within(|| async {
        let mut forgotten = attempt(1, &record);
        assert_pending!(futures_util::poll!(&mut forgotten));
        sleep(secs(60)).await;
        forgotten.await
    });
    let (took, result) = timed(work).await;
    assert_eq!(took, secs(9));
    assert_eq!(elapsed(result).2, secs(9));
    assert_eq!(record.drops(), [Cause::Elapsed]);
}

/// Goes on in a task of its own once it is dropped.
struct Detached(Option<Attempt>);

impl Future for Detached {
    type Output = Result<&'static str, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(attempt) => attempt.poll_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take() {
            tokio::spawn(attempt);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_wakes_after_the_limit_around_it_is_dropped() {
    let record = Record::default();
    let (took, result) = timed(within(|| Detached(Some(attempt(12, &record))))).await;
    assert_eq!(took, secs(9));
    assert_eq!(elapsed(result).2, secs(9));
    sleep(millis(2_999)).await;
    assert!(record.drops().is_empty());
    sleep(millis(2)).await;
    assert_eq!(record.drops(), [Cause::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_woken_after_a_limit_that_borrowed_it_is_dropped() {
    let record = Record::default();
    let mut call = attempt(3, &record);
    {
        let mut limited = pin!(patterns::timeout(secs(9), &mut call));
        assert_pending!(futures_util::poll!(limited.as_mut()));
    }
    // As one that waits until it is woken, and polls nothing before.
    let mut polled = false;
    let woken = poll_fn(|_| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let (took, _) = timed(tokio::time::timeout(secs(60), woken)).await;
    assert_eq!(took.as_secs(), 3);
    assert_eq!(elapsed(call.await).0, Scope::Attempt);
}
