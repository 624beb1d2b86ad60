//! The contenders.

use std::{
    future::{Ready, ready},
    hint::black_box,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use layered::{Execute, Service as _, Stack};
use seatbelt::{RecoveryInfo, ResilienceContext, fallback, retry, timeout};
use tower::{BoxError, Service, ServiceBuilder, retry::Policy};
use tower_dspy::{
    CancelLayer, Deadline, DeadlineLayer, Error, FallbackLayer, RetryLayer, TimeoutLayer,
    TrackLayer, Tracker, WithContext,
};
use tower_resilience::{
    fallback::FallbackLayer as TheirFallback,
    retry::RetryLayer as TheirRetry,
    timelimiter::{TimeLimiterError, TimeLimiterLayer},
};

pub(crate) const EARLIER: Duration = Duration::from_secs(900);
const ATTEMPT: Duration = Duration::from_secs(1800);
const CALL: Duration = Duration::from_secs(3600);

pub(crate) type Request = WithContext<u64>;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Makes so many calls, one after the other.
    pub(crate) calls: Box<dyn FnMut(u64)>,
}

/// All stacks, around a service that is `pending` once or ready at once.
pub(crate) fn contenders(pending: bool) -> Vec<Contender> {
    vec![
        contender("bare", Inner::<Error>::new(pending)),
        contender(
            "tower",
            ServiceBuilder::new()
                .timeout(CALL)
                .concurrency_limit(64)
                .retry(Twice(2))
                .timeout(ATTEMPT)
                .service(Inner::<BoxError>::new(pending)),
        ),
        contender("tower_resilience", tower_resilience(pending)),
        contender("seatbelt", seatbelt(pending)),
        seatbelt_layered(pending),
        contender(
            "tower_dspy",
            ServiceBuilder::new()
                .layer(DeadlineLayer::new(CALL * 2))
                .layer(CancelLayer::new())
                .layer(FallbackLayer::value(7))
                .layer(RetryLayer::new(2))
                .layer(TimeoutLayer::new(ATTEMPT))
                .service(Inner::<Error>::new(pending)),
        ),
    ]
}

/// This crate's stack and that of tower-resilience, which has metrics and spans as well, around a
/// service that is ready at once.
pub(crate) fn observed() -> [Contender; 2] {
    let ours = ServiceBuilder::new()
        .layer(TrackLayer::new(Tracker::new()).with_label("bench"))
        .layer(DeadlineLayer::new(CALL * 2))
        .layer(CancelLayer::new())
        .layer(FallbackLayer::value(7))
        .layer(RetryLayer::new(2))
        .layer(TimeoutLayer::new(ATTEMPT))
        .service(Inner::<Error>::new(false));
    [
        contender("tower_dspy", ours),
        contender("tower_resilience", tower_resilience(false)),
    ]
}

fn request() -> Request {
    let mut request = WithContext::new(42);
    request.context.limit(Deadline::within(CALL));
    request
}

/// The work inside: the same for all.
struct Answer<E> {
    pending: bool,
    error: PhantomData<fn() -> E>,
}

impl<E> Answer<E> {
    #[inline]
    fn to(request: Request, pending: bool) -> Self {
        black_box(&request);
        Self {
            pending,
            error: PhantomData,
        }
    }
}

impl<E> Future for Answer<E> {
    type Output = Result<u64, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.pending) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(black_box(1)))
        }
    }
}

struct Inner<E> {
    pending: bool,
    error: PhantomData<fn() -> E>,
}

impl<E> Inner<E> {
    const fn new(pending: bool) -> Self {
        Self {
            pending,
            error: PhantomData,
        }
    }
}

impl<E> Clone for Inner<E> {
    fn clone(&self) -> Self {
        Self::new(self.pending)
    }
}

impl<E> Service<Request> for Inner<E> {
    type Response = u64;
    type Error = E;
    type Future = Answer<E>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Answer<E> {
        Answer::to(request, self.pending)
    }
}

/// Polls a future, where it is made, until it is done.
macro_rules! finish {
    ($future:expr, $cx:expr) => {
        let mut future = pin!($future);
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll($cx) {
                assert!(answer.is_ok());
                break;
            }
        }
    };
}

fn contender<S>(name: &'static str, mut service: S) -> Contender
where
    S: Service<Request, Response = u64> + 'static,
{
    let request = request();
    let calls = Box::new(move |n| {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..n {
            assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
            finish!(service.call(black_box(&request).clone()), cx);
        }
    });
    Contender { name, calls }
}

/// The policy that tower's documentation shows.
#[derive(Clone)]
struct Twice(u32);

impl<R: Clone, T, E> Policy<R, T, E> for Twice {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut R, result: &mut Result<T, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            return None;
        }
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &R) -> Option<R> {
        Some(request.clone())
    }
}

#[derive(Clone, Copy, Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

fn tower_resilience(pending: bool) -> impl Service<Request, Response = u64> {
    ServiceBuilder::new()
        .layer(TheirFallback::<Request, u64, TimeLimiterError<Failed>>::value(7))
        .layer(
            TheirRetry::<Request, u64, TimeLimiterError<Failed>>::builder()
                .max_attempts(3)
                .build(),
        )
        .layer(
            TimeLimiterLayer::builder()
                .timeout_duration(ATTEMPT)
                .build(),
        )
        .service(Inner::<Failed>::new(pending))
}

/// Its layers, as tower takes them and as its own `layered::Service`, which is no tower service.
macro_rules! seatbelt {
    ($context:expr) => {
        (
            fallback::Fallback::layer("fallback", $context)
                .should_fallback(|out: &Out| out.is_err())
                .fallback_output(Ok(7)),
            retry::Retry::layer("retry", $context)
                .clone_input()
                .max_retry_attempts(2)
                .recovery_with(|out: &Out, _| match out {
                    Ok(_) => RecoveryInfo::never(),
                    Err(_) => RecoveryInfo::retry(),
                }),
            timeout::Timeout::layer("timeout", $context)
                .timeout_error(|_| Failed)
                .timeout(ATTEMPT),
        )
    };
}

type Out = Result<u64, Failed>;

fn seatbelt(pending: bool) -> impl Service<Request, Response = u64> {
    let context = ResilienceContext::<Request, Out>::new(tick::Clock::new_tokio());
    let (fallback, retry, timeout) = seatbelt!(&context);
    ServiceBuilder::new()
        .layer(fallback)
        .layer(retry)
        .layer(timeout)
        .service(Inner::<Failed>::new(pending))
}

fn seatbelt_layered(pending: bool) -> Contender {
    let context = ResilienceContext::<Request, Out>::new(tick::Clock::new_tokio());
    let (fallback, retry, timeout) = seatbelt!(&context);
    let inner = Execute::new(move |request| Answer::<Failed>::to(request, pending));
    let service = (fallback, retry, timeout, inner).into_service();
    let request = request();
    let calls = Box::new(move |n| {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..n {
            finish!(service.execute(black_box(&request).clone()), cx);
        }
    });
    Contender {
        name: "seatbelt_layered",
        calls,
    }
}
