//! The standard stack around a program of real DSPy.

use std::time::Duration;

use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    CallStatus, Classify, DspyServiceBuilderExt, ErrorKind, FallbackLayer, Prediction, Shutdown,
    StackConfig, StandardService, StandardStack, Tracker,
    layers::Value,
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::support::{HOUR, ask, eventually, host, lm_server, question};

fn configured(config: serde_json::Value) -> StandardStack {
    let config: StackConfig = serde_json::from_value(config).expect("well formed");
    config.layer().expect("allowed")
}

fn gone(requests: &[RequestRecord], n: usize) -> bool {
    requests.len() == n && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

#[tokio::test]
async fn a_slow_attempt_is_stopped_and_the_next_answers() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stack", [Reply::hang(), Reply::answer("Paris")]);
    let tracker = Tracker::new().with_history(1);
    let stack = configured(json!({
        "deadline": "1m",
        // Also the limit of the second, on a busy machine.
        "attempt_timeout": "5s",
        "retry": {"retries": 1, "backoff": {"kind": "fixed", "base": "0s"}},
    }));
    let qa = question(&host, "stack").await;
    let service: StandardService<_> = ServiceBuilder::new()
        .standard_stack(stack.with_tracker(tracker.clone()))
        .service(qa.clone());

    let answer = service.oneshot(ask("the capital?")).await.unwrap();
    assert_eq!(answer.get("answer").unwrap(), "Paris");
    assert_eq!(tracker.history()[0].status, CallStatus::Completed);
    let requests = lm.requests("stack");
    assert_eq!(requests.len(), 2);
    assert!(
        requests[0]
            .client_gone
            .is_some_and(|gone| gone <= requests[1].arrived)
    );
    eventually("its permits", || qa.in_flight() == 0).await;
}

#[tokio::test]
async fn a_call_ended_by_deadline_or_shutdown_is_stopped_at_the_lm() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("stack-ends", Reply::hang());
    let shutdown = Shutdown::new();
    let sorry = Prediction::new(
        [("answer".to_owned(), json!("sorry"))]
            .into_iter()
            .collect(),
    );
    let qa = question(&host, "stack-ends").await;
    let service = |deadline| {
        let stack = configured(json!({
            "deadline": deadline,
            "attempt_timeout": false,
            "retry": false,
            "fallback": {"reserve": "1s"},
        }));
        let stack = stack
            .with_shutdown(shutdown.clone())
            .with_fallback(FallbackLayer::new(Value::new(sorry.clone())));
        ServiceBuilder::new().layer(stack).service(qa.clone())
    };

    // Less the reserve it is long enough for the LM call to begin, on a busy machine as well.
    let answer = service("6s").oneshot(ask("one?")).await.unwrap();
    assert_eq!(answer.get("answer").unwrap(), "sorry");
    lm.wait_for("stack-ends", |requests| gone(requests, 1))
        .await
        .unwrap();

    let call = tokio::spawn(service("1h").oneshot(ask("two?")));
    lm.wait_for("stack-ends", |requests| requests.len() == 2)
        .await
        .unwrap();
    let report = shutdown.run(Duration::ZERO, HOUR).await;
    assert_eq!((report.cancelled, report.abandoned), (1, 0), "{report}");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    lm.wait_for("stack-ends", |requests| gone(requests, 2))
        .await
        .unwrap();

    let error = service("1h").oneshot(ask("three?")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    assert_eq!(lm.requests("stack-ends").len(), 2);
    eventually("its permits", || qa.in_flight() == 0).await;
}
