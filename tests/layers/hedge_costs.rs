//! The costs of a second attempt: the budget, readiness, and the latencies recorded from first
//! attempts.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, advance, sleep, sleep_until};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};
use tower_dspy::{
    Cancel, Cause, DeadlineLayer, Error, HedgeLayer, Latency, Percentile, RetryBudget, Stage,
    layers::RetryBudgetOptions,
};

use super::{
    attempts::{Attempts, after, takes},
    support::{Request, Strict, due, millis, request, secs, timed},
};

#[tokio::test(start_paused = true)]
async fn without_a_budget_there_is_no_second_attempt() {
    let log = Attempts::new();
    let none = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(0));
    let service = after(1_000)
        .with_budget(none)
        .layer(log.play(takes(3_000, 0)));
    assert_eq!(service.oneshot(request()).await.unwrap(), "first");
    assert_eq!(log.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_slow_calls_send_a_tenth_more_attempts_and_the_reserve() {
    let log = Attempts::new();
    let service = after(10).layer(log.play(takes(60, 60)));
    let calls: Vec<_> = (0..10_000)
        .map(|_| tokio::spawn(service.clone().oneshot(request())))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // 10 % of the calls, and 1 a second for the 10 s that a budget looks back.
    assert_eq!(log.sent().len(), 10_000 + 1_000 + 10);
}

#[tokio::test(start_paused = true)]
async fn sequential_calls_stay_within_the_budget_too() {
    let log = Attempts::new();
    let service = after(10).layer(log.play(takes(60, 60)));
    let (took, ()) = timed(async {
        for _ in 0..10_000 {
            service.clone().oneshot(request()).await.unwrap();
        }
    })
    .await;
    let seconds = usize::try_from(took.as_secs()).unwrap();
    let extra = log.sent().len() - 10_000;
    assert!((900..=1_000 + seconds + 10).contains(&extra), "{extra}");
}

#[tokio::test(start_paused = true)]
async fn an_unsent_attempt_is_returned_to_the_budget() {
    let log = Attempts::new();
    let budget = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(1));
    // The only permit is the first attempt's.
    let limited = ConcurrencyLimit::new(log.play(takes(3_000, 0)), 1);
    let service = after(1_000).with_budget(budget.clone()).layer(limited);
    let mut call = task::spawn(service.clone().oneshot(request()));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    assert_pending!(call.poll());
    // Set aside, while it waits.
    assert_eq!(budget.available(), 9);
    advance(secs(2)).await;
    assert_eq!(assert_ready!(call.poll()).unwrap(), "first");
    assert_eq!((budget.available(), log.sent().len()), (10, 1));

    let free = after(1_000).with_budget(budget.clone());
    free.layer(log.play(takes(3_000, 0)))
        .oneshot(request())
        .await
        .unwrap();
    assert_eq!(budget.available(), 9);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_calls_a_clone_that_became_ready_itself() {
    let layer = after(1_000);
    let mut service = layer.layer(Strict::after(secs(3)));
    service.get_mut().ready().await.unwrap();
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!((took, result.unwrap()), (secs(3), "answer"));
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_that_never_gets_ready_does_no_harm() {
    let log = Attempts::new();
    let limited = ConcurrencyLimit::new(log.play(takes(60_000, 0)), 1);
    let (took, result) = timed(after(1_000).layer(limited).oneshot(request())).await;
    assert_eq!((took, result.unwrap()), (secs(60), "first"));
    assert_eq!(log.dropped(), []);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_attempt_holds_no_permit() {
    let log = Attempts::new();
    let limited = ConcurrencyLimit::new(log.play(takes(9_000, 0)), 2);
    let hedged = after(5_000).layer(limited.clone());

    // Services that are ready, and idle.
    let mut idle = [hedged.clone(), hedged.clone(), hedged.clone()];
    for service in &mut idle {
        service.ready().await.unwrap();
    }
    // Calls whose second attempt is not due yet.
    let mut calls = [(); 2].map(|()| task::spawn(hedged.clone().oneshot(request())));
    assert_pending!(calls[0].poll());
    // Of two permits one is taken.
    let mut other = limited.clone();
    assert_ready!(task::spawn(other.ready()).poll()).unwrap();
    drop(other);
    assert_pending!(calls[1].poll());
    assert_eq!(log.sent().len(), 2);
    let mut other = limited;
    assert!(task::spawn(other.ready()).poll().is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_waits_for_readiness_and_is_then_sent() {
    let log = Attempts::new();
    let limited = ConcurrencyLimit::new(log.play(takes(9_000, 500)), 2);
    let mut blocker = limited.clone();
    let blocks = blocker.ready().await.unwrap().call(request());
    let service = after(1_000).layer(limited.clone());
    let blocks = tokio::time::timeout(secs(3), blocks);
    let (_, (took, result)) = tokio::join!(blocks, timed(service.oneshot(request())));
    // Its turn comes when the blocker is gone.
    assert_eq!((took, result.unwrap()), (millis(3_500), "second"));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_second_attempt_is_not_sent_after_a_cancel_or_too_late() {
    for (cancels, deadline, attempts) in [(false, 60, 2), (true, 60, 1), (false, 4, 1)] {
        let log = Attempts::new();
        let limited = ConcurrencyLimit::new(log.play(takes(9_000, 500)), 2);
        let mut blocker = limited.clone();
        let blocks = blocker.ready().await.unwrap().call(request());
        let layer = after(1_000).with_min_attempt(millis(1_500));
        let mut request = due(secs(deadline));
        let cancel = Cancel::new();
        request.context.cancel = cancel.clone();
        let stops = async {
            drop(tokio::time::timeout(secs(2), std::future::pending::<()>()).await);
            if cancels {
                cancel.cancel(Cause::Caller);
            }
            sleep(secs(1)).await;
            drop(blocks);
        };
        let ((), result) = tokio::join!(stops, layer.layer(limited.clone()).oneshot(request));
        result.unwrap();
        // The blocker is the first that was sent.
        assert_eq!(log.sent().len(), 1 + attempts, "{cancels} {deadline}");
    }
}

/// Ready from an instant on, and broken after another.
struct Opens<S> {
    inner: S,
    timer: Pin<Box<Sleep>>,
    breaks: Option<Instant>,
}

impl<S> Opens<S> {
    fn at(at: Instant, inner: S) -> Self {
        Self {
            inner,
            timer: Box::pin(sleep_until(at)),
            breaks: None,
        }
    }
}

impl<S: Clone> Clone for Opens<S> {
    fn clone(&self) -> Self {
        Self {
            breaks: self.breaks,
            ..Self::at(self.timer.deadline(), self.inner.clone())
        }
    }
}

impl<S: Service<Request, Error = Error>> Service<Request> for Opens<S> {
    type Response = S::Response;
    type Error = Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.breaks.is_some_and(|at| Instant::now() > at) {
            return Poll::Ready(Err(super::script::busy(None)));
        }
        ready!(self.timer.as_mut().poll(cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        self.inner.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_from_the_acceptance_of_the_first_attempt() {
    let log = Attempts::new();
    let opens = Opens::at(Instant::now() + secs(5), log.play(takes(9_000, 0)));
    let latency = Latency::default().with_min_samples(1);
    let layer = after(1_000).with_latency(latency.clone());
    let (took, result) = timed(layer.layer(opens).oneshot(request())).await;
    assert_eq!((took, result.unwrap()), (secs(6), "second"));
    assert_eq!(log.sent(), [(secs(5), 0), (secs(6), 1)]);
    // And so does what is learnt.
    let longest = latency.percentile(Percentile::new(1.0).unwrap()).unwrap();
    assert!(longest >= secs(1) && longest < secs(2), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_of_the_second_attempt_leaves_the_first_alone() {
    let log = Attempts::new();
    let mut opens = Opens::at(Instant::now(), log.play(takes(9_000, 0)));
    opens.breaks = Some(Instant::now());
    let budget = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(1));
    let layer = after(1_000).with_budget(budget.clone());
    let service = layer.layer(opens);
    assert_eq!(service.clone().oneshot(request()).await.unwrap(), "first");
    assert_eq!(budget.available(), 10);
    // The first attempt's service is the call's.
    service.oneshot(request()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_stage_is_waiting_only_until_either_attempt_is_accepted() {
    let log = Attempts::new();
    let limited = ConcurrencyLimit::new(log.play(takes(60_000, 60_000)), 1);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .layer(after(1_000))
        .service(limited.clone());
    let stage = async || match service.clone().oneshot(request()).await {
        Err(Error::Elapsed(elapsed)) => elapsed.stage(),
        other => panic!("{other:?}"),
    };
    // The first attempt has the only permit, the second waits for it.
    assert_eq!(stage().await, Stage::Running);
    let mut other = limited;
    let _permit = other.ready().await.unwrap();
    assert_eq!(stage().await, Stage::Waiting);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_exhausts_the_coop_budget_is_hedged_on_time() {
    let greedy = tower::service_fn(|request: Request| async move {
        if request.context.attempt > 0 {
            return Ok("second");
        }
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        loop {
            send.send(()).unwrap();
            receive.recv().await.unwrap();
            if receive.is_closed() {
                return Ok::<_, Error>("first");
            }
        }
    });
    let call = tokio::spawn(after(1_000).layer(greedy).oneshot(request()));
    tokio::task::yield_now().await;
    advance(millis(999)).await;
    assert!(!call.is_finished());
    advance(millis(1)).await;
    assert_eq!(call.await.unwrap().unwrap(), "second");
}

/// One that has seen calls take this long.
fn learnt(takes: Duration) -> Latency {
    let latency = Latency::new(secs(86_400));
    for _ in 0..100 {
        latency.record(takes);
    }
    latency
}

/// A timer's milliseconds, of which none is early.
fn rounded_up(duration: Duration) -> Duration {
    millis(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_second_attempt_is_sent_at_the_recorded_percentile() {
    let latency = learnt(secs(1));
    for n in 1..=900 {
        latency.record(millis(n));
    }
    for share in [0.5, 0.95, 0.99] {
        let percentile = Percentile::new(share).unwrap();
        let learnt = latency.percentile(percentile).unwrap();
        let log = Attempts::new();
        let layer = HedgeLayer::percentile(percentile).with_latency(latency.clone());
        let service = layer.layer(log.play(takes(60_000, 0)));
        service.oneshot(request()).await.unwrap();
        assert_eq!(log.sent()[1], (rounded_up(learnt), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn first_attempts_that_answer_are_recorded_and_hedging_begins_with_enough_samples() {
    let log = Attempts::new();
    let layer = HedgeLayer::percentile(Percentile::P95).with_latency(Latency::new(secs(86_400)));
    let quick = layer.layer(log.play(takes(1_000, 0)));
    let stuck = layer.layer(log.play(takes(60_000, 0)));
    let latency = layer.latency().unwrap();
    assert_eq!(stuck.clone().oneshot(request()).await.unwrap(), "first");
    for _ in 0..18 {
        quick.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!((latency.samples(), log.sent().len()), (19, 19));
    assert_eq!(stuck.clone().oneshot(request()).await.unwrap(), "first");
    assert_eq!(latency.samples(), 20);
    // 2 of 20 took 60 s, so the 90 % are quick.
    let p90 = HedgeLayer::percentile(Percentile::P90).with_latency(latency.clone());
    let (took, result) = timed(p90.layer(log.play(takes(60_000, 0))).oneshot(request())).await;
    assert_eq!(result.unwrap(), "second");
    assert!(took >= secs(1) && took <= millis(1_010), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_recorded_unless_they_ran_out_of_time() {
    let latency = learnt(secs(1));
    let layer = HedgeLayer::percentile(Percentile::P95)
        .with_latency(latency.clone())
        .with_budget(RetryBudget::new(
            RetryBudgetOptions::permille(0).with_reserve(0),
        ));
    type Failure = fn() -> Error;
    let failures: [(Failure, u64, u64); 3] = [
        (|| super::script::busy(None), 3_000, 100),
        (super::script::too_slow, 500, 100),
        (super::script::too_slow, 3_000, 101),
    ];
    for (failure, takes, samples) in failures {
        let service = layer.layer(Attempts::new().play(move |_| (millis(takes), Err(failure()))));
        service.oneshot(request()).await.unwrap_err();
        assert_eq!(latency.samples(), samples);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_first_attempt_is_recorded_if_it_outlived_the_percentile() {
    let latency = learnt(secs(1));
    let layer = HedgeLayer::percentile(Percentile::P95).with_latency(latency.clone());
    let service = layer.layer(Attempts::new().play(takes(60_000, 2_000)));
    for (stopped_after, samples) in [(millis(900), 100), (millis(1_500), 101)] {
        let call = service.clone().oneshot(request());
        tokio::time::timeout(stopped_after, call).await.unwrap_err();
        assert_eq!(latency.samples(), samples);
    }
    // The second attempt wins, and teaches nothing itself.
    service.oneshot(request()).await.unwrap();
    assert_eq!(latency.samples(), 102);
    let longest = latency.percentile(Percentile::new(1.0).unwrap()).unwrap();
    assert!(longest >= secs(3) && longest < millis(3_040), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn winning_hedges_do_not_lower_the_percentile() {
    let layer = HedgeLayer::percentile(Percentile::P90)
        .with_latency(Latency::new(secs(86_400)))
        .with_budget(RetryBudget::unlimited());
    // 94 % are spread over a second, and the rest takes so long that a hedge wins.
    let takes_at = |n: u64| match 1 + n % 1_000 {
        quick @ ..=940 => quick,
        slow => 5_000 + slow,
    };
    let mut hedged = 0;
    for n in 0..3_000 {
        let log = Attempts::new();
        let script = takes(takes_at(n * 389), takes_at(n * 577));
        let service = layer.layer(log.play(script));
        service.oneshot(request()).await.unwrap();
        if n >= 2_000 {
            hedged += log.sent().len() - 1;
        }
    }
    // Were only answers to count, it would be 15 %.
    assert!((90..=110).contains(&hedged), "{hedged} of 1000");
}

#[tokio::test(start_paused = true)]
async fn no_second_attempt_is_sent_with_less_time_left_than_the_recorded_percentile() {
    let latency = learnt(secs(1));
    let p95 = latency.percentile(Percentile::P95).unwrap();
    let due_at = rounded_up(p95);
    for (deadline, attempts) in [(due_at + p95 - millis(1), 1), (due_at + p95, 2)] {
        let log = Attempts::new();
        let layer = HedgeLayer::percentile(Percentile::P95).with_latency(latency.clone());
        let service = layer.layer(log.play(takes(3_000, 3_000)));
        service.oneshot(due(deadline)).await.unwrap();
        assert_eq!(log.sent().len(), attempts);
    }
}
