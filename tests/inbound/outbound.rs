//! `OutboundLayer`: the time left, sent to the next server.

use std::time::Duration;

use http::{HeaderName, Request, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Carrier, Deadline, Elapsed, OutboundLayer, RetryLayer, Scope, Stage, TimeoutLayer,
};

use super::support::{header, secs};

/// Answers with the headers that it got.
fn echo(
    layer: OutboundLayer,
) -> impl Service<Request<()>, Response = Response<()>, Error = BoxError> {
    let told = service_fn(|request: Request<()>| async move {
        let mut response = Response::new(());
        *response.headers_mut() = request.headers().clone();
        Ok::<_, BoxError>(response)
    });
    ServiceBuilder::new().layer(layer).service(told)
}

fn due(limit: Duration) -> Request<()> {
    let mut request = Request::new(());
    request.context_mut().limit(Deadline::within(limit));
    request
}

#[tokio::test(start_paused = true)]
async fn the_time_left_less_the_reserve_is_sent() {
    let reserve = Duration::from_millis(50);
    let facts = [
        (OutboundLayer::grpc(), "grpc-timeout", "2000000u"),
        (
            OutboundLayer::grpc().with_reserve(reserve),
            "grpc-timeout",
            "1950000u",
        ),
        (
            OutboundLayer::http().with_reserve(reserve),
            "x-request-timeout",
            "1950ms",
        ),
        (
            OutboundLayer::header(HeaderName::from_static("x-my-limit")),
            "x-my-limit",
            "2000ms",
        ),
    ];
    for (layer, name, value) in facts {
        let response = echo(layer).oneshot(due(secs(2))).await.unwrap();
        assert_eq!(header(response.headers(), name), Some(value));
    }
    let response = echo(OutboundLayer::grpc()).oneshot(Request::new(())).await;
    assert!(response.unwrap().headers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_limits_is_sent() {
    for (there, told) in [("1S", "1S"), ("3S", "2000000u"), ("soon", "2000000u")] {
        let mut request = due(secs(2));
        let value = there.parse().unwrap();
        request.headers_mut().insert("grpc-timeout", value);
        let response = echo(OutboundLayer::grpc()).oneshot(request).await.unwrap();
        assert_eq!(header(response.headers(), "grpc-timeout"), Some(told));
    }
}

#[tokio::test(start_paused = true)]
async fn without_time_left_nothing_is_sent() {
    let layer = OutboundLayer::http().with_reserve(secs(1));
    for limit in [secs(0), secs(1)] {
        let error = echo(layer.clone()).oneshot(due(limit)).await.unwrap_err();
        let elapsed = *error.downcast::<Elapsed>().unwrap();
        assert_eq!(elapsed.scope(), Scope::Deadline);
        assert_eq!(elapsed.stage(), Stage::BeforeStart);
    }
}

/// Each attempt tells what is left for it, not what was left for the first.
#[tokio::test(start_paused = true)]
async fn each_attempt_sends_its_own_time_left() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let client = ServiceBuilder::new()
        .layer(
            RetryLayer::new(1)
                .with_backoff(tower_dspy::Backoff::fixed(Duration::ZERO).without_jitter()),
        )
        .layer(TimeoutLayer::new(secs(4)))
        .layer(OutboundLayer::http())
        .service_fn(move |request: Request<()>| {
            let value = header(request.headers(), "x-request-timeout").map(str::to_owned);
            tell.send(value).unwrap();
            std::future::pending::<Result<Response<()>, BoxError>>()
        });
    client.oneshot(due(secs(6))).await.unwrap_err();
    assert_eq!(told.recv().await.unwrap().as_deref(), Some("4000ms"));
    assert_eq!(told.recv().await.unwrap().as_deref(), Some("2000ms"));
}
