//! The depth of the stack that programs have.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::PredictRequest;

use crate::support::{load, own_process, start};

/// The main thread of `python` takes some 1.5 times as many with 8 MiB, and 40 fit into 2 MiB.
const DEPTH: u32 = 100;

async fn descends(target: &str) {
    let host = start().await;
    let program = load(&host, target, "unused").await;
    let request = PredictRequest::new(json!({"depth": DEPTH}));
    let answer = program.oneshot(request).await.unwrap();
    assert_eq!(answer.outputs["answer"], "bottom");
}

#[tokio::test]
async fn the_loop_has_the_stack_of_a_main_thread() {
    if own_process("stack_depth::the_loop_has_the_stack_of_a_main_thread")
        .await
        .is_none()
    {
        descends("deep:OnTheLoop").await;
    }
}

#[tokio::test]
async fn a_sync_program_has_the_stack_of_a_main_thread() {
    if own_process("stack_depth::a_sync_program_has_the_stack_of_a_main_thread")
        .await
        .is_none()
    {
        descends("deep:OnAThread").await;
    }
}

#[tokio::test]
async fn a_job_of_the_default_executor_has_the_stack_of_a_main_thread() {
    if own_process("stack_depth::a_job_of_the_default_executor_has_the_stack_of_a_main_thread")
        .await
        .is_none()
    {
        descends("deep:InTheExecutor").await;
    }
}
