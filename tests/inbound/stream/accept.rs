//! JSON or a stream, by the request's `Accept` header.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use super::{
    super::support::{header, json as read_json},
    QUESTION, app, done, script, text,
};

async fn content_type(accept: Option<&str>) -> String {
    let streaming = script(|| vec![text(1, "answer", "a"), done(json!({"answer": "a"}))]);
    let mut request = Request::post("/qa").header("content-type", "application/json");
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let request = request.body(Body::from(QUESTION)).unwrap();
    let response = app(&streaming).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    header(response.headers(), "content-type")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_client_that_prefers_an_event_stream_gets_one() {
    for accept in [
        "text/event-stream",
        "text/event-stream, application/json;q=0.9",
        "text/event-stream, */*",
    ] {
        let answered = content_type(Some(accept)).await;
        assert_eq!(answered, "text/event-stream", "{accept}");
    }
    for accept in [
        None,
        Some("*/*"),
        Some("application/json, text/event-stream"),
        Some("text/event-stream;q=0.4, application/json;q=0.5"),
    ] {
        assert_eq!(content_type(accept).await, "application/json", "{accept:?}");
    }
}

#[tokio::test]
async fn json_is_that_of_the_whole_service() {
    let streaming = script(|| vec![done(json!({"answer": "streamed"}))]);
    let request = Request::post("/qa").header("content-type", "application/json");
    let request = request.body(Body::from(QUESTION)).unwrap();
    let response = app(&streaming).oneshot(request).await.unwrap();
    let body = read_json(response).await;
    assert_eq!(body["outputs"], json!({"answer": "whole"}));
    assert_eq!(body["elapsed_ms"], 412);
}
