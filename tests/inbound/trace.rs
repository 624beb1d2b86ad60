//! The trace of a call, from the headers of its request to those of the requests that it makes.

use std::convert::Infallible;

use axum::{Extension, Router, body::Body, routing::get};
use http::{HeaderMap, Request, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{CallContext, Carrier, Deadline, InboundLayer, OutboundLayer, TraceContext};

use super::support::{body, header, secs};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

fn with(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn the_trace_of_the_headers_is_that_of_the_context() {
    let told = get(|Extension(context): Extension<CallContext>| async move {
        let trace = context.trace.as_deref();
        trace.map_or("none".into(), |trace| {
            format!("{trace:?} {}", trace.tracestate())
        })
    });
    let app = Router::new().route("/", told).layer(InboundLayer::new());
    for (headers, expected) in [
        (
            &[("traceparent", PARENT), ("tracestate", "a=1")][..],
            format!("TraceContext({PARENT}) a=1"),
        ),
        (
            &[
                ("traceparent", PARENT),
                ("content-type", "application/grpc"),
            ],
            format!("TraceContext({PARENT}) "),
        ),
        (
            &[("traceparent", "00-0-0-0"), ("tracestate", "a=1")],
            "none".into(),
        ),
        (
            &[("traceparent", PARENT), ("traceparent", OTHER)],
            "none".into(),
        ),
        (&[("tracestate", "a=1")], "none".into()),
    ] {
        let response = app.clone().oneshot(with(headers)).await.unwrap();
        assert_eq!(body(response).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn a_trace_that_an_outer_layer_joined_stays() {
    let told = service_fn(|request: Request<Body>| async move {
        let trace = request.context().unwrap().trace.clone().unwrap();
        Ok::<_, Infallible>(Response::new(trace.traceparent()))
    });
    let mut request = with(&[("traceparent", PARENT)]);
    request.context_mut().trace = TraceContext::parse(OTHER, "").map(Into::into);
    let inner = ServiceBuilder::new()
        .layer(InboundLayer::new())
        .service(told);
    assert_eq!(body(inner.oneshot(request).await.unwrap()).await, OTHER);
}

/// Answers with the headers that it got.
fn echo() -> impl Service<Request<()>, Response = Response<()>, Error = BoxError> + Clone {
    let told = service_fn(|request: Request<()>| async move {
        let mut response = Response::new(());
        *response.headers_mut() = request.headers().clone();
        Ok::<_, BoxError>(response)
    });
    ServiceBuilder::new()
        .layer(OutboundLayer::http())
        .service(told)
}

async fn sent(request: Request<()>) -> HeaderMap {
    echo()
        .oneshot(request)
        .await
        .unwrap()
        .into_parts()
        .0
        .headers
}

#[tokio::test]
async fn the_trace_of_the_context_is_sent_with_a_deadline_and_without() {
    let mut request = Request::new(());
    request.context_mut().trace = TraceContext::parse(PARENT, "a=1").map(Into::into);
    let headers = sent(request.clone()).await;
    assert_eq!(header(&headers, "traceparent"), Some(PARENT));
    assert_eq!(header(&headers, "tracestate"), Some("a=1"));
    assert_eq!(headers.len(), 2);
    request.context_mut().limit(Deadline::within(secs(9)));
    assert_eq!(header(&sent(request).await, "traceparent"), Some(PARENT));
    assert!(sent(Request::new(())).await.is_empty());
}

#[tokio::test]
async fn a_traceparent_that_the_request_has_stays() {
    let mut request = Request::new(());
    request.context_mut().trace = TraceContext::parse(PARENT, "a=1").map(Into::into);
    request
        .headers_mut()
        .insert("traceparent", OTHER.parse().unwrap());
    let headers = sent(request).await;
    assert_eq!(header(&headers, "traceparent"), Some(OTHER));
    assert_eq!(header(&headers, "tracestate"), None);
}
