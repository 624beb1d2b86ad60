use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceExt,
    retry::budget::{Budget, TpsBudget},
    service_fn,
};
use tower_dspy::{
    Backoff, Error, HedgeLayer, Retry, RetryBudget, RetryLayer, WithContext,
    layers::RetryBudgetOptions,
};
use tower_test::mock;

use crate::script::too_slow;

const SECOND: Duration = Duration::from_secs(1);

fn retry(retries: u32, budget: &RetryBudget) -> RetryLayer {
    RetryLayer::new(retries)
        .with_backoff(Backoff::fixed(Duration::ZERO))
        .with_budget(budget.clone())
}

/// Counts the attempts that get through; all fail.
fn failing(
    count: &Arc<AtomicUsize>,
) -> impl Service<WithContext<()>, Response = (), Error = Error, Future: Send> + Clone + Send + use<>
{
    let count = Arc::clone(count);
    service_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err(too_slow()))
    })
}

/// How many attempts get through when `calls` calls are made of a service that always fails.
async fn attempts(retries: u32, budget: &RetryBudget, calls: usize) -> usize {
    let count = Arc::default();
    let service = retry(retries, budget).layer(failing(&count));
    for _ in 0..calls {
        let call = service.clone().oneshot(WithContext::new(()));
        call.await.expect_err("each attempt fails");
    }
    count.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn every_ratio_is_exact_to_the_last_retry() {
    for permille in [
        1, 100, 200, 300, 333, 400, 500, 600, 700, 800, 900, 999, 1000, 1500,
    ] {
        let budget = RetryBudget::new(RetryBudgetOptions::permille(permille).with_reserve(0));
        let expected = 10_000 + 10_000 * permille as usize / 1000;
        assert_eq!(attempts(3, &budget, 10_000).await, expected, "{permille}");
    }
    let none = RetryBudget::new(RetryBudgetOptions::permille(0).with_reserve(0));
    assert_eq!(attempts(3, &none, 10_000).await, 10_000);

    // tower's budget makes 50 % of 40 %, and 100 % of 60 %.
    for (ratio, retries) in [(0.4, 5_000), (0.6, 10_000)] {
        let towers = TpsBudget::new(SECOND * 10, 0, ratio);
        (0..10_000).for_each(|_| towers.deposit());
        assert_eq!((0..20_000).filter(|_| towers.withdraw()).count(), retries);
    }
}

#[tokio::test(start_paused = true)]
async fn the_reserve_comes_on_top() {
    let budget = RetryBudget::permille(200);
    assert_eq!(attempts(3, &budget, 10_000).await, 10_000 + 2_000 + 100);
    assert_eq!(budget.available(), 0);
}

#[tokio::test(start_paused = true)]
async fn by_default_only_answered_requests_deposit() {
    let budget = RetryBudget::default();
    // None is answered: the reserve is all there is.
    assert_eq!(attempts(3, &budget, 10_000).await, 10_000 + 10);
    assert_eq!(budget.available(), 0);

    // Every other attempt is answered.
    let budget = RetryBudget::new(
        RetryBudgetOptions::permille(1000)
            .of_answers()
            .with_reserve(0),
    );
    let n = AtomicUsize::new(0);
    let half = Arc::new(move || n.fetch_add(1, Ordering::Relaxed).is_multiple_of(2));
    let service = retry(1, &budget).layer(service_fn(move |_: WithContext<()>| {
        ready(if half() { Ok(()) } else { Err(too_slow()) })
    }));
    let call = || service.clone().oneshot(WithContext::new(()));
    call().await.expect("the first is answered");
    assert_eq!(budget.available(), 1);
    call().await.expect("the second is answered by a retry");
    assert_eq!(budget.available(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answered_hedge_deposits_where_answers_do() {
    let budget = RetryBudget::new(
        RetryBudgetOptions::permille(1000)
            .of_answers()
            .with_reserve(0),
    );
    let layer = HedgeLayer::after(SECOND).with_budget(budget.clone());
    let service = layer.layer(service_fn(|_: WithContext<()>| ready(Ok::<_, Error>(()))));
    service
        .oneshot(WithContext::new(()))
        .await
        .expect("an answer");
    assert_eq!(budget.available(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unlimited_budget_allows_every_retry() {
    assert_eq!(attempts(2, &RetryBudget::unlimited(), 1_000).await, 3_000);
}

#[tokio::test(start_paused = true)]
async fn a_default_layer_retries_a_caller_with_little_traffic() {
    let count = Arc::default();
    let service = RetryLayer::new(2)
        .with_backoff(Backoff::fixed(Duration::ZERO))
        .layer(failing(&count));
    service
        .oneshot(WithContext::new(()))
        .await
        .expect_err("fails");
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_layer_and_its_services_share_one_budget() {
    let count = Arc::default();
    let layer = retry(
        1,
        &RetryBudget::new(
            RetryBudgetOptions::permille(0)
                .with_reserve(1)
                .with_ttl(SECOND),
        ),
    );
    for _ in 0..3 {
        let service = layer.clone().layer(failing(&count));
        service
            .oneshot(WithContext::new(()))
            .await
            .expect_err("fails");
    }
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

/// Three services, one behind the other, each with a retry of its own, before one that fails half
/// of what it gets, or all.
#[tokio::test(start_paused = true)]
async fn a_storm_of_three_nested_callers_is_bounded_by_each_ones_budget() {
    const CALLS: usize = 10_000;
    let storm = |budget: fn() -> RetryBudget, one_fails_in: usize| async move {
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        // What each level sends on, and what the innermost is sent.
        let counted = |level: usize| {
            let count = counts[level].clone();
            move |request: WithContext<()>| {
                count.fetch_add(1, Ordering::Relaxed);
                request
            }
        };
        let n = AtomicUsize::new(0);
        let last = Arc::new(move || {
            n.fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(one_fails_in)
        });
        let service = tower::ServiceBuilder::new()
            .layer(retry(2, &budget()))
            .map_request(counted(0))
            .layer(retry(2, &budget()))
            .map_request(counted(1))
            .layer(retry(2, &budget()))
            .map_request(counted(2))
            .service_fn(move |_: WithContext<()>| {
                ready(if last() { Err(too_slow()) } else { Ok(()) })
            });
        let mut answered = 0;
        for _ in 0..CALLS {
            let call = service.clone().oneshot(WithContext::new(()));
            answered += usize::from(call.await.is_ok());
        }
        let sent = counts.map(|count| count.load(Ordering::Relaxed));
        (sent, answered)
    };
    let (sent, answered) = storm(RetryBudget::unlimited, 1).await;
    assert_eq!((sent, answered), ([3, 9, 27].map(|n| n * CALLS), 0));

    for one_fails_in in [1, 2] {
        for (reserve, budget) in [
            (
                0,
                (|| RetryBudget::new(RetryBudgetOptions::permille(200).with_reserve(0)))
                    as fn() -> _,
            ),
            (100, || RetryBudget::permille(200)),
            (10, RetryBudget::default),
        ] {
            let (sent, answered) = storm(budget, one_fails_in).await;
            let mut came = CALLS;
            for sent in sent {
                // Each sends at most a fifth more than came to it, and its reserve.
                assert!(
                    sent >= came && sent <= came + came / 5 + reserve,
                    "{sent} of {came}"
                );
                came = sent;
            }
            if one_fails_in == 1 {
                assert_eq!(answered, 0);
                if reserve == 0 {
                    // All that is allowed is used: 1.2^3.
                    assert_eq!(sent, [12_000, 14_400, 17_280]);
                }
            } else {
                assert!(answered > CALLS / 2, "{answered}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_and_retries_are_forgotten_after_the_ttl() {
    let budget = RetryBudget::new(RetryBudgetOptions::permille(500).with_reserve(1));
    assert_eq!(budget.available(), 10);
    assert_eq!(attempts(0, &budget, 40).await, 40);
    assert_eq!(budget.available(), 30);
    advance(SECOND * 5).await;
    // 10 calls deposit 5 more and take 20.
    assert_eq!(attempts(2, &budget, 10).await, 30);
    assert_eq!(budget.available(), 30 + 5 - 20);
    advance(SECOND * 5).await;
    // The deposits of the beginning are gone, what was spent since is not.
    assert_eq!(budget.available(), 0);
    advance(SECOND * 5).await;
    assert_eq!(budget.available(), 10);
    advance(SECOND * 86_400 * 365).await;
    assert_eq!(budget.available(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_slots_of_the_window_do_not_drift() {
    let budget = RetryBudget::new(
        RetryBudgetOptions::permille(1000)
            .with_reserve(0)
            .with_ttl(SECOND),
    );
    attempts(0, &budget, 1).await;
    // Looked at in steps that divide no slot: the deposit is gone after one ttl, not later.
    for _ in 0..6 {
        assert_eq!(budget.available(), 1);
        advance(Duration::from_millis(160)).await;
    }
    advance(Duration::from_millis(40)).await;
    assert_eq!(budget.available(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_out_of_range_is_clamped() {
    for (ttl, seconds) in [(Duration::ZERO, 1), (Duration::MAX, 60), (SECOND * 7, 7)] {
        let budget = RetryBudget::new(
            RetryBudgetOptions::permille(0)
                .with_reserve(1)
                .with_ttl(ttl),
        );
        assert_eq!(budget.available(), seconds);
    }
    let most = RetryBudget::new(RetryBudgetOptions::permille(u32::MAX).with_reserve(u32::MAX));
    attempts(0, &most, 1).await;
    assert_eq!(most.available(), u64::from(u32::MAX) * 10 + 1_000);
}

type Mock = mock::Mock<WithContext<()>, ()>;
type Call = task::Spawn<<Retry<Mock> as Service<WithContext<()>>>::Future>;

/// A call whose first attempt has failed.
async fn fail_once(
    service: &mut mock::Spawn<Retry<Mock>>,
    handle: &mut mock::Handle<WithContext<()>, ()>,
) -> Call {
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(WithContext::new(())));
    let (_, attempt) = handle.next_request().await.expect("the first attempt");
    attempt.send_error(too_slow());
    assert_pending!(call.poll());
    call
}

#[tokio::test(start_paused = true)]
async fn an_unsent_retry_is_returned_to_the_budget() {
    let budget = RetryBudget::new(
        RetryBudgetOptions::permille(0)
            .with_reserve(1)
            .with_ttl(SECOND),
    );
    let layer = RetryLayer::new(1)
        .with_backoff(Backoff::fixed(SECOND / 10))
        .with_budget(budget.clone());
    let (mut service, mut handle) = mock::spawn_layer::<WithContext<()>, (), _>(layer);

    // Dropped during the backoff.
    let call = fail_once(&mut service, &mut handle).await;
    assert_eq!(budget.available(), 0);
    drop(call);
    assert_eq!(budget.available(), 1);

    // Dropped while the service is not ready for it.
    let mut call = fail_once(&mut service, &mut handle).await;
    advance(SECOND / 5).await;
    assert_pending!(call.poll());
    assert_eq!(budget.available(), 0);
    drop(call);
    assert_eq!(budget.available(), 1);

    // Sent, and so spent.
    let mut call = fail_once(&mut service, &mut handle).await;
    advance(SECOND / 5).await;
    handle.allow(1);
    assert_pending!(call.poll());
    assert_eq!(budget.available(), 0);
    drop(call);
    assert_eq!(budget.available(), 0);
    handle.next_request().await.expect("the second attempt");
    advance(SECOND).await;

    // The service dies in the meantime.
    let mut call = fail_once(&mut service, &mut handle).await;
    advance(SECOND / 5).await;
    handle.send_error("gone");
    assert_ready_err!(call.poll());
    drop(call);
    assert_eq!(budget.available(), 1);
}

#[test]
fn concurrent_callers_never_overspend() {
    const THREADS: usize = 8;
    const CALLS: usize = 2_000;
    for _ in 0..5 {
        // One runtime a thread, all with the real clock; the test is over long before the ttl.
        let budget = RetryBudget::new(
            RetryBudgetOptions::permille(300)
                .with_reserve(1)
                .with_ttl(SECOND * 60),
        );
        let sent: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        tokio::runtime::Builder::new_current_thread()
                            .build()
                            .expect("a runtime")
                            .block_on(attempts(2, &budget, CALLS))
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("no panic"))
                .sum()
        });
        let calls = THREADS * CALLS;
        assert_eq!(sent, calls + calls * 3 / 10 + 60);
        assert_eq!(budget.available(), 0);
    }
}
