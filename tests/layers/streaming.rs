//! Stacks around a streaming service: what they do ends at the response, and nothing is spliced.

use std::{future::ready, time::Duration};

use futures_util::StreamExt;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    AllotLayer, Backoff, Cancel, CancelLayer, Carrier, Cause, Classify, DeadlineLayer,
    DspyServiceBuilderExt, Error, ErrorKind, FallbackLayer, HedgeLayer, PredictRequest,
    PredictionStream, RetryLayer, Scope, Shutdown, ShutdownLayer, StandardStack,
    StreamTimeoutLayer, TimeoutLayer, TrackLayer, Tracker, drop_scope,
    testing::mock::{MockDspy, Reply},
};

use super::{
    script::{answer, request},
    stream_support::{Read, read},
    support::{secs, timed},
};

const NONE: Duration = Duration::ZERO;

fn at_once(retries: u32) -> RetryLayer {
    RetryLayer::new(retries).with_backoff(Backoff::fixed(NONE))
}

/// Two texts, 3 s apart, the first after 2 s, and the answer 3 s later.
fn steady() -> Reply {
    Reply::text("answer", ["a", "b"])
        .pause(secs(3))
        .after(secs(2))
}

/// The time to the response, and what the stream came to.
async fn ask<S>(service: S) -> (Duration, Result<Read, Error>)
where
    S: Service<PredictRequest, Response = PredictionStream, Error = Error>,
{
    match timed(service.oneshot(request())).await {
        (took, Ok(stream)) => (took, Ok(read(stream, NONE).await)),
        (took, Err(error)) => (took, Err(error)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_retried_before_its_first_event_only() {
    let mock = MockDspy::new([
        Reply::fail(ErrorKind::LmUnavailable),
        Reply::text("answer", ["a"]).then(Reply::fail(ErrorKind::LmUnavailable)),
    ]);
    let stack = ServiceBuilder::new()
        .layer(at_once(3))
        .service(mock.streaming());
    let read = ask(stack).await.1.unwrap();
    assert_eq!(
        (&*read.text, read.end.unwrap_err().kind()),
        ("a", ErrorKind::LmUnavailable)
    );
    assert_eq!(mock.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_hedge_is_dropped_at_the_first_event() {
    let mock = MockDspy::new([
        Reply::text("answer", ["slow"]).after(secs(9)),
        Reply::text("answer", ["qu", "ick"]).pause(secs(20)),
    ]);
    let stack = ServiceBuilder::new()
        .layer(HedgeLayer::after(secs(1)))
        .service(mock.streaming());
    let (took, stream) = timed(stack.oneshot(request())).await;
    assert_eq!(took, secs(1));
    assert_eq!(
        (mock.stopped(), mock.in_flight()),
        (vec![Cause::Superseded], 1)
    );
    let read = read(stream.unwrap(), NONE).await;
    assert_eq!((&*read.text, read.end.is_ok()), ("quick", true));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_in_place_of_a_first_event_and_adds_nothing_to_a_stream() {
    let failed = || Reply::fail(ErrorKind::Program);
    let mock = MockDspy::new([failed(), Reply::text("answer", ["a"]).then(failed())]);
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::with(|_: Error, _: PredictRequest| {
            ready(Ok(PredictionStream::from(answer("sorry"))))
        }))
        .service(mock.streaming());
    let first = ask(stack.clone()).await.1.unwrap();
    assert_eq!((&*first.text, first.end.unwrap()), ("", answer("sorry")));
    let second = ask(stack).await.1.unwrap();
    assert_eq!(
        (&*second.text, second.end.unwrap_err().kind()),
        ("a", ErrorKind::Program)
    );

    let (mock, other) = (
        MockDspy::new([failed()]),
        MockDspy::new([Reply::text("answer", ["b"])]),
    );
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::service(other.streaming()))
        .service(mock.streaming());
    assert_eq!(ask(stack).await.1.unwrap().text, "b");
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_an_attempt_and_a_share_end_with_the_response() {
    let mock = MockDspy::from_fn(|call| match call.attempt {
        0 => steady(),
        _ => Reply::hang(),
    });
    let stack = ServiceBuilder::new()
        .layer(AllotLayer::all_but(secs(0)).with_default(secs(4)))
        .layer(TimeoutLayer::new(secs(3)))
        .service(mock.streaming());
    let (took, read) = ask(stack.clone()).await;
    let read = read.unwrap();
    assert_eq!((took, read.took, &*read.text), (secs(2), secs(6), "ab"));
    assert!(read.end.is_ok());
    let mut late = request();
    late.context_mut().attempt = 1;
    let (took, late) = timed(stack.oneshot(late)).await;
    assert_eq!(
        (took, late.unwrap_err().kind()),
        (secs(3), ErrorKind::Elapsed)
    );
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_and_a_cancellation_last_until_the_end_of_the_stream() {
    let mock = MockDspy::from_fn(|_| Reply::text("answer", ["a"]).then(Reply::hang()));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(9)))
        .layer(CancelLayer::new())
        .layer(TimeoutLayer::new(secs(3)))
        .service(mock.streaming());
    let timed_out = ask(stack.clone()).await.1.unwrap();
    assert_eq!(
        (timed_out.took, timed_out.elapsed()),
        (secs(9), (Scope::Deadline, secs(9)))
    );

    let cancel = Cancel::new();
    let request = request().with_cancel(cancel.clone());
    let stream = stack.oneshot(request).await.unwrap();
    let reader = tokio::spawn(read(stream, NONE));
    tokio::time::sleep(secs(1)).await;
    cancel.cancel(Cause::Caller);
    let error = reader.await.unwrap().end.unwrap_err();
    assert_eq!(error.cancel_cause(), Some(Cause::Caller));
    assert_eq!(mock.stopped(), [Cause::Deadline, Cause::Caller]);
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_standard_stack_goes_around_a_stream() {
    let mock = MockDspy::new([
        Reply::hang(),
        Reply::fail(ErrorKind::LmUnavailable),
        steady(),
        Reply::text("answer", ["a"]).then(Reply::hang()),
        Reply::text("answer", ["a"]).then(Reply::hang()),
    ]);
    let (shutdown, tracker) = (Shutdown::new(), Tracker::new());
    let stack = ServiceBuilder::new()
        .standard_stack(
            StandardStack::new()
                .with_retry(at_once(2))
                .with_shutdown(shutdown.clone())
                .with_tracker(tracker.clone()),
        )
        .layer(StreamTimeoutLayer::new().with_idle(secs(12)))
        .service(mock.streaming());
    let (took, whole) = ask(stack.clone()).await;
    let whole = whole.unwrap();
    assert_eq!((took, &*whole.text), (secs(10) + secs(2), "ab"));
    assert_eq!(whole.end.unwrap().outputs["answer"], "ab");
    assert_eq!((tracker.counts().completed, shutdown.in_flight()), (1, 0));

    let idle = ask(stack.clone()).await.1.unwrap();
    assert_eq!(idle.elapsed(), (Scope::Idle, secs(12)));
    assert_eq!((tracker.counts().timed_out, shutdown.in_flight()), (1, 0));

    // It is under way until the stream has ended.
    let mut stream = stack.oneshot(request()).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!((tracker.counts().live(), shutdown.in_flight()), (1, 1));
    drop(stream);
    assert_eq!((tracker.counts().live(), shutdown.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_reports_a_stream_that_was_left_as_cancelled() {
    let mock = MockDspy::new([0; 3].map(|_| Reply::text("answer", ["a"]).then(Reply::hang())));
    let shutdown = Shutdown::new();
    let service = ServiceBuilder::new()
        .layer(ShutdownLayer::new(shutdown.clone()))
        .service(mock.streaming());
    for cause in [Cause::Dropped, Cause::ClientGone, Cause::Elapsed] {
        let mut stream = service.clone().oneshot(request()).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        drop_scope::with(cause, || drop(stream));
    }
    let report = shutdown.run(NONE, NONE).await;
    // A limit that passes is a failure.
    assert_eq!((report.cancelled, report.failed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_many_calls_ends_the_stream_of_a_call_that_has_a_node_of_its_own() {
    for is_outer in [true, false] {
        let (outer, inner) = (Cancel::new(), Cancel::new());
        let mock = MockDspy::new([steady()]);
        let stack = ServiceBuilder::new()
            .layer(CancelLayer::new().with_token(&outer))
            .layer(CancelLayer::new().with_token(&inner))
            .service(mock.streaming());
        let request = request().with_cancel(Cancel::new());
        let mut stream = stack.oneshot(request).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let token = if is_outer { outer } else { inner };
        token.cancel(Cause::Superseded);
        let (took, end) = timed(stream.next()).await;
        let error = end.unwrap().unwrap_err();
        assert_eq!(
            (took, error.cancel_cause()),
            (NONE, Some(Cause::Superseded))
        );
        assert_eq!(mock.stopped(), [Cause::Superseded]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_inside_the_limit_of_an_attempt_bounds_the_stream_by_its_own() {
    // What is left of the attempt is not what is left of the call.
    let within = [
        (DeadlineLayer::new(secs(4)), secs(4)),
        (DeadlineLayer::new(secs(60)), secs(8)),
        (DeadlineLayer::from_context().with_reserve(secs(1)), secs(8)),
        (DeadlineLayer::new(secs(7)).with_reserve(secs(1)), secs(6)),
    ];
    for (deadline, ends) in within {
        let mock = MockDspy::new([steady()]);
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(3)))
            .layer(deadline.clone())
            .service(mock.streaming());
        let (took, read) = timed(ask(stack)).await;
        let end = read.1.unwrap().end;
        assert_eq!((took, end.is_ok()), (ends, ends == secs(8)), "{deadline:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_until_the_first_content_leaves_the_total_of_a_stream() {
    let mock = MockDspy::new([steady()]);
    let stack = ServiceBuilder::new()
        .layer(StreamTimeoutLayer::new().with_total(secs(6)))
        .layer(DeadlineLayer::new(secs(3)).until_first_content())
        .service(mock.streaming());
    // Not by the layer, which is not polled.
    let stream = stack.oneshot(request()).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    let read = read(stream, NONE).await;
    match read.end {
        Err(Error::Elapsed(elapsed)) => {
            assert_eq!((elapsed.scope(), elapsed.limit()), (Scope::Total, secs(6)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reads_a_stream_and_answers_with_something_else_is_completed() {
    let (tracker, shutdown) = (Tracker::new(), Shutdown::new());
    let streaming = MockDspy::new([steady()]).streaming();
    let first_text = tower::service_fn(move |request: PredictRequest| {
        let stream = streaming.clone().oneshot(request);
        async move {
            let mut stream = stream.await?;
            Ok::<_, Error>(stream.next().await.is_some())
        }
    });
    let stack = ServiceBuilder::new()
        .layer(ShutdownLayer::new(shutdown.clone()))
        .layer(TrackLayer::new(tracker.clone()))
        .service(first_text);
    assert!(stack.oneshot(request()).await.unwrap());
    let report = shutdown.run(NONE, NONE).await;
    assert_eq!((tracker.counts().completed, report.completed), (1, 1));
}
