//! The limits of a streamed answer.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cause, Classify, Deadline, DeadlineLayer, DspyServiceBuilderExt, Error, ErrorKind,
    PredictRequest, PredictionStream, RetryLayer, Scope, Stage, StreamEvent, StreamTimeoutLayer,
    TimeoutLayer,
    testing::mock::{CallEnd, MockDspy, Reply},
};

use super::{
    script::{answer, request},
    stream_support::{Drops, foreign, read},
    support::{millis, secs, timed},
};

const NONE: Duration = Duration::ZERO;

fn limits() -> StreamTimeoutLayer {
    StreamTimeoutLayer::new()
}

/// Two texts, 3 s apart, the first after 2 s, and the answer 3 s later.
fn steady() -> Reply {
    Reply::text("answer", ["a", "b"])
        .pause(secs(3))
        .after(secs(2))
}

async fn ask<S>(service: S) -> (Duration, Result<PredictionStream, Error>)
where
    S: Service<PredictRequest, Response = PredictionStream, Error = Error>,
{
    timed(service.oneshot(request())).await
}

#[track_caller]
fn elapsed(result: Result<PredictionStream, Error>) -> (Scope, Stage, Duration) {
    match result {
        Err(Error::Elapsed(elapsed)) => (elapsed.scope(), elapsed.stage(), elapsed.limit()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_limits_nothing_ends() {
    let mock = MockDspy::new([Reply::text("answer", ["a"])
        .pause(secs(86_400))
        .after(secs(9_999))]);
    let (_, stream) = ask(limits().layer(mock.streaming())).await;
    let read = read(stream.unwrap(), NONE).await;
    assert_eq!((&*read.text, read.took), ("a", secs(86_400)));
    assert_eq!(read.end.unwrap().outputs["answer"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_late_first_event_is_the_error_of_the_response() {
    for (limit, comes) in [(1_999, false), (2_000, true), (2_001, true)] {
        let mock = MockDspy::new([steady()]);
        let service = limits().with_first_content(millis(limit));
        let (took, result) = ask(service.layer(mock.streaming())).await;
        assert_eq!(took, millis(limit.min(2_000)));
        if comes {
            // The limit has ended with the response.
            let read = read(result.unwrap(), NONE).await;
            assert_eq!((&*read.text, read.end.is_ok()), ("ab", true));
            assert_eq!(mock.calls()[0].end, Some(CallEnd::Answered));
        } else {
            let expected = (Scope::FirstContent, Stage::Running, millis(limit));
            assert_eq!(elapsed(result), expected);
            assert_eq!(mock.stopped(), [Cause::Elapsed]);
        }
        assert_eq!(mock.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_the_instant_of_the_idle_limit_wins() {
    for (limit, comes) in [(2_999, false), (3_000, true)] {
        let mock = MockDspy::new([steady()]);
        let service = limits().with_idle(millis(limit)).layer(mock.streaming());
        let (took, stream) = ask(service).await;
        assert_eq!(took, secs(2));
        let read = read(stream.unwrap(), NONE).await;
        if comes {
            assert_eq!((&*read.text, read.end.is_ok()), ("ab", true));
        } else {
            assert_eq!((&*read.text, read.took), ("a", millis(limit)));
            assert_eq!(read.elapsed(), (Scope::Idle, millis(limit)));
            assert_eq!(read.end.unwrap_err().kind(), ErrorKind::Elapsed);
            assert_eq!(mock.stopped(), [Cause::Elapsed]);
            assert_eq!(mock.in_flight(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_runs_from_the_call_to_the_end() {
    for (limit, comes) in [(7_999, false), (8_000, true)] {
        let mock = MockDspy::new([steady()]);
        let service = limits().with_total(millis(limit)).layer(mock.streaming());
        let (_, stream) = ask(service).await;
        let read = read(stream.unwrap(), NONE).await;
        assert_eq!(read.text, "ab");
        assert_eq!(read.took, millis(limit - 2_000));
        if comes {
            assert!(read.end.is_ok());
        } else {
            assert_eq!(read.elapsed(), (Scope::Total, millis(limit)));
            assert_eq!(read.end.unwrap_err().kind(), ErrorKind::Elapsed);
        }
        assert_eq!(mock.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_limits_the_response_too_and_is_named_at_a_tie() {
    for first in [3, 4, 9] {
        let mock = MockDspy::new([Reply::hang()]);
        let service = limits().with_total(secs(4)).with_first_content(secs(first));
        let (took, result) = ask(service.layer(mock.streaming())).await;
        let scope = if first < 4 {
            Scope::FirstContent
        } else {
            Scope::Total
        };
        assert_eq!(took, secs(first.min(4)));
        assert_eq!(elapsed(result), (scope, Stage::Running, took));
        assert_eq!(mock.stopped(), [Cause::Elapsed]);
    }
    // Between two events as well.
    let mock = MockDspy::new([Reply::text("answer", ["a"]).then(Reply::hang())]);
    let service = limits().with_total(secs(4)).with_idle(secs(4));
    let (_, stream) = ask(service.layer(mock.streaming())).await;
    let read = read(stream.unwrap(), NONE).await;
    assert_eq!(read.elapsed(), (Scope::Total, secs(4)));
}

/// A service that knows nothing of the context.
#[tokio::test(start_paused = true)]
async fn a_foreign_stream_is_ended_and_dropped_with_the_cause() {
    for (layer, scope, took) in [
        (limits().with_idle(secs(2)), Scope::Idle, 1 + 2),
        (limits().with_total(secs(9)), Scope::Total, 9),
        (
            limits().with_idle(secs(2)).with_total(secs(3)),
            Scope::Total,
            3,
        ),
    ] {
        let drops = Drops::default();
        let work = drops.clone();
        let service = service_fn(move |_: PredictRequest| {
            let stream = foreign(&[secs(1)], true, &work);
            async move { Ok::<_, Error>(stream) }
        });
        let (_, stream) = ask(layer.layer(service)).await;
        let mut stream = stream.unwrap();
        let start = Instant::now();
        assert!(stream.next().await.unwrap().is_ok());
        let Some(Err(Error::Elapsed(error))) = stream.next().await else {
            panic!("no limit passed");
        };
        assert_eq!((error.scope(), error.stage()), (scope, Stage::Running));
        assert_eq!(start.elapsed(), secs(took));
        // The stream is still there; its work is not.
        assert_eq!(*drops.lock().unwrap(), [Cause::Elapsed]);
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_drops_the_work_without_a_cause() {
    let mock = MockDspy::new([Reply::text("answer", ["a"]).then(Reply::hang())]);
    let layer = limits().with_idle(secs(5)).with_total(secs(5));
    let (_, stream) = ask(layer.layer(mock.streaming())).await;
    let mut stream = task::spawn(stream.unwrap());
    assert!(stream.poll_next().is_ready());
    assert_pending!(stream.poll_next());
    advance(secs(1)).await;
    assert_eq!(mock.in_flight(), 1);
    drop(stream);
    assert_eq!(
        (mock.stopped(), mock.in_flight()),
        (vec![Cause::Dropped], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_poll_is_not_idle() {
    let mock = MockDspy::new([steady()]);
    let service = limits().with_idle(secs(4)).layer(mock.streaming());
    let (_, stream) = ask(service).await;
    // Each event is read long after it came.
    let read = read(stream.unwrap(), secs(60)).await;
    assert_eq!((&*read.text, read.end.is_ok()), ("ab", true));

    // The time that it did not poll does not count: each wait has the whole limit.
    let drops = Drops::default();
    let work = drops.clone();
    let service = service_fn(move |_: PredictRequest| {
        let stream = foreign(&[secs(0), secs(3), secs(3)], true, &work);
        async move { Ok::<_, Error>(stream) }
    });
    let (_, stream) = ask(limits().with_idle(secs(4)).layer(service)).await;
    let read = super::stream_support::read(stream.unwrap(), secs(60)).await;
    assert_eq!(read.text, "aaa");
    assert_eq!(read.elapsed(), (Scope::Idle, secs(4)));
    assert_eq!(read.took, secs(60 + 3 + 60 + 3 + 60 + 4));
}

#[tokio::test(start_paused = true)]
async fn the_total_runs_while_the_reader_does_not_poll() {
    let mock = MockDspy::new([steady()]);
    let service = limits().with_total(secs(6)).layer(mock.streaming());
    let (_, stream) = ask(service).await;
    // What came in time is still given out.
    let read = read(stream.unwrap(), secs(30)).await;
    assert_eq!((&*read.text, read.took), ("ab", secs(60)));
    assert_eq!(read.elapsed(), (Scope::Total, secs(6)));
    assert_eq!(mock.in_flight(), 0);

    // An answer that was there in time is an answer, read when it may be.
    let mock = MockDspy::new([steady()]);
    let service = limits().with_total(secs(8)).layer(mock.streaming());
    let (_, stream) = ask(service).await;
    let read = super::stream_support::read(stream.unwrap(), secs(30)).await;
    assert!(read.end.is_ok(), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_and_taken_up_again_is_one_wait() {
    let mock = MockDspy::new([Reply::text("answer", ["a"]).then(Reply::hang())]);
    let (_, stream) = ask(limits().with_idle(secs(4)).layer(mock.streaming())).await;
    let mut stream = stream.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    let start = Instant::now();
    for _ in 0..3 {
        let next = tokio::time::timeout(secs(1), stream.next()).await;
        assert!(next.is_err());
    }
    assert!(stream.next().await.unwrap().is_err());
    assert_eq!(start.elapsed(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_attempt_ends_with_the_response() {
    let mock = MockDspy::new([steady(), Reply::hang()]);
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(3)))
        .layer(limits().with_first_content(secs(9)).with_total(secs(7)))
        .service(mock.streaming());
    let (_, stream) = ask(service.clone()).await;
    let read = read(stream.unwrap(), NONE).await;
    // Longer than the attempt, and as long as the total.
    assert_eq!((&*read.text, read.took), ("ab", secs(5)));
    assert_eq!(read.elapsed(), (Scope::Total, secs(7)));

    let (took, result) = ask(service).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result), (Scope::Attempt, Stage::Running, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_the_whole_stream_and_is_named_at_a_tie() {
    for (deadline, total, scope) in [
        (6, 9, Scope::Deadline),
        (6, 6, Scope::Deadline),
        (9, 6, Scope::Total),
    ] {
        let mock = MockDspy::from_fn(|_| steady());
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::new(secs(deadline)))
            .stream_timeout(limits().with_first_content(secs(3)).with_total(secs(total)))
            .service(mock.streaming());
        let (_, stream) = ask(service.clone()).await;
        let read = read(stream.unwrap(), NONE).await;
        assert_eq!((&*read.text, read.took), ("ab", secs(4)));
        assert_eq!(read.elapsed(), (scope, secs(6)));
        assert_eq!(mock.in_flight(), 0);

        // The same from the wire.
        let inner = limits().with_total(secs(total)).layer(mock.streaming());
        let due = request().with_deadline(Deadline::within(secs(deadline)));
        let stream = inner.oneshot(due).await.unwrap();
        let read = super::stream_support::read(stream, NONE).await;
        assert_eq!(read.elapsed(), (scope, secs(6)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_event_that_is_late_is_retried_and_a_later_limit_is_not() {
    let mock = MockDspy::new([
        Reply::hang(),
        Reply::text("answer", ["a"]).then(Reply::hang()),
    ]);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(3))
        .layer(limits().with_first_content(secs(2)).with_idle(secs(5)))
        .service(mock.streaming());
    let (_, stream) = ask(service).await;
    let read = read(stream.unwrap(), NONE).await;
    assert_eq!(read.text, "a");
    assert_eq!(read.elapsed(), (Scope::Idle, secs(5)));
    assert_eq!(mock.calls().len(), 2);
    assert_eq!(mock.stopped(), [Cause::Elapsed, Cause::Elapsed]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_any_duration_is_accepted() {
    let mock = MockDspy::from_fn(|_| steady());
    let max = Duration::MAX;
    let layer = limits()
        .with_first_content(max)
        .with_idle(max)
        .with_total(max);
    let (_, stream) = ask(layer.layer(mock.streaming())).await;
    assert!(read(stream.unwrap(), NONE).await.end.is_ok());

    // No time at all: what is ready at once still comes.
    let service = service_fn(|_: PredictRequest| async {
        let events = [StreamEvent::Done(answer("a").into())];
        Ok::<_, Error>(PredictionStream::new(stream::iter(events.map(Ok))))
    });
    let layer = limits()
        .with_first_content(NONE)
        .with_idle(NONE)
        .with_total(NONE);
    let (_, stream) = ask(layer.layer(service)).await;
    let read = read(stream.unwrap(), NONE).await;
    assert!(read.end.is_ok(), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_past_deadline_is_refused_without_a_call() {
    let mock = MockDspy::new([Reply::hang()]);
    let due = request().with_deadline(Deadline::within(secs(1)));
    sleep(secs(1)).await;
    let service = limits().with_first_content(secs(4)).layer(mock.streaming());
    let refused = service.oneshot(due).await;
    let expected = (Scope::Deadline, Stage::BeforeStart, NONE);
    assert_eq!(elapsed(refused), expected);
    assert!(mock.calls().is_empty());
}

#[test]
fn the_errors_say_which_limit_passed() {
    for (scope, shown) in [
        (
            Scope::FirstContent,
            "the limit until the first event of the stream (4s) passed; the call was told to stop",
        ),
        (
            Scope::Idle,
            "the limit between two events of the stream (4s) passed; the call was told to stop",
        ),
        (
            Scope::Total,
            "the limit of the whole stream (4s) passed; the call was told to stop",
        ),
    ] {
        let elapsed = tower_dspy::Elapsed::new(scope, Stage::Running, secs(4));
        assert_eq!(elapsed.to_string(), shown);
    }
    let names = [Scope::FirstContent, Scope::Idle, Scope::Total].map(|scope| json!(scope));
    assert_eq!(
        names,
        ["first_content", "idle", "total"].map(|name| json!(name))
    );
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send + 'static>(_: &T) {}
    let mock = MockDspy::new([Reply::hang()]);
    let mut service = limits().layer(mock.streaming());
    shared(&limits());
    shared(&service);
    let _: &tower_dspy::testing::mock::MockStreaming = service.get_ref();
    let _ = service.get_mut();
    sent(&service.call(request()));
    drop(service.into_inner());
}
