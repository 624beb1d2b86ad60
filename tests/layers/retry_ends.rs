//! The reasons for which a failed attempt is not followed by another.

use std::{future::ready, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, Cancel, CancelLayer, Cause, Classify, Deadline, DeadlineLayer, ErrorKind, RetryBudget,
    RetryLayer, layers::RetryBudgetOptions,
};

use crate::{
    retry::at_once,
    script::{Log, busy, request, too_slow},
    support::millis as ms,
};

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_that_the_deadline_would_end() {
    // Attempts start at 0, 150 and 300 ms; after the third, at 350 ms, 100 ms more are not left.
    for (deadline, attempts, end) in [(449, 3, 350), (450, 3, 350), (451, 4, 500)] {
        let log = Log::default();
        let start = Instant::now();
        let error = RetryLayer::new(9)
            .with_backoff(Backoff::fixed(ms(100)))
            .layer(log.service(|_| async {
                sleep(ms(50)).await;
                Err(too_slow())
            }))
            .oneshot(request().with_deadline(Deadline::within(ms(deadline))));
        let error = tokio::time::timeout(ms(500), error).await;
        assert_eq!(log.len(), attempts, "with {deadline} ms");
        if deadline < 451 {
            let error = error
                .expect("no wait for a doomed attempt")
                .expect_err("fails");
            assert_eq!(error.kind(), ErrorKind::Elapsed);
        }
        assert_eq!(start.elapsed(), ms(end));
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_unless_more_time_than_its_minimum_is_left() {
    for (deadline, attempts) in [(399, 1), (400, 1), (401, 2)] {
        let log = Log::default();
        RetryLayer::new(9)
            .with_backoff(Backoff::fixed(ms(100)))
            .with_min_attempt(ms(300))
            .layer(log.service(|_| ready(Err(too_slow()))))
            .oneshot(request().with_deadline(Deadline::within(ms(deadline))))
            .await
            .expect_err("each attempt fails");
        assert_eq!(log.len(), attempts, "with {deadline} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_prolongs_the_wait_or_ends_the_attempts() {
    for (retry_after, deadline, attempts, end) in [
        (Some(ms(2_000)), None, 2, 2_000),
        (Some(ms(2_000)), Some(ms(2_001)), 2, 2_000),
        (Some(ms(2_000)), Some(ms(2_000)), 1, 0),
        (Some(Duration::MAX), Some(ms(60_000)), 1, 0),
        (Some(ms(10)), Some(ms(60_000)), 2, 100),
        (None, None, 2, 100),
    ] {
        let log = Log::default();
        let start = Instant::now();
        let mut request = request();
        if let Some(deadline) = deadline {
            request = request.with_deadline(Deadline::within(deadline));
        }
        let error = RetryLayer::new(1)
            .with_backoff(Backoff::fixed(ms(100)))
            .layer(log.service(move |_| ready(Err(busy(retry_after)))))
            .oneshot(request)
            .await
            .expect_err("each attempt fails");
        assert_eq!(error.retry_after(), retry_after);
        assert_eq!((log.len(), start.elapsed()), (attempts, ms(end)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_not_retried() {
    let log = Log::default();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let result = at_once(3)
        .layer(log.service(move |_| {
            stop.cancel(Cause::ClientGone);
            ready(Err(too_slow()))
        }))
        .oneshot(request().with_cancel(cancel))
        .await;
    assert!(result.is_err());
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_backoff_ends_the_call_at_once() {
    let slow = || RetryLayer::new(3).with_backoff(Backoff::fixed(ms(30_000)));
    let budget = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(1));
    for grace in [ms(0), ms(60_000)] {
        let log = Log::default();
        let cancel = Cancel::new();
        let start = Instant::now();
        let call = ServiceBuilder::new()
            .layer(CancelLayer::new().with_grace(grace))
            .layer(slow().with_budget(budget.clone()))
            .service(log.service(|_| ready(Err(too_slow()))))
            .oneshot(request().with_cancel(cancel.clone()));
        let (result, ()) = tokio::join!(call, async {
            sleep(ms(1_000)).await;
            assert_eq!(budget.available(), 9);
            cancel.cancel(Cause::Caller);
        });
        assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        assert_eq!((log.len(), start.elapsed()), (1, ms(1_000)));
        assert_eq!(budget.available(), 10);
    }

    // Without a layer that answers for the cancellation, the answer is the last attempt's.
    let log = Log::default();
    let cancel = Cancel::new();
    let start = Instant::now();
    let call = slow()
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request().with_cancel(cancel.clone()));
    let (result, ()) = tokio::join!(call, async {
        sleep(ms(1_000)).await;
        cancel.cancel(Cause::Caller);
    });
    assert_eq!(result.expect_err("failed").kind(), ErrorKind::Elapsed);
    assert_eq!((log.len(), start.elapsed()), (1, ms(1_000)));
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_a_deadline_is_not_for_another_attempt() {
    // The wait for readiness takes the retry past the deadline, into the grace.
    let log = Log::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(ms(1_000)).with_grace(ms(5_000)))
        .layer(at_once(3))
        .concurrency_limit(1)
        .service(log.service(|n| async move {
            sleep(if n == 0 { ms(10) } else { ms(1_500) }).await;
            Err(too_slow())
        }));
    let start = Instant::now();
    let first = service.clone().oneshot(request());
    let second = async {
        sleep(ms(5)).await;
        service.oneshot(request()).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.expect_err("late").kind(), ErrorKind::Deadline);
    assert_eq!(second.expect_err("late").kind(), ErrorKind::Deadline);
    // The first's attempt, and the second's, which held the permit at the deadline.
    assert_eq!(log.len(), 2);
    assert!(start.elapsed() <= ms(1_510));
}

#[tokio::test(start_paused = true)]
async fn a_service_ready_too_late_is_not_called() {
    let log = Log::default();
    let semaphore = Arc::new(tokio::sync::Semaphore::new(1));
    let permit = Arc::clone(&semaphore);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(1).with_backoff(Backoff::fixed(ms(10))))
        .layer(tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(
            semaphore,
        ))
        .service(log.service(|_| ready(Err(too_slow()))));
    let call = service.oneshot(request().with_deadline(Deadline::within(ms(100))));
    let (result, ()) = tokio::join!(call, async {
        let permit = permit.acquire().await.expect("open");
        sleep(ms(100)).await;
        drop(permit);
    });
    assert_eq!(result.expect_err("failed").kind(), ErrorKind::Elapsed);
    assert_eq!(log.len(), 1);
}
