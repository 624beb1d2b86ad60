use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cancel, CancelLayer, Cause, Classify, DeadlineLayer, Error, ErrorKind, Shutdown, ShutdownLayer,
    ShutdownReport, ShutdownService, TimeoutLayer, WithContext,
    layers::{HookOutcome, ShutdownPhase},
};

use super::support::*;

/// Accepted, completed, failed, cancelled, abandoned; and refused.
fn figures(report: &ShutdownReport) -> ([u64; 5], u64) {
    let ended = report.completed + report.failed + report.cancelled + report.abandoned;
    assert_eq!(report.accepted, ended, "{report}");
    let figures = [
        report.accepted,
        report.completed,
        report.failed,
        report.cancelled,
        report.abandoned,
    ];
    (figures, report.refused)
}

#[tokio::test]
async fn an_announced_shutdown_is_not_ready_and_lets_calls_through() {
    let shutdown = Shutdown::new();
    assert!(shutdown.is_ready() && shutdown.is_accepting());
    shutdown.announce();
    assert_eq!(shutdown.phase(), ShutdownPhase::Announced);
    assert!(!shutdown.is_ready() && shutdown.is_accepting());
    let service = ServiceBuilder::new()
        .layer(ShutdownLayer::new(shutdown.clone()))
        .service_fn(|_: WithContext<()>| async { Ok::<_, Error>(()) });
    service.clone().oneshot(WithContext::new(())).await.unwrap();

    let report = shutdown.run(Duration::ZERO, Duration::ZERO).await;
    assert_eq!((report.accepted, report.refused), (1, 0));
    // It goes one way.
    shutdown.announce();
    assert_eq!(shutdown.phase(), ShutdownPhase::Done);
    let refused = service.oneshot(WithContext::new(())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_calls_does_not_wait() {
    let shutdown = Shutdown::new();
    assert!(shutdown.is_accepting());
    let (took, report) = timed(shutdown.run(Duration::MAX, Duration::MAX)).await;
    assert_eq!(took, Duration::ZERO);
    assert_eq!(report, ShutdownReport::default());
    assert!(report.is_clean());
    assert_eq!(shutdown.phase(), ShutdownPhase::Done);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_with_the_last_call_and_refuses_new_ones() {
    let shutdown = Shutdown::new();
    let record = Record::default();
    let mut service = ShutdownService::new(record.answers(secs(3)), shutdown.clone());
    let call = tokio::spawn(service.clone().oneshot(request()));
    sleep(secs(1)).await;
    assert_eq!(shutdown.in_flight(), 1);

    let mut run = task::spawn(shutdown.run(secs(20), secs(2)));
    assert_pending!(run.poll());
    assert_eq!(shutdown.phase(), ShutdownPhase::Draining);
    let mut late = task::spawn(service.ready().await.unwrap().call(request()));
    assert_eq!(cancelled(assert_ready!(late.poll())), Cause::Shutdown);
    assert_pending!(late.poll());

    let (took, report) = timed(run).await;
    assert_eq!(took, secs(2));
    assert_eq!(call.await.unwrap().unwrap(), "answer");
    assert_eq!(figures(&report), ([1, 1, 0, 0, 0], 1));
    // What was refused never reached the service, and had no node made of its own.
    assert_eq!(record.calls(), 1);
    assert!(!record.context().cancel.is_cancelled());
    let result = service.oneshot(request()).await;
    assert_eq!(cancelled(result), Cause::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn the_report_counts_each_call_by_its_outcome() {
    let shutdown = Shutdown::new();
    let layer = ShutdownLayer::new(shutdown.clone());
    let answers = layer.layer(Record::default().answers(secs(1)));
    answers.clone().oneshot(request()).await.unwrap();
    // A limit of time, an error, a panic.
    let limited = layer.layer(TimeoutLayer::new(secs(1)).layer(Record::default().answers(secs(9))));
    elapsed(limited.oneshot(request()).await);
    let failing = service_fn(async |_: Request| Err::<(), BoxError>("no".into()));
    layer.layer(failing).oneshot(request()).await.unwrap_err();
    let panics = service_fn(async |_: Request| -> Result<(), BoxError> { panic!("as planned") });
    tokio::spawn(layer.layer(panics).oneshot(request()))
        .await
        .unwrap_err();
    // The caller's cancel, a future that is dropped, one that is not even polled.
    let caller = Cancel::new();
    caller.cancel(Cause::Caller);
    let mut unwanted = request();
    unwanted.context.cancel = caller;
    let cancels = layer.layer(CancelLayer::new().layer(Record::default().answers(secs(9))));
    assert_eq!(cancelled(cancels.oneshot(unwanted).await), Cause::Caller);
    let mut dropped = task::spawn(answers.clone().oneshot(request()));
    assert_pending!(dropped.poll());
    drop(dropped);
    drop(answers.clone().call(request()));
    let report = shutdown.run(secs(1), secs(1)).await;
    assert_eq!(figures(&report), ([7, 1, 3, 3, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn after_the_drain_the_nodes_are_cancelled_and_the_grace_is_bounded() {
    for (tidy, grace, took, drops) in [
        (1, 5, 21, &[][..]),
        (60, 5, 25, &[Cause::Shutdown][..]),
        (60, 0, 20, &[Cause::Shutdown][..]),
    ] {
        let shutdown = Shutdown::new();
        let record = Record::default();
        // A cancel layer without a grace of its own leaves the end to the shutdown.
        let service = ServiceBuilder::new()
            .layer(ShutdownLayer::new(shutdown.clone()))
            .layer(CancelLayer::new())
            .service(record.tidies(secs(tidy)));
        let call = tokio::spawn(service.oneshot(request()));
        tokio::task::yield_now().await;
        let start = Instant::now();
        let report = shutdown.run(secs(20), secs(grace)).await;
        // Tokio's timers may be up to a millisecond late.
        let late = start
            .elapsed()
            .checked_sub(secs(took))
            .expect("never early");
        assert!(late <= millis(1), "{late:?}");
        assert_eq!(record.context().cancel.cause(), Some(Cause::Shutdown));
        assert_eq!(record.drops(), drops);
        // There is somebody who waits for an answer that comes in time.
        let result = call.await.unwrap();
        if drops.is_empty() {
            assert_eq!(result.unwrap(), "tidied");
            assert_eq!(figures(&report), ([1, 1, 0, 0, 0], 0));
        } else {
            assert_eq!(cancelled(result), Cause::Shutdown);
            assert_eq!(figures(&report), ([1, 0, 0, 1, 0], 0));
        }
        assert!(report.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_gets_no_grace() {
    let shutdown = Shutdown::new();
    let layer = ShutdownLayer::new(shutdown.clone());
    let bare = tokio::spawn(layer.layer(NeverReady).oneshot(request()));
    let limited = DeadlineLayer::new(secs(99)).layer(NeverReady);
    let limited = tokio::spawn(layer.layer(limited).oneshot(request()));
    tokio::task::yield_now().await;
    assert_eq!(shutdown.in_flight(), 2);
    let (took, report) = timed(shutdown.run(secs(3), secs(60))).await;
    assert_eq!(took, secs(3));
    assert_eq!(figures(&report), ([2, 0, 0, 2, 0], 0));
    assert_eq!(cancelled(bare.await.unwrap()), Cause::Shutdown);
    assert_eq!(cancelled(limited.await.unwrap()), Cause::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_call_no_longer_polled_is_reported_as_abandoned() {
    let shutdown = Shutdown::new();
    let record = Record::default();
    let service = ShutdownService::new(record.answers(secs(60)), shutdown.clone());
    let mut call = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    let (took, report) = timed(shutdown.run(secs(1), secs(1))).await;
    assert_eq!(took, millis(2_100));
    assert_eq!(figures(&report), ([1, 0, 0, 0, 1], 0));
    assert!(!report.is_clean());
    assert_eq!(shutdown.in_flight(), 1);
    // It was told all the same.
    assert_eq!(record.context().cancel.cause(), Some(Cause::Shutdown));
    assert!(call.is_woken() && record.drops().is_empty());
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::Shutdown);
    assert_eq!(record.drops(), [Cause::Shutdown]);
    assert_eq!(shutdown.in_flight(), 0);
    // A report is final.
    assert_eq!(shutdown.run(secs(1), secs(1)).await, report);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_gets_the_first_ones_report() {
    let shutdown = Shutdown::new();
    let service = ShutdownService::new(Record::default().answers(secs(60)), shutdown.clone());
    let call = tokio::spawn(service.oneshot(request()));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let (first, second) = tokio::join!(
        shutdown.run(secs(20), secs(0)),
        shutdown.run(secs(1), secs(0)),
    );
    assert!(start.elapsed() >= secs(20));
    assert_eq!(first, second);
    assert_eq!(cancelled(call.await.unwrap()), Cause::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_resumes_a_dropped_run() {
    let shutdown = Shutdown::new();
    shutdown.hook("last", async || {});
    shutdown.hook("stuck", pending::<()>);
    let service = ShutdownService::new(Record::default().answers(secs(60)), shutdown.clone());
    let call = tokio::spawn(service.oneshot(request()));
    tokio::task::yield_now().await;

    let mut first = task::spawn(shutdown.run(secs(20), secs(0)));
    assert_pending!(first.poll());
    advance(secs(15)).await;
    drop(first);
    assert_eq!(shutdown.phase(), ShutdownPhase::Draining);
    // The drain has 5 s left. It is dropped once more, in the second hook from the end.
    let second = tokio::time::timeout(secs(6), shutdown.run(secs(99), secs(99)));
    assert!(second.await.is_err());
    assert_eq!(cancelled(call.await.unwrap()), Cause::Shutdown);
    let (took, report) = timed(shutdown.run(secs(99), secs(99))).await;
    assert_eq!(took, Duration::ZERO);
    let outcomes: Vec<_> = report.hooks.iter().map(|hook| &hook.outcome).collect();
    assert_eq!(
        outcomes,
        [&HookOutcome::Interrupted, &HookOutcome::Completed]
    );
}

#[tokio::test(start_paused = true)]
async fn hooks_run_in_reverse_order_and_each_is_bounded() {
    let limit = secs(3);
    let shutdown = Shutdown::new().with_hook_limit(limit);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let log = |name| {
        let ran = ran.clone();
        move || ran.lock().unwrap().push(name)
    };
    let first = log("first");
    shutdown.hook("first", async move || first());
    let (inner, late) = (shutdown.clone(), log("late"));
    shutdown.hook("registers", async move || {
        assert!(inner.hook("late", async move || late()));
    });
    shutdown.hook("fails", async || {
        Err::<(), BoxError>("the disk is full".into())
    });
    shutdown.hook("cannot fail", async || Ok::<_, Infallible>(()));
    shutdown.hook("panics", async move || {
        assert!(limit.is_zero(), "as planned")
    });
    shutdown.hook("panics at once", || -> std::future::Ready<()> {
        panic!("as planned")
    });
    shutdown.hook("stuck", pending::<()>);
    let tidies = log("slow");
    shutdown.hook("slow", async move || {
        sleep(secs(2)).await;
        tidies();
    });

    let (took, report) = timed(shutdown.run(secs(1), secs(1))).await;
    assert_eq!(took, secs(5));
    assert_eq!(*ran.lock().unwrap(), ["slow", "late", "first"]);
    let hooks: Vec<_> = report
        .hooks
        .iter()
        .map(|hook| (&*hook.name, hook.outcome.clone()))
        .collect();
    let error = "the disk is full".to_owned();
    assert_eq!(
        hooks,
        [
            ("slow", HookOutcome::Completed),
            ("stuck", HookOutcome::TimedOut { limit }),
            ("panics at once", HookOutcome::Panicked),
            ("panics", HookOutcome::Panicked),
            ("cannot fail", HookOutcome::Completed),
            ("fails", HookOutcome::Failed { error }),
            ("registers", HookOutcome::Completed),
            ("late", HookOutcome::Completed),
            ("first", HookOutcome::Completed),
        ]
    );
    assert_eq!(report.failed_hooks().count(), 4);
    assert!(!report.is_clean());
    assert!(!shutdown.hook("too late", async || ()));
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send>(_: &T) {}
    shared::<Shutdown>();
    shared::<ShutdownLayer>();
    shared::<ShutdownService<Mocked>>();
    let shutdown = Shutdown::new();
    sent(&shutdown.run(secs(1), secs(1)));
    let mut service = ShutdownLayer::new(shutdown.clone()).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    let call = service.call(request());
    sent(&call);
    assert!(format!("{shutdown:?} {call:?}").contains("in_flight: 1"));
    assert_eq!(service.into_inner().delay, secs(2));
}
