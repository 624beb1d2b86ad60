//! The wait for the end of the work below a node.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_dspy::{
    Cancel, CancelLayer, Cause, PredictRequest,
    testing::mock::{MockDspy, Reply},
};

const SECOND: Duration = Duration::from_secs(1);

fn request(node: &Cancel) -> PredictRequest {
    PredictRequest::new(json!({})).with_cancel(node.clone())
}

/// A call at a program whose clean-up code takes a second, once it runs.
async fn running(program: &MockDspy, node: &Cancel) {
    let before = program.calls().len();
    tokio::spawn(program.clone().oneshot(request(node)));
    program.wait_for(|calls| calls.len() > before).await;
}

fn lingering() -> MockDspy {
    MockDspy::from_fn(|_| Reply::hang().lingers(SECOND))
}

#[tokio::test(start_paused = true)]
async fn a_node_without_work_has_settled() {
    for node in [Cancel::none(), Cancel::new(), Cancel::new().child()] {
        assert!(node.settled().now_or_never().is_some());
        node.cancel(Cause::Caller);
        assert!(node.settled().now_or_never().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_node_settles_when_the_clean_up_code_has_ended() {
    let (program, node) = (lingering(), Cancel::new());
    running(&program, &node.child()).await;
    running(&program, &node).await;
    let start = Instant::now();
    node.cancel(Cause::Caller);
    node.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_the_work_below_it_alone() {
    let (program, call) = (lingering(), Cancel::new());
    let [first, second] = [call.child(), call.child()];
    running(&program, &first).await;
    running(&program, &second).await;
    first.cancel(Cause::Superseded);
    first.settled().await;
    assert!(second.settled().now_or_never().is_none());
    assert!(call.settled().now_or_never().is_none());
    second.cancel(Cause::Caller);
    second.settled().await;
    assert!(call.settled().now_or_never().is_some());
}

/// A caller that has gone leaves work behind.
#[tokio::test(start_paused = true)]
async fn the_work_of_a_dropped_call_is_waited_for() {
    let (program, node) = (lingering(), Cancel::new());
    let mut call = Box::pin(program.clone().oneshot(request(&node)));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    assert_eq!(program.stopped(), [Cause::Dropped]);
    let start = Instant::now();
    node.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_layer_waits_for_the_work_of_all_its_calls() {
    let (program, layer) = (lingering(), Cancel::new());
    let service = CancelLayer::new().with_token(&layer).layer(program.clone());
    for node in [Cancel::none(), Cancel::new()] {
        tokio::spawn(service.clone().oneshot(request(&node)));
    }
    program.wait_for(|calls| calls.len() == 2).await;
    let start = Instant::now();
    layer.cancel(Cause::Shutdown);
    layer.settled().await;
    assert_eq!((program.in_flight(), start.elapsed()), (0, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_no_work() {
    let (program, node) = (lingering(), Cancel::new());
    node.cancel(Cause::Caller);
    assert!(program.oneshot(request(&node)).await.is_err());
    assert!(node.settled().now_or_never().is_some());
}
