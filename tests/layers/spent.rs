//! The tokens that ended work had spent, on the error of the layer that ends it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::time::sleep;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{AllotLayer, Cancel};
use tower_dspy::{
    Backoff, CancelLayer, Carrier, Cause, DeadlineLayer, Error, FallbackLayer, HedgeLayer, LmError,
    ProgramError, RetryLayer, Shutdown, ShutdownLayer, Spent, TimeoutLayer, drop_scope,
    patterns::{TimeoutError, timeout},
};

use super::support::{Mocked, Request, due, request, secs};

/// Reports one step when it is dropped, for each service one more.
struct Spends(Option<u32>);

impl Drop for Spends {
    fn drop(&mut self) {
        if let Some(steps) = self.0 {
            let mut spent = Spent::default();
            spent.steps = steps;
            drop_scope::report(Arc::new(spent));
        }
    }
}

/// Each attempt spends `steps` and never answers. It has its request until then, as services do.
fn spends(steps: u32) -> Mocked {
    Mocked::new(tower::service_fn(move |request: Request| {
        let work = (request, Spends(Some(steps)));
        async move {
            sleep(secs(1000)).await;
            drop(work);
            Ok::<_, BoxError>("never")
        }
    }))
}

async fn steps<S>(service: S, request: Request) -> Option<u32>
where
    S: Service<Request, Response = &'static str, Error = BoxError>,
{
    let error = service
        .oneshot(request)
        .await
        .expect_err("it never answers");
    Spent::of(&*error).map(|spent| spent.steps)
}

