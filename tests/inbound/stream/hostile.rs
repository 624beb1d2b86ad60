//! Bodies that no client of good will sends.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use super::{DIALECTS, app, ask, done, script};

#[tokio::test]
async fn bodies_that_are_no_json_or_too_large_or_too_deep_are_refused() {
    let app = app(&script(|| vec![done(json!({"answer": "x"}))]));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"messages\":\"{}\"}}", "x".repeat(3 << 20));
    for (path, _) in DIALECTS {
        for (body, status) in [
            (String::new(), StatusCode::BAD_REQUEST),
            ("{".to_owned(), StatusCode::BAD_REQUEST),
            (deep.clone(), StatusCode::BAD_REQUEST),
            (large.clone(), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let response = ask(&app, path, body).await;
            assert_eq!(response.status(), status, "{path}");
        }
        let request = Request::post(path).body(Body::from("{}")).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn a_refusal_of_openais_route_is_in_its_form() {
    let app = app(&script(|| vec![done(json!({"answer": "x"}))]));
    let response = ask(&app, "/v1/chat/completions", "{").await;
    let error = super::super::support::json(response).await;
    assert_eq!(error["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn many_messages_are_a_long_history() {
    let messages: Vec<_> = (0..5_001)
        .map(|n| json!({"role": if n % 2 == 0 { "user" } else { "assistant" }, "content": "x"}))
        .collect();
    let body = json!({"model": "qa", "stream": true, "messages": messages}).to_string();
    let (service, mut seen) = super::seen();
    let response = ask(&super::app(&service), "/v1/chat/completions", body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let (inputs, _) = seen.recv().await.unwrap();
    let turns = inputs["history"]["messages"].as_array().unwrap();
    assert_eq!(turns.len(), 2_500);
}

#[tokio::test]
async fn a_refusal_does_not_repeat_the_body() {
    let app = app(&script(|| vec![done(json!({"answer": "x"}))]));
    let long = "x".repeat(1 << 20);
    let role = json!({"messages": [{"role": long, "parts": [], "content": "x"}], "model": "qa"});
    for body in [json!(long), json!({"messages": long, "model": "qa"}), role] {
        for path in ["/chat", "/v1/chat/completions"] {
            let response = ask(&app, path, body.to_string()).await;
            assert!(response.status().is_client_error(), "{path}");
            let said = super::read(response).await;
            assert!(said.len() < 4096, "{path}: {} bytes", said.len());
        }
    }
}
