//! Ends that race, on real threads and in real time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tower_dspy::patterns::{
    CancellablePrediction, DeadlineExecutor, GracefulCancellationHandler, PredictionStatus,
    TimeoutError,
};

/// The same sequence of draws for the same seed, so that a failure can be looked at again.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn micros(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_is_one_final_status_and_it_agrees_with_the_answer() {
    let mut draws = Draws(20_240_607);
    let mut rounds = Vec::new();
    for round in 0..2_000 {
        let cleanups = Arc::new(AtomicUsize::new(0));
        let count = cleanups.clone();
        let prediction = CancellablePrediction::new()
            .with_timeout(draws.micros(2_500))
            .on_cancel(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            });
        let handle = prediction.handle();
        let (work, cancel) = (draws.micros(2_500), draws.micros(2_500));
        let (fails, aborts) = (draws.below(8) == 0, draws.below(8) == 0);
        let started = Arc::new(AtomicUsize::new(0));
        let starts = started.clone();
        let call = tokio::spawn(prediction.execute(async move {
            starts.fetch_add(1, Ordering::SeqCst);
            sleep(work).await;
            if fails { Err("no") } else { Ok(()) }
        }));
        let watcher = handle.clone();
        let watch = tokio::spawn(async move {
            let mut last = PredictionStatus::Pending;
            while !last.is_final() {
                let next = watcher.status();
                let forward = match last {
                    PredictionStatus::Pending => true,
                    PredictionStatus::Running => next != PredictionStatus::Pending,
                    _ => false,
                };
                assert!(forward, "{last:?} became {next:?}");
                last = next;
                tokio::task::yield_now().await;
            }
            last
        });
        rounds.push(tokio::spawn(async move {
            sleep(cancel).await;
            if aborts {
                call.abort();
            } else {
                handle.cancel();
            }
            let result = call.await;
            let status = handle.ended().await;
            assert_eq!(watch.await.unwrap(), status, "round {round}");
            let stopped = match result {
                Ok(Ok(())) => status != PredictionStatus::Completed,
                Ok(Err(TimeoutError::Failed(_))) => status != PredictionStatus::Failed,
                Ok(Err(TimeoutError::Elapsed(_) | TimeoutError::Deadline(_))) => {
                    assert_eq!(status, PredictionStatus::TimedOut, "round {round}");
                    true
                }
                Ok(Err(TimeoutError::Cancelled(_))) | Err(_) => {
                    assert_eq!(status, PredictionStatus::Cancelled, "round {round}");
                    true
                }
            };
            let began = started.load(Ordering::SeqCst);
            let cleaned = cleanups.load(Ordering::SeqCst);
            assert_eq!(cleaned, usize::from(stopped) * began, "round {round}");
            assert_eq!(handle.status(), status);
            status
        }));
    }
    let mut counts = std::collections::HashMap::new();
    for round in rounds {
        *counts.entry(round.await.unwrap()).or_insert(0) += 1;
    }
    // Else it was no race.
    for status in [
        PredictionStatus::Completed,
        PredictionStatus::Failed,
        PredictionStatus::Cancelled,
        PredictionStatus::TimedOut,
    ] {
        assert!(counts.get(&status).is_some_and(|n| *n > 10), "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_of_an_executor_that_is_cancelled_while_operations_come() {
    let mut draws = Draws(7);
    for _ in 0..50 {
        let executor = DeadlineExecutor::within(draws.micros(3_000));
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let executor = executor.clone();
                let (wait, work) = (draws.micros(2_000), draws.micros(2_000));
                tokio::spawn(async move {
                    sleep(wait).await;
                    executor.execute(sleep(work)).await
                })
            })
            .collect();
        sleep(draws.micros(2_000)).await;
        executor.cancel_all();
        executor.idle().await;
        for call in calls {
            let result = call.await.unwrap();
            assert!(!matches!(result, Err(TimeoutError::Elapsed(_))));
        }
        assert!(executor.running_operations().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_report_counts_each_operation_once_whenever_it_comes() {
    let mut draws = Draws(11);
    let mut late_rounds = 0;
    for round in 0..50 {
        let handler = GracefulCancellationHandler::new();
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let handler = handler.clone();
                let (wait, work) = (draws.micros(2_000), draws.micros(6_000));
                tokio::spawn(async move {
                    sleep(wait).await;
                    handler.execute(sleep(work)).await
                })
            })
            .collect();
        sleep(draws.micros(2_000)).await;
        let report = handler.cancel_gracefully(draws.micros(3_000)).await;
        let (mut done, mut cancelled) = (0, 0);
        for call in calls {
            match call.await.unwrap() {
                Ok(()) => done += 1,
                Err(TimeoutError::Cancelled(_)) => cancelled += 1,
                Err(other) => panic!("round {round}: {other:?}"),
            }
        }
        // A task that a busy machine did not poll in time is abandoned, and ends with its next poll.
        let abandoned = report.abandoned.len();
        late_rounds += usize::from(abandoned > 0);
        assert!(
            report.ended + report.cut + abandoned <= 40,
            "round {round}: {report:?}"
        );
        assert!(handler.pending_operations().is_empty(), "round {round}");
        // Some were done before the end began, and some came after it.
        assert!(report.cut <= cancelled, "round {round}: {report:?}");
        assert!(report.ended <= done + cancelled - report.cut);
        assert_eq!(done + cancelled, 40);
    }
    assert!(
        late_rounds < 25,
        "tasks were abandoned in {late_rounds} of 50 rounds"
    );
}
