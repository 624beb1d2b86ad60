use std::{
    future::{Future, pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Backoff, CallContext, Cancel, Cancelled, Cause, Classify, Elapsed, Error, ErrorKind, LmError,
    ProgramError, Retry, RetryBudget, RetryLayer, RetryPolicy, Scope, Stage, WithContext,
    testing::error_of,
};

use crate::{
    script::{Log, answer, busy, elapsed, request, too_slow},
    support::millis as ms,
};

/// Retries at once, so that only what a test is about takes time.
pub(crate) fn at_once(retries: u32) -> RetryLayer {
    RetryLayer::new(retries).with_backoff(Backoff::fixed(Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn retries_are_counted_and_the_last_attempt_is_followed_by_no_wait() {
    for retries in 0..4 {
        let log = Log::default();
        let start = Instant::now();
        let error = RetryLayer::new(retries)
            .with_backoff(Backoff::fixed(ms(100)))
            .layer(log.service(|_| ready(Err(too_slow()))))
            .oneshot(request())
            .await
            .expect_err("each attempt fails");
        assert_eq!(error.kind(), ErrorKind::Elapsed);
        assert_eq!(log.len(), retries as usize + 1);
        assert_eq!(start.elapsed(), ms(100) * retries);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_share_an_id_and_are_numbered() {
    let log = Log::default();
    let service = log.service(|n| {
        ready(match n % 3 {
            2 => Ok(answer("blue")),
            1 => Err(busy(None)),
            _ => Err(too_slow()),
        })
    });
    let mut service = at_once(5).layer(service);
    for _ in 0..2 {
        service.ready().await.expect("ready");
        service.call(request()).await.expect("the third attempt");
    }
    let calls = log.calls();
    let attempts: Vec<_> = calls.iter().map(|(_, context)| context.attempt).collect();
    assert_eq!(attempts, [0, 1, 2, 0, 1, 2]);
    let ids: Vec<_> = calls.iter().map(|(_, context)| context.call_id).collect();
    assert!(ids[0].is_some() && ids[3].is_some() && ids[0] != ids[3]);
    assert_eq!(ids, [ids[0], ids[0], ids[0], ids[3], ids[3], ids[3]]);
}

#[tokio::test(start_paused = true)]
async fn an_id_set_by_the_caller_is_kept() {
    let log = Log::default();
    let mut context = CallContext::new();
    let id = context.id();
    at_once(1)
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request().with_context(context))
        .await
        .expect_err("each attempt fails");
    assert!(log.calls().iter().all(|(_, c)| c.call_id == Some(id)));
}

/// The kinds of which one attempt was retried, by `layer`.
async fn retried<F>(layer: impl Fn() -> RetryLayer, errors: Vec<F>) -> Vec<ErrorKind>
where
    F: Fn() -> Error + Clone + Send + 'static,
{
    let mut retried = Vec::new();
    for error in errors {
        let log = Log::default();
        let fails = error.clone();
        let result = layer()
            .layer(log.service(move |_| ready(Err(fails()))))
            .oneshot(request())
            .await;
        assert_eq!(result.expect_err("fails").kind(), error().kind());
        if log.len() == 2 {
            retried.push(error().kind());
        }
    }
    retried
}

fn one_of_each() -> Vec<fn() -> Error> {
    vec![
        too_slow,
        || elapsed(Scope::Reserve),
        || elapsed(Scope::Deadline),
        || Cancelled::new(Cause::Caller).into(),
        || Cancelled::new(Cause::Shutdown).into(),
        || busy(None),
        || LmError::new("LMAuthError", "who are you", Some(401), None).into(),
        || error_of(ErrorKind::BudgetExceeded).expect("an error"),
        || ProgramError::new("ValueError", "no", "").into(),
    ]
}

#[tokio::test(start_paused = true)]
async fn only_retryable_errors_are_retried() {
    assert_eq!(
        retried(|| at_once(1), one_of_each()).await,
        [
            ErrorKind::Elapsed,
            ErrorKind::Elapsed,
            ErrorKind::LmUnavailable
        ]
    );
    // The user's list wins, except where a retry is of no use to anybody.
    let layer = || {
        at_once(1).on_kinds([
            ErrorKind::Deadline,
            ErrorKind::Cancelled,
            ErrorKind::ShuttingDown,
            ErrorKind::BudgetExceeded,
            ErrorKind::Program,
            ErrorKind::LmRejected,
        ])
    };
    assert_eq!(
        retried(layer, one_of_each()).await,
        [ErrorKind::LmRejected, ErrorKind::Program]
    );
}

#[tokio::test(start_paused = true)]
async fn each_attempt_waits_for_the_service_and_takes_its_permit() {
    // A limit of one: a retry that called a clone without asking it would panic here.
    let log = Log::default();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(ms(10))))
        .concurrency_limit(1)
        .service(log.service(|_| async {
            sleep(ms(20)).await;
            Err(too_slow())
        }));
    let calls = [service.clone(), service.clone(), service].map(|s| s.oneshot(request()));
    let start = Instant::now();
    let [a, b, c] = calls;
    let (a, b, c) = tokio::join!(a, b, c);
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert_eq!(log.len(), 9);
    // Nine attempts, one after the other.
    assert!(start.elapsed() >= ms(180));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_cloned_for_each_attempt_but_the_last() {
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }
    for retries in 0..3 {
        let clones = Arc::new(AtomicUsize::new(0));
        let service = service_fn(|_: WithContext<Counted>| ready(Err::<(), _>(too_slow())));
        at_once(retries)
            .layer(service)
            .oneshot(WithContext::new(Counted(Arc::clone(&clones))))
            .await
            .expect_err("each attempt fails");
        assert_eq!(clones.load(Ordering::Relaxed), retries as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_error_type_can_be_retried() {
    #[derive(Debug, PartialEq)]
    struct Foreign(&'static str);

    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let service = service_fn(move |_: http::Request<()>| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err::<(), _>(Foreign("slow")))
    });
    let result = at_once(2)
        .classify(|error: &Foreign| match error.0 {
            "slow" => ErrorKind::Elapsed,
            _ => ErrorKind::Other,
        })
        .layer(service)
        .oneshot(http::Request::new(()))
        .await;
    assert_eq!(result, Err(Foreign("slow")));
    assert_eq!(calls.swap(0, Ordering::Relaxed), 3);

    // tower's own timeout below, and its BoxError.
    let count = Arc::clone(&calls);
    let service = ServiceBuilder::new()
        .layer(at_once(2))
        .timeout(ms(10))
        .service(service_fn(move |_: http::Request<()>| {
            count.fetch_add(1, Ordering::Relaxed);
            pending::<Result<(), BoxError>>()
        }));
    let error = service.oneshot(http::Request::new(())).await;
    assert!(
        error
            .expect_err("stuck")
            .is::<tower::timeout::error::Elapsed>()
    );
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn the_policy_works_in_towers_retry_layer() {
    let log = Log::default();
    tower::retry::RetryLayer::new(at_once(2).into_policy())
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("each attempt fails");
    assert_eq!(log.len(), 3);

    // What tower's future does not look at, the policy does.
    let cancel = Cancel::new();
    cancel.cancel(Cause::Caller);
    tower::retry::RetryLayer::new(at_once(2).into_policy())
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request().with_cancel(cancel))
        .await
        .expect_err("the attempt fails");
    assert_eq!(log.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_attempt() {
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let service = at_once(1).layer(service_fn(move |_: WithContext<()>| {
        count.fetch_add(1, Ordering::Relaxed);
        let work = Running(Arc::clone(&count));
        async move {
            let _work = work;
            pending::<Result<(), Error>>().await
        }
    }));
    let call = tokio::time::timeout(ms(5), service.oneshot(WithContext::new(())));
    assert!(call.await.is_err());
    assert_eq!(running.load(Ordering::Relaxed), 0);
}

#[test]
fn layers_and_services_are_shared_between_threads() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Future + Send>(_: &T) {}
    #[derive(Clone, Debug)]
    struct Inner;
    impl Service<WithContext<()>> for Inner {
        type Response = ();
        type Error = Elapsed;
        type Future = std::future::Ready<Result<(), Elapsed>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Elapsed>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: WithContext<()>) -> Self::Future {
            ready(Err(Elapsed::new(Scope::Attempt, Stage::Running, ms(1))))
        }
    }
    let layer = RetryLayer::new(1);
    shared(&layer);
    shared(&layer.clone().classify(|_: &Elapsed| ErrorKind::Other));
    shared::<RetryPolicy>(&layer.clone().into_policy());
    shared(&RetryBudget::unlimited());
    let mut service: Retry<Inner> = layer.layer(Inner);
    shared(&service);
    sent(&service.call(WithContext::new(())));
    let _: (&Inner, &mut Inner) = (&service.get_ref().clone(), service.get_mut());
    let _: Inner = service.into_inner();
}
