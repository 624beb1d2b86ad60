use std::future::{pending, ready};

use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Backoff, CallStatus, Cancel, CancelLayer, Cause, Classify, DeadlineLayer,
    DspyServiceBuilderExt, Elapsed, Error, ErrorKind, FallbackLayer, HedgeLayer, PredictRequest,
    Prediction, RetryLayer, Scope, Shutdown, StackConfig, StandardStack, TimeoutLayer, Tracker,
};

use crate::{
    script::{Log, answer, busy, request, too_slow},
    support::{millis, secs},
};

/// Retries at once, so that times can be told.
fn at_once(retries: u32) -> RetryLayer {
    RetryLayer::new(retries).with_backoff(Backoff::fixed(secs(0)))
}

fn from(config: &str) -> StandardStack {
    let config: StackConfig = toml::from_str(config).expect("well formed");
    config.layer().expect("allowed")
}

async fn ask<S>(service: S) -> (Result<Prediction, Error>, std::time::Duration)
where
    S: Service<PredictRequest, Response = Prediction, Error = Error>,
{
    let start = Instant::now();
    let result = service.oneshot(request()).await;
    (result, start.elapsed())
}

fn elapsed_scope(result: Result<Prediction, Error>) -> Scope {
    match result {
        Err(Error::Elapsed(elapsed)) => Elapsed::scope(&elapsed),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_three_attempts_of_ten_seconds_in_thirty() {
    let log = Log::default();
    let service = ServiceBuilder::new()
        .standard_stack(StandardStack::new().with_retry(at_once(2)))
        .service(log.service(|_| pending()));
    let (result, took) = ask(service).await;
    assert_eq!((log.len(), took), (3, secs(30)));
    assert_eq!(elapsed_scope(result), Scope::Deadline);
    let attempts: Vec<_> = log.calls().iter().map(|(_, call)| call.attempt).collect();
    assert_eq!(attempts, [0, 1, 2]);

    // The stack's own backoff too leaves the third attempt less than its 10 s.
    let log = Log::default();
    let service = ServiceBuilder::new()
        .layer(StandardStack::default())
        .service(log.service(|_| pending()));
    assert_eq!((ask(service).await.1, log.len()), (secs(30), 3));
}

#[tokio::test(start_paused = true)]
async fn all_layers_together_are_in_the_documented_order() {
    let (shutdown, tracker) = (Shutdown::new(), Tracker::new().with_history(9));
    let log = Log::default();
    let stack = from("deadline = \"10s\"\nattempt_timeout = \"2s\"\nhedge = { after = \"1s\" }")
        .with_shutdown(shutdown.clone())
        .with_tracker(tracker.clone())
        .with_fallback(FallbackLayer::value(answer("value")))
        .with_retry(at_once(1));
    let service = ServiceBuilder::new()
        .layer(stack)
        .service(log.service(|_| pending()));

    // Two attempts, each followed by a hedge after 1 s, which has 2 s of its own: 3 s each.
    let (result, took) = ask(service.clone()).await;
    assert_eq!(result.expect("the fallback's"), answer("value"));
    assert_eq!((log.len(), took), (4, secs(6)));
    assert_eq!(tracker.history()[0].status, CallStatus::Completed);

    // Tracked around the deadline and the fallback, and refused around the tracker.
    shutdown.run(secs(0), secs(0)).await;
    let (result, took) = ask(service).await;
    let error = result.expect_err("refused");
    assert_eq!((error.kind(), took), (ErrorKind::ShuttingDown, secs(0)));
    assert_eq!(tracker.history().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_wait_for_readiness() {
    let log = Log::default();
    let service = ServiceBuilder::new()
        .layer(from("deadline = \"5s\""))
        .concurrency_limit(1)
        .service(log.service(|_| pending()));
    let (first, second) = tokio::join!(ask(service.clone()), ask(service));
    assert_eq!((first.1, second.1), (secs(5), secs(5)));
    assert_eq!(elapsed_scope(second.0), Scope::Deadline);
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_backoff_ends_the_call() {
    let log = Log::default();
    let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(secs(20)));
    let service = ServiceBuilder::new()
        .layer(StandardStack::new().with_retry(retry))
        .service(log.service(|_| ready(Err(too_slow()))));
    let cancel = Cancel::new();
    let start = Instant::now();
    let call = service.oneshot(request().with_cancel(cancel.clone()));
    let (result, ()) = tokio::join!(call, async {
        sleep(secs(1)).await;
        cancel.cancel(Cause::ClientGone);
    });
    assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!((start.elapsed(), log.len()), (secs(1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_left_out_does_not_change_the_type() {
    // One type, whatever the configuration says.
    let mut stacks = vec![StandardStack::new()];
    for config in [
        "retry = false",
        "attempt_timeout = false",
        "deadline = false\nattempt_timeout = \"7s\"\nretry = false",
        "hedge = true",
    ] {
        stacks.push(from(config));
    }
    let mut seen = Vec::new();
    for stack in stacks {
        let log = Log::default();
        let service = ServiceBuilder::new()
            .layer(stack)
            .service(log.service(|_| pending()));
        let (result, took) = ask(service).await;
        seen.push((log.len(), took.as_secs(), elapsed_scope(result)));
    }
    let (attempt, deadline) = (Scope::Attempt, Scope::Deadline);
    assert_eq!(
        seen,
        [
            (3, 30, deadline),
            (1, 10, attempt),
            (1, 30, deadline),
            (1, 7, attempt),
            // Nothing is learnt yet, so there is no hedge.
            (3, 30, deadline),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_layer_can_be_set_or_removed_in_code() {
    let log = Log::default();
    let stack = StandardStack::new()
        .with_deadline(DeadlineLayer::new(secs(8)))
        .with_cancel(CancelLayer::new().with_token(Cancel::new()))
        .with_retry(None)
        .with_hedge(HedgeLayer::after(secs(1)))
        .with_attempt_timeout(TimeoutLayer::new(secs(3)));
    let service = ServiceBuilder::new()
        .layer(stack.clone())
        .service(log.service(|_| pending()));
    let (result, took) = ask(service).await;
    assert_eq!((log.len(), took), (2, secs(4)));
    assert_eq!(elapsed_scope(result), Scope::Attempt);

    let log = Log::default();
    let service = ServiceBuilder::new()
        .layer(
            stack
                .with_hedge(None)
                .with_attempt_timeout(None)
                .with_track(None),
        )
        .service(log.service(|_| pending()));
    assert_eq!((ask(service).await.1, log.len()), (secs(8), 1));
}

#[tokio::test(start_paused = true)]
async fn the_configuration_tunes_the_fallback() {
    let config = "deadline = \"10s\"\nattempt_timeout = false\n\
                  fallback = { reserve = \"3s\", on = [\"elapsed\"] }";
    let value = || FallbackLayer::value(answer("value"));
    // The reserve passes as a limit of the first attempt.
    let service = ServiceBuilder::new()
        .layer(from(config).with_fallback(value().with_reserve(secs(1))))
        .service(Log::default().service(|_| pending()));
    let (result, took) = ask(service).await;
    assert_eq!(
        (result.expect("the value"), took),
        (answer("value"), secs(7))
    );

    let failing = || Log::default().service(|_| ready(Err(busy(None))));
    let service = ServiceBuilder::new()
        .layer(from(config).with_retry(None).with_fallback(value()))
        .service(failing());
    let error = ask(service).await.0.expect_err("of another kind");
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);

    // What it does not name is the layer's.
    let layer = value().on_kinds([ErrorKind::LmUnavailable]);
    let service = ServiceBuilder::new()
        .layer(StandardStack::new().with_retry(None).with_fallback(layer))
        .service(failing());
    assert_eq!(ask(service).await.0.expect("the value"), answer("value"));
}

#[tokio::test(start_paused = true)]
async fn the_grace_applies_to_every_way_to_end_the_call() {
    // Cleans up for 300 ms, once it is told to stop.
    let tidy = service_fn(|request: PredictRequest| async move {
        let signal =
            tower_dspy::Carrier::context(&request).and_then(|c| c.cancel.cancelled_owned());
        signal.expect("a node").await;
        sleep(millis(300)).await;
        Ok::<_, Error>(answer("tidied"))
    });
    let grace = "grace = \"500ms\"\nretry = false\n";
    for (config, took) in [
        ("deadline = \"2s\"\nattempt_timeout = false", millis(2_300)),
        ("deadline = \"5s\"\nattempt_timeout = \"1s\"", millis(1_300)),
    ] {
        let service = ServiceBuilder::new()
            .layer(from(&format!("{grace}{config}")))
            .service(tidy);
        assert_eq!(ask(service).await.1, took);
    }
    let service = ServiceBuilder::new().layer(from(grace)).service(tidy);
    let cancel = Cancel::new();
    cancel.cancel(Cause::Caller);
    let start = Instant::now();
    let refused = service.clone().oneshot(request().with_cancel(cancel)).await;
    assert_eq!(
        refused.expect_err("before it began").kind(),
        ErrorKind::Cancelled
    );
    let cancel = Cancel::new();
    let call = service.oneshot(request().with_cancel(cancel.clone()));
    let (result, ()) = tokio::join!(call, async {
        sleep(secs(1)).await;
        cancel.cancel(Cause::Caller);
    });
    assert_eq!(result.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!(start.elapsed(), millis(1_300));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_stack_share_its_budget() {
    let config = "retry = { retries = 5, budget = { percent = 0, per_second = 1, ttl = \"3s\" } }";
    let stack = from(config);
    let (one, other) = (Log::default(), Log::default());
    for log in [&one, &other] {
        let service = ServiceBuilder::new()
            .layer(stack.clone())
            .service(log.service(|_| ready(Err(too_slow()))));
        ask(service).await.0.expect_err("it fails");
    }
    // Three retries for all; the waits between the attempts are too short for a fourth.
    assert_eq!(one.len() + other.len(), 2 + 3);
}
