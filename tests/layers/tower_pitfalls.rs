//! Pitfalls of stacks of tower layers, one test each: the behaviour of these layers and, where it
//! helps, the behaviour without them.

use std::{
    future::{pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::GlobalConcurrencyLimitLayer,
    load_shed::error::Overloaded,
    service_fn,
    timeout::{Timeout as TowerTimeout, error::Elapsed as TowerElapsed},
};
use tower_dspy::{
    AllotLayer, Backoff, CancelLayer, Cause, Classify, DeadlineLayer, ErrorKind, FallbackLayer,
    HedgeLayer, RetryLayer, Scope, Session, Shutdown, ShutdownLayer, Stage, Timeout, TimeoutLayer,
    TrackLayer, Tracker,
    testing::{
        OutsideWork,
        mock::{MockDspy, Reply},
    },
};

use super::{script, support::*};

/// Every layer calls the very service that it found ready.
#[tokio::test(start_paused = true)]
async fn readiness_does_not_survive_a_clone() {
    let all = ServiceBuilder::new()
        .layer(ShutdownLayer::new(Shutdown::new()))
        .layer(TrackLayer::new(Tracker::new()))
        .layer(DeadlineLayer::new(secs(30)))
        .layer(Session::within(secs(60)).layer())
        .layer(CancelLayer::new())
        .layer(FallbackLayer::value("fallback"))
        .layer(AllotLayer::even(1))
        .layer(RetryLayer::new(1).with_backoff(Backoff::fixed(millis(1))))
        .layer(HedgeLayer::after(millis(500)))
        .layer(TimeoutLayer::new(secs(2)));
    // It panics if a clone is called that was not ready itself, as tower's own limits do.
    let strict = all.clone().service(Strict::after(secs(1)));
    let limited = all
        .concurrency_limit(2)
        .service(Record::default().answers(secs(1)));
    for _ in 0..2 {
        assert_eq!(strict.clone().oneshot(request()).await.unwrap(), "answer");
        let (first, second) = tokio::join!(
            limited.clone().oneshot(request()),
            limited.clone().oneshot(request())
        );
        assert_eq!((first.unwrap(), second.unwrap()), ("answer", "answer"));
    }
}

/// An hour of waiting for readiness under a deadline of a second.
#[tokio::test(start_paused = true)]
async fn a_timeout_does_not_bound_readiness_and_a_deadline_does() {
    let towers = TowerTimeout::new(NeverReady, secs(1));
    let (took, answer) = timed(timeout(secs(3_600), towers.oneshot(request()))).await;
    assert!(answer.is_err());
    assert_eq!(took, secs(3_600));

    let ours = DeadlineLayer::new(secs(1)).layer(NeverReady);
    let (took, result) = timed(ours.oneshot(request())).await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Waiting, secs(1)));
}

#[tokio::test(start_paused = true)]
async fn the_work_is_dropped_before_its_error_is_returned() {
    let record = Record::default();
    let mut towers = TowerTimeout::new(record.answers(secs(9)), secs(1));
    let mut call = pin!(towers.ready().await.unwrap().call(request()));
    assert!(call.as_mut().await.unwrap_err().is::<TowerElapsed>());
    // Its future is alive, and so is what it holds.
    assert!(record.drops().is_empty());

    let mut ours = Timeout::new(record.answers(secs(9)), secs(1));
    let mut call = pin!(ours.ready().await.unwrap().call(request()));
    let result = call.as_mut().await;
    assert_eq!(record.drops(), [Cause::Elapsed]);
    elapsed(result);
    // Polled against the rules, it does not answer twice.
    assert_pending!(task::spawn(call).poll());
}

