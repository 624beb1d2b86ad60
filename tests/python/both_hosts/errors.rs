//! Exceptions of a program, as errors to the caller.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{Carrier, Classify, Error, ErrorKind, PredictRequest, ProgramError};

use crate::support::{host, load};

async fn raised(program: &str) -> ProgramError {
    let host = host().await;
    let program = load(&host, &format!("raises:{program}"), "unused").await;
    let request = PredictRequest::new(json!({"key": "Paris"}));
    match program.oneshot(request).await {
        Err(Error::Program(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_exception_arrives_with_its_type_its_message_and_its_traceback() {
    let error = raised("own").await;
    assert_eq!(error.python_type(), "raises.NoAnswer");
    assert_eq!(error.message(), "nothing about Paris");
    // The line that raised, in the program's own file.
    let traceback = error.traceback();
    assert!(traceback.contains("programs/raises.py"), "{traceback}");
    assert!(traceback.contains("raise NoAnswer("), "{traceback}");
    assert_eq!(
        error.to_string(),
        "the program raised raises.NoAnswer: nothing about Paris"
    );
    assert_eq!(Error::from(error).kind(), ErrorKind::Program);
}

#[tokio::test]
async fn a_message_that_raises_does_not_hide_the_failure() {
    let error = raised("mute").await;
    assert_eq!(error.python_type(), "raises.Mute");
    assert!(error.message().contains("ValueError"), "{error}");
    assert!(error.traceback().contains("raise Mute"), "{error}");
}

#[tokio::test]
async fn a_group_names_its_members_in_the_traceback() {
    let error = raised("group").await;
    assert_eq!(error.python_type(), "ExceptionGroup");
    let traceback = error.traceback();
    assert!(
        traceback.contains("NoAnswer: nothing about Paris"),
        "{traceback}"
    );
}

#[tokio::test]
async fn a_cause_is_in_the_traceback() {
    let error = raised("caused").await;
    assert_eq!(
        (error.python_type(), error.message()),
        ("RuntimeError", "the lookup failed")
    );
    let traceback = error.traceback();
    assert!(traceback.contains("KeyError: 'Paris'"), "{traceback}");
    assert!(traceback.contains("direct cause"), "{traceback}");
}

#[tokio::test]
async fn a_cancellation_raised_by_the_program_is_its_failure() {
    let error = raised("unasked").await;
    assert!(error.python_type().ends_with("CancelledError"), "{error}");
}

#[tokio::test]
async fn endless_recursion_is_an_error_of_the_program() {
    assert_eq!(raised("recurses").await.python_type(), "RecursionError");
}

#[tokio::test]
async fn an_error_has_the_id_of_its_call_without_any_layer() {
    let host = host().await;
    let program = load(&host, "raises:own", "unused").await;
    let streaming = program.streaming();
    // One that raises, and one whose inputs are refused.
    for inputs in [json!({"key": "Paris"}), json!({"city": "Paris"})] {
        let mut request = PredictRequest::new(inputs);
        let id = request.context_mut().id();
        let error = program.clone().oneshot(request.clone()).await.unwrap_err();
        assert_eq!(error.call_id(), Some(id), "{error}");
        assert!(error.spent().is_none(), "{error}");
        let error = streaming.clone().oneshot(request).await;
        let error = error.map(drop).unwrap_err();
        assert_eq!(error.call_id(), Some(id), "{error}");
    }
}
