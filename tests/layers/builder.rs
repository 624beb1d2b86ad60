use std::future::{pending, ready};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{Cause, Classify, DspyServiceBuilderExt, Error, ErrorKind};

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
async fn the_methods_stand_beside_towers_own() {
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
