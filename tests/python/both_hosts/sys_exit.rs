//! `sys.exit()` and `KeyboardInterrupt`, which fail one call alone.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Error, PredictRequest, Prediction,
    testing::scripted_lm::{Gate, Reply},
};

use crate::support::{ask, host, lm_server, load, question};

/// Runs `program` while another call waits for its LM, which must not notice.
async fn beside_another(program: &str) -> Result<Prediction, Error> {
    let (host, lm) = (host().await, lm_server().await);
    let (model, gate) = (format!("beside {program}"), Gate::new());
    lm.script(&model, Reply::answer("undisturbed").held_by(&gate));
    let other = question(&host, &model).await;
    let other = tokio::spawn(other.oneshot(ask("?")));
    lm.wait_for(&model, |all| all.len() == 1).await.unwrap();

    let program = load(&host, &format!("raises:{program}"), "unused").await;
    let request = PredictRequest::new(json!({"key": "x"}));
    let answer = program.clone().oneshot(request).await;
    assert_eq!(program.in_flight(), 0);

    gate.open();
    let other = other.await.unwrap().unwrap();
    assert_eq!(other.outputs["answer"], "undisturbed");
    answer
}

fn assert_raised(answer: Result<Prediction, Error>, python_type: &str) {
    match answer {
        Err(Error::Program(error)) => assert_eq!(error.python_type(), python_type),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sys_exit_in_a_program_ends_that_call_alone() {
    assert_raised(beside_another("exits").await, "SystemExit");
}

#[tokio::test]
async fn sys_exit_in_a_task_that_a_program_awaits_ends_that_call_alone() {
    assert_raised(beside_another("child_exits").await, "SystemExit");
}

#[tokio::test]
async fn sys_exit_in_an_unawaited_task_ends_nothing_else() {
    let answer = beside_another("stray_exits").await.unwrap();
    assert_eq!(answer.outputs["answer"], "still here");
}

#[tokio::test]
async fn sys_exit_in_a_callback_of_the_loop_ends_nothing_else() {
    let answer = beside_another("callback_exits").await.unwrap();
    assert_eq!(answer.outputs["answer"], "still here");
}

#[tokio::test]
async fn a_keyboard_interrupt_in_a_program_ends_that_call_alone() {
    assert_raised(beside_another("interrupts").await, "KeyboardInterrupt");
}
