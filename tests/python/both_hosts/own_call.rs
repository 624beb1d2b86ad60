//! A program's questions about its own call.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{Deadline, PredictRequest};

use crate::support::{eventually_seen, host, load};

#[tokio::test]
async fn a_program_can_read_its_time_left() {
    let host = host().await;
    let program = load(&host, "asks:limits", "unused").await;
    let request = PredictRequest::new(json!({}));
    let answer = program.clone().oneshot(request.clone()).await.unwrap();
    let without = json!({
        "deadline_in": null, "remaining": null, "in_thread": null, "cancelled": false,
    });
    assert_eq!(json!(answer.outputs), without);

    let limited = request.with_deadline(Deadline::within(Duration::from_secs(100)));
    let answer = program.oneshot(limited).await.unwrap();
    let seconds = |name: &str| answer.outputs.get(name).and_then(Value::as_f64).unwrap();
    for name in ["deadline_in", "remaining", "in_thread"] {
        // Never more than there is; less by what the way took, on a busy machine as well.
        assert!(
            (40.0..=100.0).contains(&seconds(name)),
            "{name}: {}",
            seconds(name)
        );
    }
    assert!(seconds("in_thread") <= seconds("remaining"));
}

#[tokio::test]
async fn a_program_can_read_that_it_is_cancelled() {
    let host = host().await;
    let program = load(&host, "asks:watches", "unused").await;
    let token = CancellationToken::new();
    let request = PredictRequest::new(json!({"key": "watches"})).with_cancel(token.clone());
    let call = tokio::spawn(program.oneshot(request));
    eventually_seen(&host, "watches", &["cancelled: False"]).await;
    token.cancel();
    call.await.unwrap().unwrap_err();
    eventually_seen(&host, "watches", &["cancelled: False", "cancelled: True"]).await;
}