/// tokio makes a task yield now and then, and a buffer says it is not ready for it.
#[tokio::test(start_paused = true)]
async fn a_yield_is_not_an_overload() {
    const CALLS: usize = 10_000;
    let buffered = ServiceBuilder::new()
        .load_shed()
        .buffer(10 * CALLS)
        .service(service_fn(|_: Request| ready(Ok::<_, BoxError>(()))));
    let mut shed = 0;
    for _ in 0..CALLS {
        let mut service = buffered.clone();
        let call = service.ready().await.unwrap().call(request());
        // One task makes all calls and waits for none.
        let mut call = task::spawn(call);
        if let std::task::Poll::Ready(Err(error)) = call.poll() {
            shed += usize::from(error.is::<Overloaded>());
        }
    }
    assert!(shed > CALLS / 2, "{shed}");

    // What the program's service refuses is what it has no place for, and a deadline waits.
    let mock = MockDspy::from_fn(|_| Reply::answer("soon").after(secs(1)))
        .max_in_flight(10)
        .max_waiting(CALLS);
    let service = DeadlineLayer::new(secs(86_400)).layer(mock);
    let calls = futures_util::future::join_all(
        (0..CALLS).map(|_| service.clone().oneshot(script::request())),
    );
    for answer in calls.await {
        answer.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shed_call_steals_no_permit() {
    // tower's: what was shed is still in the queue of the semaphore, and gets the next permit.
    let semaphore = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(semaphore.clone());
    let towers = ServiceBuilder::new()
        .load_shed()
        .layer(limit)
        .service(service_fn(|_: Request| pending::<Result<(), BoxError>>()));
    let mut first = task::spawn(towers.clone().oneshot(request()));
    assert_pending!(first.poll());
    let mut shed = towers.clone();
    let error = shed.ready().await.unwrap().call(request()).await;
    assert!(error.unwrap_err().is::<Overloaded>());
    drop(first);
    assert_eq!(semaphore.available_permits(), 0);
    let error = towers.oneshot(request()).await;
    assert!(error.unwrap_err().is::<Overloaded>());
    drop(shed);

    let ours = MockDspy::from_fn(|_| Reply::hang())
        .max_in_flight(1)
        .max_waiting(0);
    let mut first = task::spawn(ours.clone().oneshot(script::request()));
    assert_pending!(first.poll());
    let mut shed = ours.clone();
    let error = shed.ready().await.unwrap().call(script::request()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Overloaded);
    drop(first);
    let mut next = task::spawn(ours.clone().oneshot(script::request()));
    assert_pending!(next.poll());
    assert_eq!(ours.in_flight(), 1);
    drop(shed);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_not_a_timeout_and_nothing_outlives_a_drop() {
    let broken = service_fn(|_: Request| async {
        tokio::task::yield_now().await;
        if true {
            panic!("the program broke");
        }
        Ok::<&str, BoxError>("answer")
    });
    let stack = || {
        ServiceBuilder::new()
            .layer(TrackLayer::new(Tracker::new()))
            .layer(DeadlineLayer::new(secs(1)).with_grace(secs(1)))
            .layer(CancelLayer::new())
            .layer(TimeoutLayer::new(secs(1)))
    };
    let call = tokio::spawn(stack().service(broken).oneshot(request()));
    let panic = call.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the program broke"));

    let record = Record::default();
    let mut call = task::spawn(stack().service(record.answers(secs(9))).oneshot(request()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
}

/// Work of a minute whose callers wait for a second: how many run at once under a limit of one.
async fn most_at_once<S>(limited: S, running: impl Fn() -> usize) -> usize
where
    S: Service<tower_dspy::PredictRequest, Error = BoxError> + Clone,
{
    let mut most = 0;
    for _ in 0..5 {
        drop(limited.clone().oneshot(script::request()).await);
        most = most.max(running());
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_permit_held_by_the_work_keeps_the_limit_and_towers_permit_does_not() {
    // Work on a thread of its own: nobody can stop it, and each call that times out leaves it.
    let running = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (count, stopped) = (running.clone(), stop.clone());
    let detached = service_fn(move |_: tower_dspy::PredictRequest| {
        let (count, stopped) = (count.clone(), stopped.clone());
        let (done, answer) = oneshot::channel::<()>();
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            count.fetch_sub(1, Ordering::SeqCst);
            drop(done);
        });
        async move { answer.await.map_err(BoxError::from) }
    });
    let towers = ServiceBuilder::new()
        .timeout(secs(1))
        .concurrency_limit(1)
        .service(detached);
    let most = most_at_once(towers, || running.load(Ordering::SeqCst)).await;
    stop.store(true, Ordering::SeqCst);
    assert_eq!(most, 5);

    // Here the permit goes with the work, so that the next call waits until it has ended.
    let mock = MockDspy::from_fn(|_| Reply::hang().lingers(secs(60))).max_in_flight(1);
    let ours = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(1)))
        .service(mock.clone())
        .map_err(BoxError::from);
    assert_eq!(most_at_once(ours, || mock.in_flight()).await, 1);
    assert_eq!(mock.calls().len(), 1);
}

/// The limit of an attempt counts from the call, as tower's, and is the instant that the work is
/// told; what is ready by the first poll is answered, however late that comes.
#[tokio::test(start_paused = true)]
async fn a_late_first_poll_loses_no_answer_that_is_ready() {
    let record = Record::default();
    let service = |delay| {
        let mut service = Timeout::new(record.answers(delay), secs(2));
        let call = service.call(request());
        task::spawn(call)
    };
    let start = Instant::now();
    let (mut ready, mut late) = (service(secs(0)), service(secs(9)));
    let told = record.context().deadline.unwrap().instant();
    assert_eq!(told, start + secs(2));
    advance(secs(60)).await;
    assert_eq!(assert_ready_ok!(ready.poll()), "answer");
    assert_eq!(
        elapsed(assert_ready!(late.poll())),
        (Scope::Attempt, Stage::Running, secs(2))
    );

    // And one that became ready between two polls.
    let mut between = service(secs(1));
    assert_pending!(between.poll());
    advance(secs(60)).await;
    assert_eq!(assert_ready_ok!(between.poll()), "answer");
}

/// As `tests/python` shows with Python itself.
#[tokio::test(start_paused = true)]
async fn paused_time_does_not_wait_for_a_thread() {
    let opened = Arc::new(AtomicBool::new(false));
    let open = opened.clone();
    // The thread answers once it is let: long after the runtime has nothing left to do.
    let service = service_fn(move |_: Request| {
        let (answer, answered) = oneshot::channel();
        let open = open.clone();
        std::thread::spawn(move || {
            while !open.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            answer.send("answer")
        });
        async move { answered.await.map_err(BoxError::from) }
    });
    let service = Timeout::new(service, secs(3_600));
    let start = Instant::now();
    elapsed(service.clone().oneshot(request()).await);
    assert_eq!(start.elapsed(), secs(3_600));

    let outside = OutsideWork::begin();
    let start = Instant::now();
    let mut call = task::spawn(service.clone().oneshot(request()));
    assert_pending!(call.poll());
    opened.store(true, Ordering::SeqCst);
    assert_eq!(call.await.unwrap(), "answer");
    assert_eq!(start.elapsed(), Duration::ZERO);

    // Time is held, not stopped: the test moves it.
    opened.store(false, Ordering::SeqCst);
    let call = tokio::spawn(service.oneshot(request()));
    tokio::task::yield_now().await;
    advance(secs(3_599)).await;
    assert!(!call.is_finished());
    advance(secs(1)).await;
    elapsed(call.await.unwrap());
    opened.store(true, Ordering::SeqCst);

    // And without the guard it moves by itself again.
    drop(outside);
    sleep(secs(86_400)).await;
}

/// What reads readiness belongs inside the deadline, which is always ready.
#[tokio::test(start_paused = true)]
async fn load_shed_sheds_inside_the_deadline_and_never_outside() {
    let deadline = || DeadlineLayer::new(secs(9));
    let inside = ServiceBuilder::new()
        .layer(deadline())
        .load_shed()
        .service(NeverReady);
    let (took, result) = timed(inside.oneshot(request())).await;
    assert_eq!(took, Duration::ZERO);
    assert!(result.unwrap_err().is::<Overloaded>());

    let outside = ServiceBuilder::new()
        .load_shed()
        .layer(deadline())
        .service(NeverReady);
    let (took, result) = timed(outside.oneshot(request())).await;
    assert_eq!(took, secs(9));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Waiting, secs(9)));
}
