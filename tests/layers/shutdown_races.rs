//! Calls that race a shutdown: each is accepted and reported, or refused.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tokio_test::{assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    CallStatus, CancelLayer, Cause, Classify, Error, ErrorKind, Shutdown, ShutdownLayer,
    ShutdownService, TrackLayer, Tracker, WithContext,
};

use super::support::*;

/// One call and one shutdown, on two threads.
#[derive(Clone, Copy, Debug)]
enum Order {
    CallFirst,
    ShutdownFirst,
    Together,
}

/// Whether the call was accepted, where its answer and the report agree.
fn is_accepted(order: Order) -> bool {
    let shutdown = Shutdown::new();
    let work = service_fn(async |_: Request| Ok::<_, BoxError>(()));
    let mut service = ShutdownService::new(work, shutdown.clone());
    // Without a runtime: where there is nothing to wait for, nothing waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let turn = Barrier::new(2);
    let mut call = || {
        let mut call = task::spawn(service.call(request()));
        assert_ready!(call.poll())
    };
    let run = || runtime.block_on(shutdown.run(secs(60), secs(60)));
    let (answer, report) = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            if let Order::CallFirst = order {
                let answer = call();
                turn.wait();
                return answer;
            }
            turn.wait();
            call()
        });
        if let Order::ShutdownFirst = order {
            let report = run();
            turn.wait();
            return (call.join().unwrap(), report);
        }
        turn.wait();
        let report = run();
        (call.join().unwrap(), report)
    });
    let (accepted, completed) = match answer {
        Ok(()) => (1, 1),
        Err(error) => {
            assert_eq!(cancelled(Err::<(), _>(error)), Cause::Shutdown);
            (0, 0)
        }
    };
    assert_eq!(
        (report.accepted, report.completed),
        (accepted, completed),
        "{order:?}: {report}"
    );
    assert_eq!(report.abandoned, 0);
    accepted == 1
}

#[test]
fn a_call_before_a_shutdown_is_reported_and_a_call_after_it_is_refused() {
    assert!(is_accepted(Order::CallFirst));
    assert!(!is_accepted(Order::ShutdownFirst));
}

#[test]
fn a_call_racing_a_shutdown_is_either_in_the_report_or_refused() {
    for _ in 0..5_000 {
        is_accepted(Order::Together);
    }
}

/// Callers on all threads, until they are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_report_agrees_with_the_outcomes_that_callers_saw() {
    let mut late_ends = 0;
    // A long limit never passes: each call ends within milliseconds.
    for (drain, grace) in [(60_000, 0), (0, 60_000), (0, 0), (2, 2)] {
        let shutdown = Shutdown::new();
        let tracker = Tracker::new();
        let seen: Arc<[AtomicU64; 3]> = Arc::default();
        let service = ServiceBuilder::new()
            .layer(ShutdownLayer::new(shutdown.clone()))
            .layer(TrackLayer::new(tracker.clone()))
            .layer(CancelLayer::new())
            .service_fn(|micros: WithContext<u64>| async move {
                sleep(Duration::from_micros(micros.request)).await;
                if micros.request.is_multiple_of(7) {
                    return Err(crate::script::busy(None));
                }
                Ok::<_, Error>(())
            });
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..64 {
            let (service, seen) = (service.clone(), seen.clone());
            callers.spawn(async move {
                for n in 0.. {
                    let micros = (caller * 31 + n * 17) % 3_000;
                    let result = service.clone().oneshot(WithContext::new(micros)).await;
                    let outcome = match result.map_err(|error| error.kind()) {
                        Ok(()) => 0,
                        Err(ErrorKind::ShuttingDown) => 2,
                        Err(_) => 1,
                    };
                    seen[outcome].fetch_add(1, Ordering::Relaxed);
                    if outcome == 2 {
                        break;
                    }
                }
            });
        }
        // Calls end in both ways before they are stopped.
        while seen[..2].iter().any(|n| n.load(Ordering::Relaxed) == 0) {
            sleep(millis(1)).await;
        }
        let limits = (millis(drain), millis(grace));
        let (report, _) = tokio::join!(shutdown.run(limits.0, limits.1), callers.join_all());
        let [completed, failed, stopped] = [0, 1, 2].map(|n| seen[n].load(Ordering::Relaxed));
        // Tasks that a busy machine did not poll in time: the report does not know how they ended.
        let abandoned = report.abandoned;
        late_ends += usize::from(abandoned > 0);
        let ended = report.completed..=report.completed + abandoned;
        assert!(ended.contains(&completed), "{report}");
        // What failed once it had been told to stop was cancelled, as far as a shutdown can tell.
        let told = failed - report.failed;
        assert!(report.cancelled + abandoned >= told, "{report}");
        // Each caller was stopped or refused, once.
        assert_eq!(stopped, 64);
        let cancelled = report.accepted - completed - failed;
        assert!(cancelled + report.refused <= 64, "{report}");
        if abandoned == 0 {
            assert_eq!(cancelled, report.cancelled - told, "{report}");
        }
        // The tracker inside saw what was accepted, and agrees.
        let counts = tracker.counts();
        assert_eq!((counts.accepted, counts.live()), (report.accepted, 0));
        assert_eq!((counts.completed, counts.failed), (completed, failed));
        assert_eq!(counts.cancelled, cancelled);
    }
    assert!(
        late_ends < 3,
        "tasks were abandoned at {late_ends} of 4 ends"
    );
}

#[tokio::test(start_paused = true)]
async fn an_inner_tracker_reports_the_shutdown_as_the_cause() {
    let shutdown = Shutdown::new();
    let tracker = Tracker::new().with_history(9);
    let service = ServiceBuilder::new()
        .layer(ShutdownLayer::new(shutdown.clone()))
        .layer(TrackLayer::new(tracker.clone()));
    // One that heeds the signal, one that has to be dropped.
    let heeds = CancelLayer::new().layer(Record::default().answers(secs(60)));
    let heeds = tokio::spawn(service.clone().service(heeds).oneshot(request()));
    let stuck = Record::default().answers(secs(60));
    let stuck = tokio::spawn(service.service(stuck).oneshot(request()));
    tokio::task::yield_now().await;
    let report = shutdown.run(secs(1), secs(1)).await;
    assert_eq!((report.accepted, report.cancelled), (2, 2));
    for call in [heeds, stuck] {
        call.await.unwrap().unwrap_err();
    }
    let history = tracker.history();
    assert_eq!(history.len(), 2);
    for call in history {
        let cause = Cause::Shutdown;
        assert_eq!(call.status, CallStatus::Cancelled { cause });
        assert_eq!(call.stopping, Some(cause));
    }
}
