use std::{future::pending, time::Duration};

use tower::{Layer, ServiceExt};
use tower_dspy::{
    Backoff, Cause, RetryBudget, Scope, Stage,
    layers::RetryBudgetOptions,
    patterns::{TimeoutConfig, TimeoutError},
};

use super::support::*;

fn config() -> TimeoutConfig {
    TimeoutConfig::new()
        .with_request_timeout(secs(4))
        .with_session_timeout(secs(10))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_limited_that_is_not_set() {
    let record = Record::default();
    let week = secs(7 * 86_400);
    let result = TimeoutConfig::new()
        .execute_with_timeout(record.answers(week).oneshot(request()))
        .await;
    assert_eq!(result.unwrap(), "answer");
    let service = TimeoutConfig::new().layer().layer(record.answers(week));
    assert_eq!(service.oneshot(request()).await.unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn the_tighter_of_request_and_session_limit_holds_and_is_named() {
    for (request, session, scope) in [
        (4, 10, Scope::Attempt),
        (10, 4, Scope::Deadline),
        (4, 4, Scope::Deadline),
    ] {
        let config = TimeoutConfig::new()
            .with_request_timeout(secs(request))
            .with_session_timeout(secs(session));
        let (took, result) = timed(config.execute_with_timeout(pending::<()>())).await;
        assert_eq!(took, secs(4));
        let error = result.unwrap_err();
        assert_eq!(error.elapsed().unwrap().scope(), scope);
        let named = matches!(error, TimeoutError::Deadline(_));
        assert_eq!(named, scope == Scope::Deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn each_backoff_is_waited_for() {
    for (backoff, waits) in [
        (Backoff::fixed(secs(1)), [1, 1, 1]),
        (Backoff::linear(secs(1), secs(2)), [1, 2, 2]),
        (
            Backoff::exponential(secs(1), secs(3)).without_jitter(),
            [1, 2, 3],
        ),
    ] {
        let record = Record::default();
        let config = TimeoutConfig::new()
            .with_request_timeout(secs(1))
            .with_max_retries(3)
            .with_backoff(backoff);
        let slow = || record.answers(secs(9)).oneshot(request());
        let (took, result) = timed(config.execute_with_retry(slow)).await;
        assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
        assert_eq!(took, secs(4 + waits.iter().sum::<u64>()));
        assert_eq!(record.drops(), [Cause::Elapsed; 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn futures_and_the_stack_end_alike() {
    // (limit of a request, of the session, wait, retries): when, how, and after how many attempts.
    for (attempt, session, wait, retries, took, scope, calls) in [
        (4, 100, 1, 2, 14, Scope::Attempt, 3),
        (4, 10, 0, 9, 10, Scope::Deadline, 3),
        // The backoff would leave nothing, so nobody waits for it.
        (4, 10, 6, 9, 4, Scope::Attempt, 1),
        (4, 10, 1, 0, 4, Scope::Attempt, 1),
        (20, 10, 1, 9, 10, Scope::Deadline, 1),
    ] {
        let config = TimeoutConfig::new()
            .with_request_timeout(secs(attempt))
            .with_session_timeout(secs(session))
            .with_max_retries(retries)
            .with_backoff(Backoff::fixed(secs(wait)));
        let case = format!("{config:?}");

        let record = Record::default();
        let slow = || record.answers(secs(60)).oneshot(request());
        let (time, result) = timed(config.execute_with_retry(slow)).await;
        let error = result.unwrap_err();
        assert_eq!(error.elapsed().unwrap().scope(), scope, "{case}");
        assert_eq!((time, record.calls()), (secs(took), calls), "{case}");

        let record = Record::default();
        let service = config.layer().layer(record.answers(secs(60)));
        let (time, result) = timed(service.oneshot(request())).await;
        let (stack_scope, stage, _) = elapsed(result);
        assert_eq!((stack_scope, stage), (scope, Stage::Running), "{case}");
        assert_eq!((time, record.calls()), (secs(took), calls), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_come_out_of_the_budget() {
    let config = config()
        .with_max_retries(9)
        .with_session_timeout(Duration::MAX)
        .with_backoff(Backoff::fixed(Duration::ZERO))
        .with_retry_budget(RetryBudget::new(
            RetryBudgetOptions::permille(0)
                .with_reserve(1)
                .with_ttl(secs(2)),
        ));
    let record = Record::default();
    let slow = || record.answers(secs(60)).oneshot(request());
    // Two retries are there at once, and by the time they are used up the ttl has passed.
    let config = config.with_request_timeout(millis(10));
    config.execute_with_retry(slow).await.unwrap_err();
    assert_eq!(record.calls(), 3);
    config.clone().execute_with_retry(slow).await.unwrap_err();
    assert_eq!(record.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_its_own_is_not_tried_again() {
    let mut calls = 0;
    let result = config()
        .with_max_retries(5)
        .execute_with_retry(|| {
            calls += 1;
            async { Err::<(), _>("no") }
        })
        .await;
    assert_eq!((result, calls), (Err(TimeoutError::Failed("no")), 1));
}

#[tokio::test(start_paused = true)]
async fn a_session_holds_over_many_requests() {
    let session = config().executor();
    for n in 0..2 {
        let request = session.execute_with_timeout(secs(4), pending::<()>());
        let (took, result) = timed(request).await;
        assert_eq!(took, secs(4), "{n}");
        assert!(matches!(result, Err(TimeoutError::Elapsed(_))));
    }
    let request = session.execute_with_timeout(secs(4), pending::<()>());
    let (took, result) = timed(request).await;
    assert_eq!(took, secs(2));
    assert!(matches!(result, Err(TimeoutError::Deadline(_))));
    assert_eq!(config().request_timeout(), Some(secs(4)));
    assert_eq!(config().session_timeout(), Some(secs(10)));
    assert_eq!(config().with_max_retries(2).max_retries(), 2);
}
