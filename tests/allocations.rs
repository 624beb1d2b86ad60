//! The allocations of a call through the layers. A call with a deadline and no token allocates
//! nothing if its service is ready at once; if it has to wait, one timer for each limit.

#[path = "../benches/support/counting.rs"]
mod counting;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use counting::allocations;
use tower::{Layer, Service, ServiceBuilder};
use tower_dspy::{
    CallContext, CancelLayer, Carrier, Cause, Deadline, DeadlineLayer, Error, FallbackLayer,
    HedgeLayer, PredictRequest, RetryLayer, Shutdown, StandardStack, TimeoutLayer, Tracker,
    WithContext, drop_scope,
};

const CALLS: u64 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// Answers at the poll after `pending` others.
#[derive(Clone, Copy)]
struct Answers {
    pending: u32,
}

impl<R> Service<R> for Answers {
    type Response = u32;
    type Error = Error;
    type Future = Self;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self {
        *self
    }
}

impl Future for Answers {
    type Output = Result<u32, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.pending.checked_sub(1) {
            Some(left) => {
                self.pending = left;
                Poll::Pending
            }
            None => Poll::Ready(Ok(42)),
        }
    }
}

fn call<R, S>(service: &mut S, request: R)
where
    S: Service<R, Response = u32, Error = Error>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(cx).is_ready());
    let mut future = pin!(service.call(request));
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(cx) {
            assert!(matches!(answer, Ok(42)));
            return;
        }
    }
}

fn allocations_of_calls<R, S>(mut service: S, request: &R) -> u64
where
    R: Clone,
    S: Service<R, Response = u32, Error = Error>,
{
    // The first call of a thread or a service may set something up.
    call(&mut service, request.clone());
    allocations(|| {
        for _ in 0..CALLS {
            call(&mut service, request.clone());
        }
    })
}

/// A timer for each limit that the work is within, once it is pending.
fn timers(pending: u32, limits: u64) -> u64 {
    if pending > 0 { limits * CALLS } else { 0 }
}

fn assert_only_timers<R: Carrier + Clone + Send + 'static>(mut request: R) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    request.context_mut().limit(Deadline::within(HOUR));

    for pending in [0, 1, 2] {
        macro_rules! stack {
            ($fallback:expr) => {
                ServiceBuilder::new()
                    .layer(DeadlineLayer::new(HOUR * 2))
                    .layer(CancelLayer::new())
                    .layer($fallback)
                    .layer(RetryLayer::new(2))
                    .layer(TimeoutLayer::new(HOUR / 2))
                    .service(Answers { pending })
            };
        }
        let with_value = stack!(FallbackLayer::value(7));
        let allocated = allocations_of_calls(with_value, &request);
        assert_eq!(allocated, timers(pending, 2), "{pending}");
        let with_closure = stack!(FallbackLayer::with(|error: Error, _: R| async {
            Err::<u32, _>(error)
        }));
        let allocated = allocations_of_calls(with_closure, &request);
        assert_eq!(allocated, timers(pending, 2), "{pending}");
        let with_reserve = stack!(FallbackLayer::value(7).with_reserve(HOUR / 4));
        let allocated = allocations_of_calls(with_reserve, &request);
        assert_eq!(allocated, timers(pending, 3), "{pending}");
    }
}

#[test]
fn a_prediction_request_allocates_only_timers() {
    assert_only_timers(PredictRequest::new(serde_json::json!({"question": "why?"})));
}

#[test]
fn a_request_beside_its_context_allocates_only_timers() {
    assert_only_timers(WithContext::new(()));
}

/// What a stack with the deadline in the request allocates for a call that is ready at once, and
/// for one that is pending once or twice.
fn of_a_call<L>(stack: L) -> [u64; 3]
where
    L: Layer<Answers>,
    L::Service: Service<WithContext<()>, Response = u32, Error = Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let mut request = WithContext::new(());
    request.context.limit(Deadline::within(HOUR));
    [0, 1, 2].map(|pending| {
        let allocated = allocations_of_calls(stack.layer(Answers { pending }), &request);
        assert_eq!(allocated % CALLS, 0, "not the same for all calls");
        allocated / CALLS
    })
}

#[test]
fn a_call_through_the_standard_stack_allocates_only_timers() {
    assert_eq!(of_a_call(StandardStack::new()), [0, 2, 2]);
    let stack = StandardStack::new().with_fallback(FallbackLayer::value(7));
    assert_eq!(of_a_call(stack), [0, 2, 2]);
}

/// A second attempt that may still come waits beside the first, in the same future. Both write into
/// one record, which is there before the first.
#[test]
fn a_call_that_may_get_a_second_attempt_costs_its_record() {
    let hedged = StandardStack::new().with_fallback(FallbackLayer::value(7));
    let hedged = hedged.with_hedge(HedgeLayer::after(Duration::from_secs(5)));
    assert_eq!(of_a_call(hedged), [1, 3, 3]);
}

/// A shutdown and a tracker can cancel each call by itself: that takes a node in the request, which
/// is two allocations, and a count of what waits of the call.
#[test]
fn a_call_with_a_cancellation_token_allocates_its_node_and_a_count_of_waits() {
    let stopped = StandardStack::new().with_shutdown(Shutdown::new());
    // Its cancellation is watched as well.
    assert_eq!(of_a_call(stopped), [3, 6, 6]);
    // And the record that the tracker shows, with its first attempt.
    let tracked = StandardStack::new().with_tracker(Tracker::new());
    assert_eq!(of_a_call(tracked), [5, 8, 8]);
}

/// What ends a call asks what it spent, and most spent nothing.
#[test]
fn an_elapsed_call_that_spent_nothing_allocates_nothing() {
    let end = || drop_scope::collect(Cause::Elapsed, || drop(CallContext::new()));
    assert!(end().is_none());
    let count = allocations(|| {
        for _ in 0..CALLS {
            assert!(end().is_none());
        }
    });
    assert_eq!(count, 0);
}

/// Without which the others would prove nothing.
#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(42)))), 1);
}
