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
    Backoff, CallContext, Cancel, Cancelled, Cause, Classify, Deadline, Elapsed, Error, ErrorKind,
    LmError, ProgramError, Retry, RetryBudget, RetryLayer, RetryPolicy, Scope, Stage, WithContext,
    layers::{CancelLayer, DeadlineLayer},
};

use crate::script::{Log, answer, busy, elapsed, request, too_slow};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Retries at once, so that only what a test is about takes time.
fn at_once(retries: u32) -> RetryLayer {
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
async fn an_id_given_outside_stays() {
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
    F: Fn() -> Error + Clone,
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
        || ProgramError::new("ValueError", "no", "").into(),
    ]
}

#[tokio::test(start_paused = true)]
async fn only_what_another_attempt_may_do_better_is_retried() {
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
async fn the_waits_are_those_of_the_backoff() {
    let log = Log::default();
    let start = Instant::now();
    RetryLayer::new(4)
        .with_backoff(Backoff::exponential(ms(100), ms(500)).without_jitter())
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("each attempt fails");
    let at: Vec<_> = log.calls().iter().map(|(at, _)| *at - start).collect();
    assert_eq!(at, [ms(0), ms(100), ms(300), ms(700), ms(1200)]);
}

#[test]
fn backoff_formulas_are_exact_and_never_overflow() {
    let waits = |backoff: Backoff, n: &[u32]| -> Vec<_> {
        n.iter()
            .map(|n| backoff.without_jitter().wait(*n))
            .collect()
    };
    let max = u32::MAX;
    let fixed = Backoff::fixed(ms(7));
    assert_eq!(waits(fixed, &[0, 1, max]), [ms(7); 3]);

    let linear = Backoff::linear(ms(100), ms(350));
    let expected = [ms(100), ms(200), ms(300), ms(350), ms(350)];
    assert_eq!(waits(linear, &[0, 1, 2, 3, max]), expected);
    let endless = Backoff::linear(Duration::MAX, Duration::MAX);
    assert_eq!(waits(endless, &[0, max]), [Duration::MAX; 2]);

    let growing = Backoff::exponential(ms(100), Duration::from_secs(10));
    assert_eq!(growing, Backoff::default());
    let expected = [100, 200, 400, 6_400, 10_000, 10_000, 10_000, 10_000].map(ms);
    assert_eq!(waits(growing, &[0, 1, 2, 6, 7, 64, 128, max]), expected);
    // 2^62 ns, past what a u32 factor reaches; and the cap where even 128 bits end.
    let finest = Backoff::exponential(Duration::from_nanos(1), Duration::MAX);
    assert_eq!(waits(finest, &[62]), [Duration::from_nanos(1 << 62)]);
    assert_eq!(waits(finest, &[127, 128, max]), [Duration::MAX; 3]);
    let endless = Backoff::exponential(Duration::MAX, Duration::MAX);
    assert_eq!(waits(endless, &[0, 1, max]), [Duration::MAX; 3]);
    let none = Backoff::exponential(Duration::ZERO, Duration::MAX);
    assert_eq!(waits(none, &[0, 1, 127, 128, max]), [Duration::ZERO; 5]);
    let capped = Backoff::exponential(ms(500), ms(100));
    assert_eq!(waits(capped, &[0, 1]), [ms(100); 2]);
}

#[test]
fn full_jitter_is_uniform_between_zero_and_the_formula() {
    let exact = Backoff::exponential(ms(100), ms(1000)).without_jitter();
    for n in [0, 2, 9] {
        let most = exact.wait(n);
        let waits: Vec<_> = (0..4000_u64)
            .map(|seed| exact.full_jitter().with_seed(seed << 32).wait(n))
            .collect();
        assert!(waits.iter().all(|wait| *wait <= most));
        let mean = waits.iter().sum::<Duration>() / 4000;
        // Five standard errors of a uniform mean: 5 / sqrt(12 * 4000) = 2.3 %.
        assert!(
            mean > most.mul_f64(0.477) && mean < most.mul_f64(0.523),
            "{mean:?}"
        );
        let low = waits.iter().filter(|wait| **wait < most / 10).count();
        assert!(
            (300..=500).contains(&low),
            "{low} of 4000 in the lowest tenth"
        );
    }
    assert!(Backoff::fixed(Duration::MAX).full_jitter().wait(0) < Duration::MAX);
    assert_eq!(
        Backoff::fixed(Duration::ZERO).full_jitter().wait(3),
        Duration::ZERO
    );
}

#[test]
fn a_seed_repeats_and_its_absence_does_not() {
    let seeded = Backoff::default().with_seed(7);
    let draw = |backoff: Backoff| -> Vec<_> { (0..8).map(|n| backoff.wait(n)).collect() };
    assert_eq!(draw(seeded), draw(seeded));
    assert_ne!(draw(seeded), draw(Backoff::default().with_seed(8)));
    assert_ne!(draw(Backoff::default()), draw(Backoff::default()));
}

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
async fn an_attempt_needs_more_than_its_minimum() {
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
async fn a_cancelled_call_is_not_tried_again() {
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
async fn a_cancel_between_two_attempts_ends_the_call_at_once() {
    let slow = || RetryLayer::new(3).with_backoff(Backoff::fixed(ms(30_000)));
    let budget = RetryBudget::permille(0).with_reserve(1);
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
async fn a_service_that_is_ready_too_late_is_not_called() {
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
async fn any_error_type_will_do() {
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
async fn the_policy_serves_towers_own_layer() {
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
    let _: RetryLayer = Retry::<()>::layer(1);
}
