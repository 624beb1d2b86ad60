//! One status for each tracked call, under races.

use std::{future::pending, sync::Barrier, time::Duration};

use tokio::time::{advance, sleep, timeout};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    CallStatus, CancelLayer, Cancelled, Cause, Elapsed, Error, Scope, Stage, TimeoutLayer, Track,
    TrackLayer, Tracker,
};

use super::{script::busy, support::*, track::sum};

#[tokio::test(start_paused = true)]
async fn a_call_is_cancelled_by_its_id_and_all_calls_at_once() {
    let tracker = Tracker::new().with_history(9);
    let record = Record::default();
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(CancelLayer::new())
        .service(record.answers(secs(60)));
    let mut calls = [(); 3].map(|()| task::spawn(service.clone().oneshot(request())));
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    let id = tracker.calls()[1].id;
    assert!(tracker.cancel_as(id, Cause::ClientGone).signalled());
    assert!(!tracker.cancel_as(id, Cause::Shutdown).signalled());
    assert_eq!(tracker.get(id).unwrap().stopping, Some(Cause::ClientGone));
    assert_eq!(cancelled(assert_ready!(calls[1].poll())), Cause::ClientGone);
    assert!(!tracker.cancel_as(id, Cause::Shutdown).signalled());
    assert!(!calls[0].is_woken());

    assert_eq!(tracker.cancel_all(Cause::Shutdown).count(), 2);
    assert_eq!(tracker.cancel_all(Cause::Shutdown).count(), 0);
    for call in [0, 2] {
        assert_eq!(
            cancelled(assert_ready!(calls[call].poll())),
            Cause::Shutdown
        );
    }
    let causes = [Cause::ClientGone, Cause::Shutdown, Cause::Shutdown];
    assert_eq!(record.drops(), causes);
    let ended: Vec<_> = tracker.history().iter().map(|call| call.status).collect();
    assert_eq!(ended, causes.map(|cause| CallStatus::Cancelled { cause }));
    assert_eq!(tracker.counts().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_by_the_tracker_does_not_reach_the_callers_node() {
    let tracker = Tracker::new();
    let record = Record::default();
    let caller = tower_dspy::Cancel::new();
    let mut wanted = request();
    wanted.context.cancel = caller.clone();
    let mut call = task::spawn(Track::new(record.answers(secs(9)), tracker.clone()).call(wanted));
    assert_pending!(call.poll());
    tracker.cancel_all(Cause::Shutdown);
    assert_eq!(record.context().cancel.cause(), Some(Cause::Shutdown));
    assert!(!caller.is_cancelled());

    // The caller's own node is not the tracker's to cancel.
    let layer = TrackLayer::new(tracker.clone()).observe_only();
    let mut wanted = request();
    wanted.context.cancel = caller.clone();
    let mut observed = task::spawn(layer.layer(record.answers(secs(9))).oneshot(wanted));
    assert_pending!(observed.poll());
    assert_eq!(tracker.cancel_all(Cause::Shutdown).count(), 0);
    assert!(!caller.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_ready_answer_wins_over_a_cancel() {
    let tracker = Tracker::new().with_history(1);
    let service = CancelLayer::new().layer(Record::default().answers(secs(1)));
    let mut call = task::spawn(Track::new(service, tracker.clone()).oneshot(request()));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    assert_eq!(tracker.cancel_all(Cause::Caller).count(), 1);
    assert_eq!(assert_ready!(call.poll()).unwrap(), "answer");
    let ended = &tracker.history()[0];
    assert_eq!(
        (ended.status, ended.stopping),
        (CallStatus::Completed, Some(Cause::Caller))
    );
    assert_eq!(sum(tracker.counts()), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_an_idle_tracker_neither_polls_nor_starves() {
    let tracker = Tracker::new();
    tracker.wait_empty().await;

    let service = Track::new(Record::default().answers(secs(2)), tracker.clone());
    let mut call = task::spawn(service.clone().oneshot(request()));
    assert_pending!(call.poll());
    let mut wait = task::spawn(tracker.wait_empty());
    assert_pending!(wait.poll());
    advance(secs(1)).await;
    assert!(!wait.is_woken());
    advance(secs(1)).await;
    assert_ready!(call.poll()).unwrap();
    // It was empty for a moment.
    let mut next = task::spawn(service.oneshot(request()));
    assert_pending!(next.poll());
    assert!(wait.is_woken());
    assert_ready!(wait.poll());
}

/// Done, cancelled and dropped on three threads at once.
#[test]
fn a_call_has_one_status_under_races() {
    for round in 0..2_000 {
        let tracker = Tracker::new().with_history(9);
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let answered = std::sync::Mutex::new(Some(answered));
        let work = service_fn(|_: Request| {
            let answered = answered.lock().unwrap().take();
            async {
                if let Some(answered) = answered {
                    answered.await?;
                }
                Ok::<_, BoxError>(())
            }
        });
        let service = CancelLayer::new().layer(work);
        let mut call = task::spawn(Track::new(service, tracker.clone()).oneshot(request()));
        assert_pending!(call.poll());
        let start = Barrier::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                answer.send(())
            });
            scope.spawn(|| {
                start.wait();
                tracker.cancel_all(Cause::Shutdown)
            });
            start.wait();
            if round % 2 == 0 {
                let _ = call.poll();
            }
            drop(call);
        });
        let counts = tracker.counts();
        assert_eq!((counts.accepted, counts.live(), sum(counts)), (1, 0, 1));
        assert_eq!(tracker.history().len(), 1);
        assert!(tracker.history()[0].status.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_random_calls_add_up() {
    const CALLS: u64 = 10_000;
    let mut random = fastrand::Rng::with_seed(0x7eac);
    let tracker = Tracker::new().with_history(CALLS as usize);
    let work = |request: Request| async move {
        let how = request.context.call_id.unwrap().get();
        sleep(Duration::from_millis(how % 17)).await;
        match how % 6 {
            0 => Err::<(), Error>(busy(None)),
            1 => Err(Elapsed::new(Scope::Deadline, Stage::Running, secs(1)).into()),
            2 => Err(Cancelled::new(Cause::ClientGone).into()),
            3 => pending().await,
            _ => Ok(()),
        }
    };
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(CancelLayer::new())
        .service_fn(work);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..CALLS {
        let patience = Duration::from_millis(random.u64(..40));
        let limited = TimeoutLayer::new(patience).layer(service.clone());
        match random.u8(..3) {
            0 => drop(calls.spawn(async move { drop(limited.oneshot(request()).await) })),
            1 => {
                drop(calls.spawn(async move {
                    drop(timeout(patience, limited.oneshot(request())).await)
                }))
            }
            _ => drop(calls.spawn({
                let call = service.clone().oneshot(request());
                async move { drop(call.await) }
            })),
        }
        match random.u8(..50) {
            0 => sleep(Duration::from_millis(1)).await,
            1 => {
                if let Some(call) = tracker.calls().last() {
                    tracker.cancel(call.id);
                }
            }
            2 => _ = tracker.cancel_all(Cause::Shutdown),
            _ => {}
        }
        if n % 100 == 0 {
            let counts = tracker.counts();
            assert_eq!(sum(counts), counts.accepted);
            assert_eq!(counts.live(), tracker.calls().len() as u64);
        }
    }
    let (_, ()) = tokio::join!(calls.join_all(), async {
        // The calls without a limit that never end by themselves.
        sleep(secs(1)).await;
        tracker.cancel_all(Cause::Shutdown);
        tracker.wait_empty().await;
    });
    let counts = tracker.counts();
    // A limit of nothing may drop a call before the tracker was asked.
    assert_eq!(sum(counts), counts.accepted);
    assert_eq!(
        (counts.live(), tracker.history().len() as u64),
        (0, counts.accepted)
    );
    for ended in [
        counts.completed,
        counts.failed,
        counts.timed_out,
        counts.cancelled,
        counts.dropped,
    ] {
        assert!(ended > 100, "{counts:?}");
    }
}
