//! The time that is kept for a fallback.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Cause, Classify, DeadlineLayer, Elapsed, Error, ErrorKind, FallbackLayer, PredictRequest,
    Scope, Stage,
};

use crate::{
    fallback::{NeverReady, due, stuck},
    script::{Log, answer, request, too_slow},
    support::secs,
};

#[tokio::test(start_paused = true)]
async fn the_reserve_is_at_most_half_of_the_time_left() {
    for (left, reserve, first_gets) in [
        (10_000, 2_000, 8_000),
        (10_000, 5_000, 5_000),
        (10_000, 5_001, 5_000),
        (10_000, 60_000, 5_000),
        (3, 60_000, 2),
    ] {
        let drops = Arc::default();
        let reserve = Duration::from_millis(reserve);
        let start = Instant::now();
        let result = FallbackLayer::value(answer("value"))
            .with_reserve(reserve)
            .layer(stuck(&drops))
            .oneshot(due(Duration::from_millis(left)))
            .await;
        assert_eq!(result.expect("the value"), answer("value"));
        // tokio's timer rounds up to milliseconds, as from 1.5.
        assert_eq!(start.elapsed(), Duration::from_millis(first_gets));
        assert_eq!(*drops.lock().expect("no panic"), [Cause::Elapsed]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_nothing_is_reserved() {
    let drops = Arc::default();
    let call = FallbackLayer::value(answer("value"))
        .with_reserve(secs(2))
        .layer(stuck(&drops))
        .oneshot(request());
    assert!(timeout(secs(86_400), call).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_longest_reserve_and_deadline_do_not_overflow() {
    let log = Log::default();
    FallbackLayer::value(answer("value"))
        .with_reserve(Duration::MAX)
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(due(Duration::MAX))
        .await
        .expect("the value");
    assert!(!log.calls()[0].1.deadline.expect("one").is_past());
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_instant_of_the_limit_wins() {
    let log = Log::default();
    let result = FallbackLayer::value(answer("value"))
        .with_reserve(secs(2))
        .layer(log.service(|_| async {
            sleep(secs(8)).await;
            Ok(answer("just in time"))
        }))
        .oneshot(due(secs(10)))
        .await;
    assert_eq!(result.expect("the first's"), answer("just in time"));
}

#[tokio::test(start_paused = true)]
async fn a_first_service_that_is_never_ready_falls_back_too() {
    let start = Instant::now();
    let seen = Arc::new(Mutex::new(None));
    let saw = Arc::clone(&seen);
    let layer = FallbackLayer::with(move |error: Error, _: PredictRequest| {
        *saw.lock().expect("no panic") = Some(error);
        ready(Ok(answer("closure")))
    });
    let mut service = layer.with_reserve(secs(2)).layer(NeverReady);
    service.ready().await.expect("always ready");
    let result = service.call(due(secs(10))).await;
    assert_eq!(result.expect("the closure's"), answer("closure"));
    assert_eq!(start.elapsed(), secs(8));
    let error = seen.lock().expect("no panic").take();
    let Some(Error::Elapsed(error)) = error else {
        panic!("{error:?}");
    };
    let expected = Elapsed::new(Scope::Reserve, Stage::Waiting, secs(8));
    assert_eq!(error, expected);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_is_never_ready_ends_with_the_deadline() {
    let log = Log::default();
    let start = Instant::now();
    let error = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)))
        .layer(FallbackLayer::service(NeverReady).with_reserve(secs(2)))
        .service(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(start.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn the_permit_of_the_first_service_is_free_while_the_fallback_works() {
    let drops = Arc::default();
    let shared = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(stuck(&drops));
    let limited = shared.clone();
    let layer = FallbackLayer::with(move |_: Error, _: PredictRequest| {
        let mut limited = limited.clone();
        async move {
            limited.ready().await?;
            Ok(answer("permitted"))
        }
    });
    let result = layer
        .with_reserve(secs(2))
        .layer(shared)
        .oneshot(due(secs(10)))
        .await;
    assert_eq!(result.expect("the closure's"), answer("permitted"));
}
