use std::{future::pending, pin::pin};

use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Backoff, CallStatus, Cancel, CancelLayer, Cause, DeadlineLayer, Error, ErrorKind, RetryLayer,
    TimeoutLayer, Track, TrackLayer, Tracker, drop_scope,
    layers::{CallCounts, CallSnapshot},
};

use crate::{
    script::{Log, busy},
    support::*,
};

#[track_caller]
fn only(tracker: &Tracker) -> CallSnapshot {
    let [call] = tracker.calls().try_into().unwrap();
    call
}

#[track_caller]
fn last(tracker: &Tracker) -> CallSnapshot {
    tracker.history().pop().unwrap()
}

pub(crate) fn sum(counts: CallCounts) -> u64 {
    counts.live() + counts.completed + counts.failed + counts.timed_out + counts.cancelled
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tracked_from_its_start_to_its_end() {
    let tracker = Tracker::new().with_history(1);
    let layer = TrackLayer::new(tracker.clone()).with_label("qa");
    let mut service = layer.layer(Record::default().answers(secs(3)));
    let mut call = task::spawn(service.call(due(secs(10))));
    assert_eq!(only(&tracker).status, CallStatus::Pending);
    assert_pending!(call.poll());
    advance(secs(2)).await;

    let seen = only(&tracker);
    assert_eq!(seen.status, CallStatus::Running);
    assert_eq!((seen.elapsed, seen.time_left), (secs(2), Some(secs(8))));
    assert_eq!((seen.attempts, seen.stopping), (1, None));
    assert_eq!(seen.label.as_deref(), Some("qa"));
    assert_eq!(tracker.get(seen.id), Some(seen.clone()));
    assert_eq!(tracker.counts().running, 1);

    advance(secs(1)).await;
    assert_eq!(assert_ready!(call.poll()).unwrap(), "answer");
    assert!(tracker.is_empty());
    let done = tracker.get(seen.id).unwrap();
    assert_eq!(done, last(&tracker));
    assert_eq!(done.status, CallStatus::Completed);
    assert!(done.status.is_finished());
    assert_eq!((done.elapsed, done.time_left), (secs(3), Some(secs(7))));
    assert_pending!(call.poll());
    drop(call);
    let counts = tracker.counts();
    assert_eq!((counts.accepted, counts.completed, sum(counts)), (1, 1, 1));
    assert_eq!(counts.dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_is_reported_as_pending_at_any_depth() {
    let tracker = Tracker::new().with_history(9);
    let mut bare = task::spawn(Track::new(NeverReady, tracker.clone()).oneshot(request()));
    let limited = DeadlineLayer::new(secs(5)).layer(NeverReady);
    let mut limited = task::spawn(Track::new(limited, tracker.clone()).oneshot(request()));
    assert_pending!(bare.poll());
    assert_pending!(limited.poll());
    assert_eq!(tracker.counts().pending, 2);

    advance(secs(5)).await;
    elapsed(assert_ready!(limited.poll()));
    let call = last(&tracker);
    assert_eq!((call.status, call.attempts), (CallStatus::TimedOut, 0));
    drop(bare);
    let cause = Cause::Dropped;
    assert_eq!(last(&tracker).status, CallStatus::Cancelled { cause });
    assert_eq!(tracker.counts().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_a_call_by_its_kind() {
    let tracker = Tracker::new().with_history(9);
    let track = TrackLayer::new(tracker.clone());
    let stuck = || Record::default().answers(secs(60));
    let cancelled = |cause| CallStatus::Cancelled { cause };

    for limited in [
        track.layer(DeadlineLayer::new(secs(1)).layer(stuck()).boxed_clone()),
        track.layer(TimeoutLayer::new(secs(1)).layer(stuck()).boxed_clone()),
    ] {
        elapsed(limited.oneshot(request()).await);
        assert_eq!(last(&tracker).status, CallStatus::TimedOut);
    }

    // A node that is not in the call's own tree: only the error knows the cause.
    for cause in [Cause::ClientGone, Cause::Shutdown] {
        let node = Cancel::new();
        node.cancel(cause);
        let service = track.layer(CancelLayer::new().with_token(node).layer(stuck()));
        service.oneshot(request()).await.unwrap_err();
        assert_eq!(last(&tracker).status, cancelled(cause));
    }

    let failing = service_fn(async |_: Request| Err::<(), BoxError>("no".into()));
    track.layer(failing).oneshot(request()).await.unwrap_err();
    assert_eq!(last(&tracker).status, CallStatus::Failed);

    // A foreign error, of which the layer is told what it is.
    let foreign = service_fn(async |_: Request| Err::<(), u8>(4));
    let by_fn = track.clone().classify(|code: &u8| match code {
        4 => ErrorKind::Cancelled,
        _ => ErrorKind::Other,
    });
    by_fn.layer(foreign).oneshot(request()).await.unwrap_err();
    assert_eq!(last(&tracker).status, cancelled(Cause::Caller));

    let counts = tracker.counts();
    let ended = (counts.timed_out, counts.cancelled, counts.failed);
    assert_eq!((ended, counts.dropped), ((2, 3, 1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_ends_by_the_cause_of_the_drop() {
    let tracker = Tracker::new().with_history(1);
    let record = Record::default();
    let service = Track::new(record.answers(secs(60)), tracker.clone());
    for (cause, status) in [
        (Cause::Deadline, CallStatus::TimedOut),
        (Cause::Elapsed, CallStatus::TimedOut),
        (
            Cause::ClientGone,
            CallStatus::Cancelled {
                cause: Cause::ClientGone,
            },
        ),
    ] {
        let mut call = task::spawn(service.clone().oneshot(request()));
        assert_pending!(call.poll());
        drop_scope::with(cause, || drop(call));
        assert_eq!(last(&tracker).status, status);
    }
    // Before its first poll, too.
    drop(service.clone().call(request()));
    // And by a layer around it.
    elapsed(
        TimeoutLayer::new(secs(1))
            .layer(service)
            .oneshot(request())
            .await,
    );
    assert_eq!(last(&tracker).status, CallStatus::TimedOut);
    let counts = tracker.counts();
    assert_eq!(
        (counts.dropped, counts.cancelled, counts.timed_out),
        (5, 2, 3)
    );
    assert_eq!(record.drops().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_the_tracker_after_its_resources_are_dropped() {
    struct Held(Tracker);
    impl Drop for Held {
        fn drop(&mut self) {
            assert!(!self.0.is_empty());
        }
    }
    let tracker = Tracker::new();
    let held = tracker.clone();
    let work = move |request: Request| {
        let held = Held(held.clone());
        async move {
            let _held = held;
            sleep(request.context.deadline.unwrap().remaining() / 2).await;
            Ok::<_, BoxError>(())
        }
    };
    let service = Track::new(service_fn(work), tracker.clone());
    service.clone().oneshot(due(secs(2))).await.unwrap();
    let mut call = task::spawn(service.oneshot(due(secs(2))));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(tracker.counts().accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_call_is_recorded_as_failed() {
    let tracker = Tracker::new().with_history(1);
    let work = async |_: Request| -> Result<(), BoxError> { panic!("as planned") };
    let call = tokio::spawn(Track::new(service_fn(work), tracker.clone()).oneshot(request()));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(last(&tracker).status, CallStatus::Failed);
    assert_eq!(tracker.counts().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_tracked_outside_and_inside_a_retry() {
    let (outside, inside) = (
        Tracker::new().with_history(1),
        Tracker::new().with_history(9),
    );
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(outside.clone()))
        .layer(DeadlineLayer::new(secs(60)))
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(secs(1))))
        .layer(TrackLayer::new(inside.clone()))
        .service(Log::default().service(async |_| {
            sleep(secs(2)).await;
            Err::<_, Error>(busy(None))
        }));
    let mut call = pin!(service.oneshot(crate::script::request()));
    for attempts in [1, 2, 3] {
        assert_pending!(task::spawn(call.as_mut()).poll());
        assert_eq!(only(&outside).attempts, attempts);
        assert_eq!(only(&inside).attempts, attempts);
        assert_eq!(only(&inside).id, only(&outside).id);
        advance(secs(2)).await;
        if attempts < 3 {
            assert_pending!(task::spawn(call.as_mut()).poll());
            assert!(inside.is_empty());
            advance(secs(2)).await;
        }
    }
    call.await.unwrap_err();
    assert_eq!(last(&outside).attempts, 3);
    assert_eq!(last(&outside).status, CallStatus::Failed);
    let seen: Vec<_> = inside.history().iter().map(|call| call.attempts).collect();
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn call_ids_are_kept_and_can_be_shared() {
    let tracker = Tracker::new();
    let service = Track::new(
        service_fn(async |_: Request| pending::<Result<(), BoxError>>().await),
        tracker.clone(),
    );
    let mut given = request();
    let id = given.context.id();
    let mut calls = [
        service.clone().oneshot(given.clone()),
        service.clone().oneshot(request()),
        service.clone().oneshot(given),
    ]
    .map(task::spawn);
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    let ids: Vec<_> = tracker.calls().iter().map(|call| call.id).collect();
    assert_eq!((ids[0], ids[1]), (id, id));
    assert_ne!(ids[2], id);
    // Both are stopped, and only both.
    assert!(tracker.cancel(id).signalled());
    let stopping: Vec<_> = tracker.calls().iter().map(|call| call.stopping).collect();
    assert_eq!(stopping, [Some(Cause::Caller), Some(Cause::Caller), None]);
    drop(calls);
    assert!(tracker.is_empty() && tracker.get(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded() {
    let tracker = Tracker::new().with_history(3);
    let service = Track::new(Record::default().answers(secs(0)), tracker.clone());
    let mut ids = Vec::new();
    for _ in 0..5 {
        let mut request = request();
        ids.push(request.context.id());
        service.clone().oneshot(request).await.unwrap();
    }
    let kept: Vec<_> = tracker.history().iter().map(|call| call.id).collect();
    assert_eq!(kept, ids[2..]);
    assert_eq!(tracker.get(ids[1]), None);
    assert_eq!(tracker.clone().with_history(1).history().len(), 1);
    assert!(tracker.with_history(0).history().is_empty());
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<Tracker>();
    shared::<TrackLayer>();
    shared::<Track<Mocked>>();
    let tracker = Tracker::new();
    let mut service = TrackLayer::new(tracker.clone()).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    sent(&service.call(request()));
    assert_eq!(service.into_inner().delay, secs(2));
    assert!(format!("{tracker:?}").contains("accepted: 1"));
}