#[tokio::test(start_paused = true)]
async fn each_layer_that_ends_the_call_reports_the_spent_tokens() {
    let timeout = TimeoutLayer::new(secs(1)).layer_of(spends(1));
    assert_eq!(steps(timeout, request()).await, Some(1));
    let deadline = DeadlineLayer::new(secs(1)).layer_of(spends(2));
    assert_eq!(steps(deadline, request()).await, Some(2));
    let inner = ServiceBuilder::new()
        .layer(AllotLayer::fraction(0.5).unwrap())
        .service(spends(3));
    assert_eq!(steps(inner, due(secs(4))).await, Some(3));

    let cancel = Cancel::new();
    let watching = CancelLayer::new().layer_of(spends(4));
    let mut cancelled = request();
    cancelled.context_mut().cancel = cancel.clone();
    let cancelling = async {
        sleep(secs(1)).await;
        cancel.cancel(Cause::Caller)
    };
    let (told, _) = tokio::join!(steps(watching, cancelled), cancelling);
    assert_eq!(told, Some(4));

    let shutdown = Shutdown::new();
    let stopping = ShutdownLayer::new(shutdown.clone()).layer_of(spends(5));
    let drain = async {
        sleep(secs(1)).await;
        shutdown.run(secs(1), secs(1)).await
    };
    let (told, _) = tokio::join!(steps(stopping, request()), drain);
    assert_eq!(told, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_plain_future_reports_its_spent_tokens() {
    let work = Spends(Some(1));
    let result = timeout(secs(1), async {
        sleep(secs(9)).await;
        drop(work);
        Ok::<_, BoxError>(())
    })
    .await;
    let error: TimeoutError<BoxError> = result.unwrap_err();
    assert_eq!(error.spent().map(|spent| spent.steps), Some(1));
}

#[tokio::test(start_paused = true)]
async fn work_that_spent_nothing_reports_nothing() {
    let pending = tower::service_fn(|_: Request| async {
        sleep(secs(1000)).await;
        Ok::<_, BoxError>("never")
    });
    let service = TimeoutLayer::new(secs(1)).layer_of(Mocked::new(pending));
    assert_eq!(steps(service, request()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_retry_adds_its_attempts_up_however_the_call_ends() {
    let retry = || RetryLayer::new(9).with_backoff(Backoff::fixed(secs(2)));
    let stack = |retry| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(secs(100)))
            .layer(retry)
            .layer(TimeoutLayer::new(secs(1)))
            .service(spends(1))
    };
    // In the third attempt, between the third and the fourth, and by the last attempt's own limit.
    assert_eq!(steps(stack(retry()), due(millis_of(6.5))).await, Some(3));
    assert_eq!(steps(stack(retry()), due(secs(8))).await, Some(3));
    let few = RetryLayer::new(2).with_backoff(Backoff::fixed(secs(2)));
    assert_eq!(steps(stack(few), request()).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_retry_counts_each_attempt_once() {
    let none = || Backoff::fixed(secs(0));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(millis_of(5.5)))
        .layer(RetryLayer::new(9).with_backoff(none()))
        .layer(RetryLayer::new(1).with_backoff(none()))
        .layer(TimeoutLayer::new(secs(1)))
        .service(spends(1));
    assert_eq!(steps(stack, request()).await, Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_adds_to_the_spent_tokens_of_the_first_service() {
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(FallbackLayer::service(spends(10)))
        .layer(TimeoutLayer::new(secs(1)))
        .service(spends(1));
    assert_eq!(steps(stack, request()).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn two_concurrent_attempts_are_added_up() {
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(HedgeLayer::after(secs(1)))
        .service(spends(1));
    assert_eq!(steps(stack, request()).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_failed_one_of_two_attempts_counts_too() {
    // The first fails when the second has been sent; the second never answers.
    let first = tower::service_fn(|request: Request| {
        let attempt = request.context.attempt;
        let work = (request, Spends((attempt > 0).then_some(1)));
        async move {
            sleep(secs(if attempt == 0 { 2 } else { 1000 })).await;
            drop(work);
            let mut spent = Spent::default();
            spent.steps = 10;
            let failed = ProgramError::new("ValueError", "no", "").with_spent(Arc::new(spent));
            Err::<&str, BoxError>(Error::from(failed).into())
        }
    });
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(HedgeLayer::after(secs(1)))
        .service(Mocked::new(first));
    assert_eq!(steps(stack, request()).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_of_two_failed_attempts_reports_both() {
    for (first, second) in [(2, 3), (4, 1)] {
        let fails = tower::service_fn(move |request: Request| async move {
            let attempt = request.context.attempt;
            sleep(secs(if attempt == 0 { first } else { second })).await;
            let mut spent = Spent::default();
            spent.steps = if attempt == 0 { 1 } else { 10 };
            let failed = ProgramError::new("ValueError", "no", "").with_spent(Arc::new(spent));
            Err::<&str, BoxError>(Error::from(failed).into())
        });
        let hedge = HedgeLayer::after(secs(1)).layer_of(Mocked::new(fails));
        assert_eq!(steps(hedge, request()).await, Some(11));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ended_by_a_permanent_failure_of_the_other_counts_too() {
    let fails = tower::service_fn(move |request: Request| {
        let attempt = request.context.attempt;
        let work = (request, Spends((attempt > 0).then_some(10)));
        async move {
            sleep(secs(if attempt == 0 { 2 } else { 1000 })).await;
            drop(work);
            let mut spent = Spent::default();
            spent.steps = 1;
            let refused = LmError::new("LMAuthError", "no", Some(401), None);
            Err::<&str, BoxError>(refused.with_spent(Arc::new(spent)).into())
        }
    });
    let hedge = HedgeLayer::after(secs(1)).layer_of(Mocked::new(fails));
    assert_eq!(steps(hedge, request()).await, Some(11));
}

#[tokio::test(start_paused = true)]
async fn work_signalled_to_stop_reports_its_spent_tokens_when_its_grace_ends() {
    let ended = Arc::new(AtomicU32::new(0));
    let count = ended.clone();
    let tidies = tower::service_fn(move |request: Request| {
        let (work, count) = (Spends(Some(1)), count.clone());
        let signal = request.context.cancel.cancelled_owned();
        async move {
            if let Some(signal) = signal {
                signal.await;
            }
            count.fetch_add(1, Ordering::Relaxed);
            sleep(secs(1000)).await;
            drop(work);
            Ok::<_, BoxError>("never")
        }
    });
    let service = TimeoutLayer::new(secs(1))
        .with_grace(secs(2))
        .layer_of(Mocked::new(tidies));
    assert_eq!(steps(service, request()).await, Some(1));
    assert_eq!(ended.load(Ordering::Relaxed), 1);
}

const fn millis_of(seconds: f64) -> std::time::Duration {
    std::time::Duration::from_millis((seconds * 1000.0) as u64)
}

trait LayerOf<S>: tower::Layer<S> + Sized {
    fn layer_of(self, service: S) -> Self::Service {
        self.layer(service)
    }
}

impl<S, L: tower::Layer<S>> LayerOf<S> for L {}
