//! One terminal status for each call, on real threads and the real clock, in races of answers,
//! failures, hangs, limits, cancels, drops, hedges and a shutdown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Backoff, Cancel, CancelLayer, Cause, Classify, DeadlineLayer, ErrorKind, HedgeLayer,
    RetryLayer, Shutdown, ShutdownLayer, TimeoutLayer, TrackLayer, Tracker,
    testing::mock::{MockDspy, Reply},
};

use super::{
    script::request,
    support::{millis, secs},
    track::sum,
};

/// How long calls are made for at least.
const LOAD: Duration = Duration::from_millis(1_500);
/// As many calls at least have each outcome before the shutdown; a busy machine takes longer.
const OF_EACH: u64 = 100;
/// Far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(120);
const CALLERS: u64 = 64;

/// Something that takes some milliseconds, and may not heed its end at once.
fn reply(random: u64) -> Reply {
    let reply = match random % 5 {
        0 => Reply::fail(ErrorKind::LmUnavailable),
        1 => Reply::fail(ErrorKind::Program),
        2 => Reply::hang(),
        _ => Reply::answer("an answer"),
    };
    let reply = reply.after(millis(random / 7 % 6));
    match random / 11 % 4 {
        0 => reply.lingers(millis(3)),
        _ => reply,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_call_ends_once_under_races_and_leaves_nothing() {
    let tracker = Tracker::new();
    let shutdown = Shutdown::new();
    let mock = MockDspy::from_fn(|_| reply(fastrand::u64(..))).max_in_flight(16);
    let service = ServiceBuilder::new()
        .layer(ShutdownLayer::new(shutdown.clone()))
        .layer(TrackLayer::new(tracker.clone()))
        .layer(DeadlineLayer::new(millis(20)).with_grace(millis(2)))
        .layer(CancelLayer::new())
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(millis(1))))
        .layer(HedgeLayer::after(millis(4)))
        .layer(TimeoutLayer::new(millis(8)))
        .service(mock.clone());

    let [answered, failed, stopped, dropped]: [Arc<AtomicU64>; 4] = Default::default();
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let service = service.clone();
        let counts = [&answered, &failed, &stopped, &dropped].map(Arc::clone);
        callers.spawn(async move {
            // A hang-up of the test would be a call that never ends.
            while begun.elapsed() < 2 * LIMIT {
                let cancel = Cancel::new();
                let call = service
                    .clone()
                    .oneshot(request().with_cancel(cancel.clone()));
                let patience = millis(fastrand::u64(..30).saturating_sub(3));
                let outcome = match fastrand::u8(..3) {
                    // On a busy machine a timer may not be seen before the call has ended.
                    0 if patience.is_zero() => call.now_or_never(),
                    0 => timeout(patience, call).await.ok(),
                    1 => {
                        let call = tokio::spawn(call);
                        sleep(patience).await;
                        cancel.cancel(Cause::ClientGone);
                        Some(call.await.expect("no panic"))
                    }
                    _ => Some(call.await),
                };
                let end = match outcome.map(|outcome| outcome.map_err(|error| error.kind())) {
                    Some(Ok(_)) => 0,
                    Some(Err(ErrorKind::ShuttingDown)) => 2,
                    Some(Err(_)) => 1,
                    None => 3,
                };
                counts[end].fetch_add(1, Ordering::SeqCst);
                if end == 2 {
                    return;
                }
            }
            panic!("never refused");
        });
    }
    let outcomes = [&answered, &failed, &dropped];
    let few = || outcomes.map(|n| n.load(Ordering::SeqCst)).into_iter().min() <= Some(OF_EACH);
    while begun.elapsed() < LOAD || few() {
        assert!(begun.elapsed() < LIMIT, "{outcomes:?}");
        let counts = tracker.counts();
        assert_eq!(sum(counts), counts.accepted);
        tracker.cancel_all(Cause::Caller);
        sleep(millis(7)).await;
    }
    // The drain is cut short; the cancelled calls need some milliseconds, when they get a core.
    let report = shutdown.run(millis(5), LIMIT).await;
    while let Some(caller) = callers.join_next().await {
        caller.expect("no panic");
    }

    let seen = [&answered, &failed, &stopped, &dropped].map(|n| n.load(Ordering::SeqCst));
    let [answered, failed, stopped, dropped] = seen;
    assert!(answered > OF_EACH && failed > OF_EACH && dropped > OF_EACH);
    assert_eq!(stopped, CALLERS, "{seen:?}");
    // The report, the tracker and the callers agree about every call.
    assert_eq!(report.abandoned, 0, "{report}");
    assert_eq!(
        report.accepted,
        report.completed + report.failed + report.cancelled,
        "{report}"
    );
    let calls = answered + failed + stopped + dropped;
    // Those that came after the report was made are not in it.
    let refused = calls - report.accepted;
    assert!((report.refused..=CALLERS).contains(&refused), "{report}");
    let counts = tracker.counts();
    assert_eq!((counts.accepted, counts.live()), (report.accepted, 0));
    assert_eq!(sum(counts), counts.accepted);
    // A call may be done and its caller gone, at one moment.
    assert!(counts.completed >= answered && counts.completed <= answered + dropped);

    // All work ends, each with an end, and every permit comes back.
    let ended = mock.wait_for(|calls| calls.iter().all(|call| !call.in_flight));
    timeout(secs(20), ended).await.expect("all work ends");
    assert!(mock.calls().iter().all(|call| call.end.is_some()));
    let mut all = Vec::new();
    for _ in 0..16 {
        let mut service = mock.clone();
        timeout(secs(20), service.ready())
            .await
            .expect("a permit")
            .expect("alive");
        all.push(service);
    }
}
