//! Failures of an LM. Nothing here retries, so each failure takes one request.

use std::time::Duration;

use tower::ServiceExt;
use tower_dspy::{
    Classify, Deadline, Error, ErrorKind, Lm, LmError,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::support::{ask, host, lm_server, lm_that_says, load, nowhere, question};

/// The error of one call to a model that replies so, which must be one request.
async fn failure(model: &str, reply: Reply) -> LmError {
    let (host, lm) = (host().await, lm_server().await);
    lm.script(model, reply);
    let qa = question(&host, model).await;
    let error = match qa.clone().oneshot(ask("?")).await {
        Err(Error::Lm(error)) => error,
        Err(other) => panic!("{other:?}: {other}"),
        Ok(answer) => panic!("{:?}", answer.outputs),
    };
    assert_eq!(lm.requests(model).len(), 1, "{error}");
    assert_eq!(qa.in_flight(), 0);
    error
}

/// The error of one call of `target` whose LM replies so, each time.
async fn failure_of(target: &str, model: &str, reply: Reply) -> Error {
    let (host, lm) = (host().await, lm_server().await);
    lm.script(model, reply);
    let program = load(&host, target, model).await;
    program.oneshot(ask("?")).await.unwrap_err()
}

fn kind(error: &LmError) -> ErrorKind {
    Error::from(error.clone()).kind()
}

#[tokio::test]
async fn a_429_carries_its_retry_after() {
    let error = failure("429", Reply::status(429).retry_after(7)).await;
    assert_eq!(error.status(), Some(429));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(error.python_type(), "LMRateLimitError");
    assert_eq!(kind(&error), ErrorKind::LmUnavailable);
    assert_eq!(
        Error::from(error).retry_after(),
        Some(Duration::from_secs(7))
    );
}

#[tokio::test]
async fn server_errors_of_the_provider_are_retryable() {
    for status in [500, 502, 503, 529] {
        let error = failure(&format!("its {status}"), Reply::status(status)).await;
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.retry_after(), None);
        assert_eq!(kind(&error), ErrorKind::LmUnavailable);
    }
}

#[tokio::test]
async fn client_errors_of_the_provider_are_not_retryable() {
    for status in [400, 401, 403, 404] {
        let error = failure(&format!("our {status}"), Reply::status(status)).await;
        assert_eq!(error.status(), Some(status), "{error}");
        assert_eq!(kind(&error), ErrorKind::LmRejected);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_retryable() {
    let error = failure("cut", Reply::echo().cut_after(20)).await;
    assert_eq!(error.status(), None);
    assert_eq!(kind(&error), ErrorKind::LmUnavailable);
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_retryable() {
    let error = failure("garbage", Reply::garbage()).await;
    assert_eq!(kind(&error), ErrorKind::LmUnavailable, "{error}");
}

#[tokio::test]
async fn an_unreachable_lm_is_retryable() {
    let host = host().await;
    let (_bound, url) = nowhere();
    let nobody = Lm::new("openai/nobody").base_url(url).key("test-key");
    let qa = host.load("question -> answer").lm(nobody).await.unwrap();
    let error = qa.oneshot(ask("?")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Lm(error) if error.status().is_none()),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);
}

#[tokio::test]
async fn a_hanging_lm_call_ends_at_the_deadline_and_its_connection_closes() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("hangs", Reply::hang());
    let qa = question(&host, "hangs").await;
    // Long enough for the LM call to begin, on a busy machine as well.
    let call = ask("?").with_deadline(Deadline::within(Duration::from_secs(5)));
    let error = qa.oneshot(call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    lm.wait_for("hangs", |all| {
        all.len() == 1 && all[0].outcome == Outcome::ClientGone
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_wrapped_lm_failure_is_still_an_lm_failure() {
    for (target, python_type) in [
        ("Together", "ExceptionGroup"),
        ("Caused", "wraps.Unanswered"),
        ("InParallel", "Exception"),
        ("InBatch", "Exception"),
    ] {
        let target = format!("wraps:{target}");
        for (status, expected) in [
            (429, ErrorKind::LmUnavailable),
            (401, ErrorKind::LmRejected),
        ] {
            let reply = Reply::status(status).retry_after(7);
            let error = failure_of(&target, &format!("{target} {status}"), reply).await;
            assert_eq!(error.kind(), expected, "{target}: {error}");
            let Error::Lm(error) = error else {
                panic!("{target}: {error:?}");
            };
            assert_eq!(error.status(), Some(status), "{target}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            // Its own words are what the program's author looks for.
            assert_eq!(error.python_type(), python_type, "{target}");
        }
    }
}

#[tokio::test]
async fn a_failure_in_the_handler_of_an_lm_failure_is_the_programs() {
    let error = failure_of("wraps:Beside", "beside", Reply::status(429)).await;
    assert_eq!(error.kind(), ErrorKind::Program, "{error}");
}

/// The error of a call to an LM that answers so.
async fn failure_that_says(status: u16, json: &'static str) -> LmError {
    let host = host().await;
    let load = host.load("question -> answer");
    let qa = load.lm(lm_that_says(status, json)).await.unwrap();
    match qa.oneshot(ask("?")).await {
        Err(Error::Lm(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_exhausted_quota_is_not_retryable() {
    for json in [
        r#"{"error":{"message":"m","code":"insufficient_quota","type":"insufficient_quota"}}"#,
        r#"{"error":{"message":"m","code":"billing_hard_limit_reached"}}"#,
    ] {
        let error = failure_that_says(429, json).await;
        assert_eq!(error.status(), Some(429), "{error}");
        assert_eq!(kind(&error), ErrorKind::LmRejected, "{error}");
    }
}

#[tokio::test]
async fn a_retry_delay_in_the_body_is_reported() {
    let later = r#"{"error":{"code":429,"message":"m","details":[
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#;
    let error = failure_that_says(429, later).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(34)));
    assert_eq!(kind(&error), ErrorKind::LmUnavailable, "{error}");
}

#[tokio::test]
async fn an_error_in_the_body_of_a_200_has_the_status_in_the_body() {
    for (json, status, expected) in [
        (
            r#"{"error":{"code":429,"message":"m"}}"#,
            429,
            ErrorKind::LmUnavailable,
        ),
        (
            r#"{"error":{"code":402,"message":"m"}}"#,
            402,
            ErrorKind::LmRejected,
        ),
        (
            r#"{"error":{"code":400,"message":"m"}}"#,
            400,
            ErrorKind::LmRejected,
        ),
    ] {
        let error = failure_that_says(200, json).await;
        assert_eq!(error.status(), Some(status), "{error}");
        assert_eq!(kind(&error), expected, "{error}");
    }
}
