//! Outputs of a program: accepted types and refused ones.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{Error, PredictRequest, Prediction};

use crate::support::{call, host, load, own_process};

async fn answer(program: &str) -> Result<Prediction, Error> {
    let host = host().await;
    let program = load(&host, &format!("outputs:{program}"), "unused").await;
    let answer = program
        .clone()
        .oneshot(PredictRequest::new(json!({})))
        .await;
    assert_eq!(program.in_flight(), 0);
    answer
}

async fn refused(program: &str) -> String {
    match answer(program).await {
        Err(Error::Program(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn structured_answers_become_json() {
    let outputs = answer("rich").await.unwrap().outputs;
    let expected = json!({
        "point": {"x": 1, "tags": ["a"]}, "day": "2024-02-29", "both": [1, 2.5], "some": {"k": null},
    });
    assert_eq!(json!(outputs), expected);
    assert_eq!(
        json!(answer("plain_dict").await.unwrap().outputs),
        json!({"answer": 42})
    );
}

#[tokio::test]
async fn types_of_dspy_become_objects_with_their_fields() {
    let picture = json!({"url": "https://example.com/cat.png"});
    let expected = json!({
        "one": picture, "many": [{"k": picture}], "page": {"picture": picture}, "code": "x",
    });
    assert_eq!(json!(answer("pictures").await.unwrap().outputs), expected);
    let expected = json!({"n": 3, "many": [3]});
    assert_eq!(json!(answer("scalars").await.unwrap().outputs), expected);
}

#[tokio::test]
async fn an_answer_other_than_a_prediction_is_refused() {
    let error = refused("a_string").await;
    assert!(
        error.contains("returned a str") && error.contains("dspy.Prediction"),
        "{error}"
    );
    let error = refused("nothing").await;
    assert!(error.contains("returned a NoneType"), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_json_form_is_refused() {
    for (program, said) in [
        ("not_a_number", "JSON has no number for nan, at `score`"),
        ("infinite", "JSON has no number for inf, at `score.1`"),
        (
            "opaque",
            "is not JSON: `thing`: JSON has no value for a Opaque",
        ),
        ("huge_int", "OverflowError"),
        ("bottomless", "nested deeper"),
        ("itself", "not JSON"),
    ] {
        let error = refused(program).await;
        assert!(error.contains(said), "{program}: {error}");
    }
    // The host is none the worse for it.
    let host = host().await;
    assert_eq!(
        call(&host, "inputs:echo", json!({"value": 1})).await,
        json!({"value": 1})
    );
}

#[tokio::test]
async fn dspy_prints_no_progress_bars() {
    if let Some(said) = own_process("both_hosts::outputs::dspy_prints_no_progress_bars").await {
        assert!(!said.contains("2/2") && !said.contains("it/s"), "{said}");
        return;
    }
    let outputs = answer("in_parallel").await.unwrap().outputs;
    assert_eq!(json!(outputs), json!({"answers": ["?", "?"]}));
}
