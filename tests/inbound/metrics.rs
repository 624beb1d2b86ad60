//! The route for Prometheus.

use axum::{Router, body::Body};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Error, TrackLayer, Tracker, WithContext,
    inbound::axum::{InstallError, PrometheusMetrics},
    metrics::Gauges,
};

#[tokio::test(start_paused = true)]
async fn the_route_answers_by_all_metrics_as_they_are_now() {
    let metrics = PrometheusMetrics::install().unwrap();
    let second = PrometheusMetrics::install();
    assert!(matches!(second, Err(InstallError::Installed)), "{second:?}");
    let tracker = Tracker::new();
    let gauges = Gauges::new().observe_tracker("all", &tracker);
    let app: Router = metrics.into_router(gauges);
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()).with_label("qa"))
        .service_fn(|call: WithContext<bool>| async move {
            if !call.request {
                std::future::pending::<()>().await;
            }
            Ok::<_, Error>(())
        });
    service
        .clone()
        .oneshot(WithContext::new(true))
        .await
        .unwrap();
    let mut pending = tokio_test::task::spawn(service.oneshot(WithContext::new(false)));
    tokio_test::assert_pending!(pending.poll());

    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let kind = &answer.headers()[CONTENT_TYPE];
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.into()).unwrap();
    let lines = [
        r#"tower_dspy_calls_total{program="qa",outcome="completed"} 1"#,
        r#"tower_dspy_in_flight{tracker="all"} 1"#,
        "# TYPE tower_dspy_call_duration_seconds histogram",
        "# HELP tower_dspy_calls_total Tracked calls that have ended, by outcome.",
        r#"tower_dspy_call_duration_seconds_bucket{program="qa",outcome="completed",le="0.01"} 1"#,
    ];
    for line in lines {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in:\n{text}"
        );
    }
}

#[test]
fn an_exporter_without_a_runtime_is_refused() {
    let refused = PrometheusMetrics::install();
    assert!(
        matches!(refused, Err(InstallError::NoRuntime)),
        "{refused:?}"
    );
}
