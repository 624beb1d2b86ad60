//! `InboundLayer`: the time left, from the wire to the context.

use axum::{Extension, Router, body::Body, routing::get};
use http::{Request, StatusCode};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{CallContext, Deadline, DeadlineLayer, InboundLayer, Serve};

use super::support::{End, Ends, body, header, json, secs};

type Headers = &'static [(&'static str, &'static str)];

/// Envoy's header of the time left, in milliseconds.
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

/// Tells the time left that the handler sees.
fn left(layer: InboundLayer) -> Router {
    let told = get(|Extension(context): Extension<CallContext>| async move {
        assert!(context.cancel.is_some());
        format!("{:?}", context.deadline.map(Deadline::remaining))
    });
    Router::new().route("/", told).layer(layer)
}

fn with(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_shortest_of_the_headers_is_the_limit() {
    let plain = InboundLayer::new;
    let capped = || plain().max(secs(30));
    let facts: [(InboundLayer, Headers, &str); 13] = [
        (plain(), &[], "None"),
        (capped(), &[], "Some(30s)"),
        (capped(), &[("x-request-timeout", "1500ms")], "Some(1.5s)"),
        (capped(), &[("x-request-timeout", "2")], "Some(2s)"),
        (capped(), &[("x-request-timeout", "3600")], "Some(30s)"),
        (capped(), &[("grpc-timeout", "7S")], "Some(7s)"),
        (capped(), &[("grpc-timeout", "99999999H")], "Some(30s)"),
        (
            plain(),
            &[("grpc-timeout", "7S"), ("x-request-timeout", "6")],
            "Some(6s)",
        ),
        (
            plain(),
            &[("x-request-timeout", "9"), ("x-request-timeout", "8")],
            "Some(8s)",
        ),
        (
            plain().header("x-my-limit"),
            &[("x-my-limit", "5"), ("x-request-timeout", "1")],
            "Some(5s)",
        ),
        (plain().header(ENVOY), &[(ENVOY, "1000")], "Some(1s)"),
        (plain().header(ENVOY), &[(ENVOY, "1500ms")], "Some(1.5s)"),
        (plain().header(ENVOY), &[(ENVOY, "2s")], "Some(2s)"),
    ];
    for (layer, headers, told) in facts {
        let response = left(layer).oneshot(with(headers)).await.unwrap();
        assert_eq!(body(response).await, told, "{headers:?}");
    }
}

#[tokio::test]
async fn an_invalid_header_name_is_reported_with_each_answer_and_does_not_panic() {
    let ends = Ends::new();
    let probes = ends.probes();
    for wrong in ["x my limit", "", "x-limit\r\n", "x-límit"] {
        let probes = probes.clone();
        let app = Router::new()
            .route("/", get(move || async move { probes.begin().done() }))
            .layer(InboundLayer::new().header(wrong));
        for _ in 0..2 {
            let response = app.clone().oneshot(with(&[])).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let problem = json(response).await;
            let detail = problem["detail"].as_str().unwrap();
            let told = format!("InboundLayer::header was given {wrong:?}");
            assert!(detail.starts_with(&told), "{detail}");
        }
        let grpc = with(&[("content-type", "application/grpc")]);
        let response = app.oneshot(grpc).await.unwrap();
        assert_eq!(header(response.headers(), "grpc-status"), Some("2"));
    }
    let mut ends = ends;
    assert_eq!(ends.seen(), None);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_header_may_be_in_any_case() {
    let layer = InboundLayer::new().header("X-My-Limit".to_owned());
    let app = left(layer);
    let response = app.oneshot(with(&[("x-my-limit", "5")])).await.unwrap();
    assert_eq!(body(response).await, "Some(5s)");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_extensions_is_not_moved_later() {
    let mut request = with(&[("x-request-timeout", "9")]);
    let mut context = CallContext::new();
    context.limit(Deadline::within(secs(2)));
    request.extensions_mut().insert(context);
    let response = left(InboundLayer::new()).oneshot(request).await.unwrap();
    assert_eq!(body(response).await, "Some(2s)");
}

#[tokio::test]
async fn an_unreadable_header_is_answered_with_the_expected_form() {
    let ends = Ends::new();
    let probes = ends.probes();
    let app = Router::new()
        .route("/", get(move || async move { probes.begin().done() }))
        .layer(InboundLayer::new());
    for (name, value, expected) in [
        ("x-request-timeout", "soon", "such as `2` or `2.5`"),
        ("x-request-timeout", "-1", "such as `2` or `2.5`"),
        ("grpc-timeout", "10s", "one of the units H, M, S, m, u, n"),
    ] {
        let response = app.clone().oneshot(with(&[(name, value)])).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let problem = json(response).await;
        assert_eq!(problem["kind"], "invalid_input");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(value) && detail.contains(expected),
            "{detail}"
        );
    }
    let grpc = [
        ("content-type", "application/grpc"),
        ("grpc-timeout", "10s"),
    ];
    let response = app.oneshot(with(&grpc)).await.unwrap();
    assert_eq!(header(response.headers(), "grpc-status"), Some("3"));
    let mut ends = ends;
    assert_eq!(ends.seen(), None);
}

#[tokio::test(start_paused = true)]
async fn an_inner_layer_keeps_the_limit() {
    let mut ends = Ends::new();
    let probes = ends.probes();
    let never = get(move || async move {
        let _probe = probes.begin();
        std::future::pending::<()>().await
    });
    let app = Router::new().route("/", never).layer(
        ServiceBuilder::new()
            .layer(InboundLayer::new().max(secs(30)))
            .layer(Serve::new(DeadlineLayer::from_context())),
    );
    let start = Instant::now();
    let request = with(&[("x-request-timeout", "1500ms")]);
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(start.elapsed().as_millis(), 1_500);
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(ends.seen(), Some(End::Dropped));

    // No time at all: the handler is not called.
    let response = app.oneshot(with(&[("x-request-timeout", "0")])).await;
    assert_eq!(response.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(ends.seen(), None);
}
