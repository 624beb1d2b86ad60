use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::time::{sleep, timeout as tokio_timeout};
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};
use tower_dspy::{
    Carrier, Cause, Deadline, Error, Scope, Session, Stage, TimeoutLayer, WithContext, predict_all,
};

use super::support::{NeverReady, Record, Strict, cancelled, due, elapsed, request, secs, timed};

type Numbered = WithContext<u64>;

fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<Numbered> {
    numbers.into_iter().map(WithContext::new).collect()
}

/// Answers each number after that many seconds.
fn sleeper() -> impl Service<Numbered, Response = u64, Error = BoxError, Future: Send> + Clone + Send
{
    service_fn(|request: Numbered| async move {
        sleep(secs(request.request)).await;
        Ok(request.request)
    })
}

/// No limit that matters here.
fn long() -> Deadline {
    Deadline::within(secs(86_400))
}

/// Counts what is alive.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

struct Alive(Gauge);

impl Gauge {
    fn enter(&self) -> Alive {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Alive(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_of_completion_or_of_the_items() {
    let numbers = [3, 1, 2];
    let batch = predict_all(sleeper(), numbered(numbers), long());
    let items: Vec<_> = batch
        .map(|(place, result)| (place, result.unwrap()))
        .collect()
        .await;
    assert_eq!(items, [(1, 1), (2, 2), (0, 3)]);

    let batch = predict_all(sleeper(), numbered(numbers), long()).in_order();
    let items: Vec<_> = batch
        .map(|(place, result)| (place, result.unwrap()))
        .collect()
        .await;
    assert_eq!(items, [(0, 3), (1, 1), (2, 2)]);

    let results = predict_all(sleeper(), numbered(numbers), long())
        .all()
        .await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, numbers);

    let mut empty = predict_all(sleeper(), [], long());
    assert!(empty.next().await.is_none() && empty.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_finished_results_stay_and_the_others_are_typed_errors() {
    let record = Record::default();
    // Two at once, 4 s each: two are done at 4 s, two at 8 s, two are cut at 10 s.
    let batch = predict_all(
        record.answers(secs(4)),
        (0..9).map(|_| request()),
        Deadline::within(secs(10)),
    )
    .with_concurrency(2);
    let (took, results) = timed(batch.all()).await;
    assert_eq!((took, results.len()), (secs(10), 9));
    for (place, result) in results.into_iter().enumerate() {
        match place {
            0..4 => assert_eq!(result.unwrap(), "answer"),
            4..6 => assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(2))),
            _ => assert_eq!(elapsed(result).1, Stage::BeforeStart),
        }
    }
    assert_eq!(record.calls(), 6);
    assert_eq!(record.drops(), [Cause::Deadline; 2]);
}

#[tokio::test(start_paused = true)]
async fn each_call_gets_the_deadline_and_keeps_a_tighter_one() {
    let record = Record::default();
    let deadline = Deadline::within(secs(9));
    let requests = [due(secs(2)), request()];
    let results = predict_all(record.answers(secs(5)), requests, deadline);
    let mut results = results.all().await.into_iter();
    assert_eq!(elapsed(results.next().unwrap()).2, secs(2));
    assert_eq!(results.next().unwrap().unwrap(), "answer");
    assert_eq!(record.context().deadline, Some(deadline));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_item_leaves_the_others_alone() {
    let service = service_fn(|request: Numbered| async move {
        match request.request {
            1 => Err::<u64, BoxError>("no".into()),
            n => Ok(n),
        }
    });
    let results = predict_all(service, numbered(0..3), long()).all().await;
    let results: Vec<_> = results
        .into_iter()
        .map(|r| r.map_err(|e| e.to_string()))
        .collect();
    assert_eq!(results, [Ok(0), Err("no".to_owned()), Ok(2)]);

    // One that is too slow by a limit of its own leaves the others alone.
    let service = TimeoutLayer::new(secs(2)).layer(sleeper());
    let results = predict_all(service, numbered([1, 9, 1]), long())
        .all()
        .await;
    let errors: Vec<_> = results.into_iter().map(|result| result.err()).collect();
    assert!(errors[0].is_none() && errors[2].is_none() && errors[1].is_some());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_items_run_with_bounded_concurrency() {
    for (asked, runs) in [(0, 1), (7, 7), (100_000, 10_000)] {
        let gauge = Gauge::default();
        let alive = gauge.clone();
        let service = service_fn(move |request: Numbered| {
            let alive = alive.enter();
            async move {
                let _alive = alive;
                sleep(Duration::from_millis(1 + request.request % 7)).await;
                Ok::<_, Error>(request.request)
            }
        });
        let mut batch = predict_all(service, numbered(0..10_000), long()).with_concurrency(asked);
        let mut seen = vec![false; 10_000];
        while let Some((place, result)) = batch.next().await {
            assert_eq!(result.unwrap(), place as u64);
            assert!(!std::mem::replace(&mut seen[place], true));
            assert!(batch.running() <= runs);
        }
        assert!(seen.into_iter().all(|seen| seen));
        assert_eq!((gauge.now(), gauge.most()), (0, runs));
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_batch_cancels_all_and_starts_no_more() {
    let record = Record::default();
    let mut batch = predict_all(record.answers(secs(9)), (0..100).map(|_| request()), long())
        .with_concurrency(5);
    assert!(tokio_timeout(secs(1), batch.next()).await.is_err());
    assert_eq!((batch.running(), record.calls()), (5, 5));
    drop(batch);
    assert_eq!(record.drops(), [Cause::Dropped; 5]);
    sleep(secs(60)).await;
    assert_eq!(record.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_next_loses_no_result() {
    let mut batch = predict_all(sleeper(), numbered([3, 1, 2]), long()).in_order();
    for _ in 0..2 {
        assert!(tokio_timeout(secs(1), batch.next()).await.is_err());
    }
    assert_eq!(batch.all().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_order_can_be_chosen_after_the_first_result() {
    let mut batch = predict_all(sleeper(), numbered([9, 1, 8, 3, 2]), long()).with_concurrency(3);
    assert_eq!(batch.next().await.unwrap().0, 1);
    let places: Vec<_> = batch.in_order().map(|(place, _)| place).collect().await;
    // Those that ran already come as they finish.
    assert_eq!(places, [3, 4, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn each_call_waits_for_the_readiness_of_its_own_clone() {
    let requests = (0..50).map(|_| request());
    let results = predict_all(Strict::after(secs(1)), requests, long())
        .all()
        .await;
    assert_eq!(results.into_iter().filter(Result::is_ok).count(), 50);

    // The service's own limit is tighter than the batch's.
    let service = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(sleeper());
    let batch = predict_all(service, numbered([2; 4]), Deadline::within(secs(5)));
    let (took, results) = timed(batch.all()).await;
    assert_eq!(took, secs(5));
    let mut results = results.into_iter();
    assert_eq!(results.by_ref().take(2).flatten().count(), 2);
    for result in results {
        assert_eq!(elapsed(result).0, Scope::Deadline);
    }

    let batch = predict_all(NeverReady, [request()], Deadline::within(secs(5)));
    let result = batch.all().await.pop().unwrap();
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Waiting, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_session_cancels_a_batch() {
    let record = Record::default();
    let session = Session::within(secs(60));
    let service = session.wrap(record.answers(secs(30)));
    let batch = predict_all(
        service,
        (0..40).map(|_| request()),
        session.deadline().unwrap(),
    );
    let all = tokio::spawn(batch.all());
    sleep(secs(1)).await;
    session.cancel(Cause::ClientGone);
    for result in all.await.unwrap() {
        assert_eq!(cancelled(result), Cause::ClientGone);
    }
    assert_eq!(record.calls(), 16);
    assert_eq!(record.drops(), [Cause::ClientGone; 16]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_ready_results_yields_to_other_tasks() {
    let service = service_fn(|request: Numbered| async move {
        if request.request == 0 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Error>(request.request)
    });
    // Endless, and the first never comes: the others pile up behind it.
    let batch = predict_all(service, (0..).map(WithContext::new), long()).in_order();
    let mut batch = task::spawn(batch);
    for _ in 0..10 {
        assert_pending!(batch.poll_next());
        assert!(batch.is_woken());
    }
}

#[tokio::test(start_paused = true)]
async fn the_size_hint_is_exact_at_every_step() {
    for in_order in [false, true] {
        let mut batch = predict_all(sleeper(), numbered([3, 1, 2, 1]), long()).with_concurrency(2);
        if in_order {
            batch = batch.in_order();
        }
        for left in (0..=4).rev() {
            assert_eq!(batch.size_hint(), (left, Some(left)));
            assert_eq!(batch.next().await.is_some(), left > 0);
        }
    }
}

#[test]
fn a_batch_is_send() {
    fn sent<T: Send + Unpin>(_: &T) {}
    let _guard = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let batch = predict_all(sleeper(), numbered([1]), long());
    sent(&batch);
    assert!(format!("{batch:?}").contains("running: 0"));
    let mut request = WithContext::new(1);
    request.context_mut().attempt = 1;
}
