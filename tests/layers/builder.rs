use std::{
    future::{pending, ready},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Cause, Classify, Deadline, DspyServiceBuilderExt, Error, ErrorKind, Latency, Percentile,
    PredictRequest, Prediction, Session, Shutdown, StandardStack, Tracker,
};

use crate::{
    script::{Log, answer, request, too_slow},
    support::{millis, secs},
};

#[tokio::test(start_paused = true)]
async fn each_method_adds_its_layer() {
    let log = Log::default();
    let stuck = log.service(|_| pending());
    let start = Instant::now();
    let error = ServiceBuilder::new()
        .deadline(secs(10))
        .service(stuck.clone())
        .oneshot(request())
        .await
        .expect_err("stuck");
    assert_eq!(
        (error.kind(), start.elapsed()),
        (ErrorKind::Deadline, secs(10))
    );

    let error = ServiceBuilder::new()
        .attempt_timeout(secs(4))
        .service(stuck.clone())
        .oneshot(request())
        .await
        .expect_err("stuck");
    assert_eq!(
        (error.kind(), start.elapsed()),
        (ErrorKind::Elapsed, secs(14))
    );

    let token = CancellationToken::new();
    let call = ServiceBuilder::new()
        .cancellable()
        .service(stuck)
        .oneshot(request().with_cancel(token.clone()));
    let (result, ()) = tokio::join!(call, async { token.cancel() });
    assert!(matches!(
        result,
        Err(Error::Cancelled(cancelled)) if cancelled.cause() == Cause::Caller
    ));

    let log = Log::default();
    let failing = log.service(|_| ready(Err(too_slow())));
    let result = ServiceBuilder::new().retries(2).service(failing.clone());
    assert!(result.oneshot(request()).await.is_err());
    assert_eq!(log.len(), 3);

    let result = ServiceBuilder::new()
        .fallback_value(answer("value"))
        .service(failing.clone());
    assert_eq!(
        result.oneshot(request()).await.expect("the value"),
        answer("value")
    );

    let second = Log::default().service(|_| ready(Ok(answer("second"))));
    let result = ServiceBuilder::new()
        .fallback_service(second)
        .service(failing);
    assert_eq!(
        result.oneshot(request()).await.expect("the second's"),
        answer("second")
    );
}

#[tokio::test(start_paused = true)]
async fn the_methods_mix_with_those_of_tower() {
    let log = Log::default();
    let start = Instant::now();
    let service = ServiceBuilder::new()
        .deadline(secs(10))
        .cancellable()
        .fallback_value(answer("value"))
        .retries(1)
        .attempt_timeout(secs(4))
        .concurrency_limit(1)
        .service(log.service(|_| pending()));
    let result = timeout(secs(60), service.oneshot(request())).await;
    assert_eq!(
        result.expect("in time").expect("the value"),
        answer("value")
    );
    // Two attempts of 4 s, and a wait of at most 100 ms between them.
    assert_eq!(log.len(), 2);
    assert!((secs(8)..=millis(8_101)).contains(&start.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn the_remaining_methods_add_their_layers() {
    let stuck = || Log::default().service(|_| pending());
    let start = Instant::now();
    async fn took(
        call: impl Future<Output = Result<Prediction, Error>>,
    ) -> (Result<Prediction, ErrorKind>, Duration) {
        let start = Instant::now();
        let result = call.await;
        (result.map_err(|error| error.kind()), start.elapsed())
    }

    let session = Session::within(secs(3));
    let service = ServiceBuilder::new().session(session).service(stuck());
    let call = took(service.oneshot(request())).await;
    assert_eq!(call, (Err(ErrorKind::Deadline), secs(3)));

    let due = || request().with_deadline(Deadline::within(secs(9)));
    let stuck_service = stuck();
    for (service, at) in [
        (
            ServiceBuilder::new()
                .allot_even(3)
                .service(stuck_service.clone()),
            3,
        ),
        (
            ServiceBuilder::new()
                .allot_all_but(secs(2))
                .service(stuck_service.clone()),
            7,
        ),
    ] {
        let call = took(service.oneshot(due())).await;
        assert_eq!(call, (Err(ErrorKind::Elapsed), secs(at)));
    }
    let service = ServiceBuilder::new()
        .deadline_from_context()
        .service(stuck());
    let call = took(service.oneshot(due())).await;
    assert_eq!(call, (Err(ErrorKind::Deadline), secs(9)));
    assert_eq!(start.elapsed(), secs(3 + 3 + 7 + 9));

    let late_then_quick = |n| async move {
        if n == 0 {
            pending::<()>().await;
        }
        Ok(answer("second"))
    };
    let log = Log::default();
    let service = ServiceBuilder::new()
        .hedge_after(secs(2))
        .service(log.service(late_then_quick));
    let call = took(service.oneshot(request())).await;
    assert_eq!(call, (Ok(answer("second")), secs(2)));

    let latency = Latency::default();
    let service = ServiceBuilder::new()
        .hedge(Percentile::P95)
        .record_latency(latency.clone(), Percentile::P95)
        .service(Log::default().service(|_| ready(Ok(answer("quick")))));
    assert!(service.oneshot(request()).await.is_ok());
    assert_eq!(latency.samples(), 1);

    let once = Log::default().service(|n| {
        ready(if n == 0 {
            Ok(answer("first"))
        } else {
            Err(too_slow())
        })
    });
    let service = ServiceBuilder::new()
        .fallback_with(|_: Error, _: PredictRequest| ready(Ok(answer("closure"))))
        .fallback_stale(secs(60))
        .service(once);
    for age in [None, Some(secs(0))] {
        let prediction = service
            .clone()
            .oneshot(request())
            .await
            .expect("the first's");
        assert_eq!(
            (prediction.get("answer"), prediction.stale_age),
            (answer("first").get("answer"), age)
        );
    }
    tokio::time::advance(secs(61)).await;
    let result = service.oneshot(request()).await;
    assert_eq!(result.expect("the closure's"), answer("closure"));

    let (shutdown, tracker) = (Shutdown::new(), Tracker::new());
    let service = ServiceBuilder::new()
        .shutdown(shutdown.clone())
        .tracked(tracker.clone())
        .standard_stack(StandardStack::new())
        .service(Log::default().service(|_| ready(Ok(answer("quick")))));
    assert!(service.clone().oneshot(request()).await.is_ok());
    assert_eq!(tracker.counts().completed, 1);
    shutdown.run(secs(0), secs(0)).await;
    let refused = service.oneshot(request()).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ShuttingDown);
}
