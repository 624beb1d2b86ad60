//! Our layers in `Router::layer`, through `Serve`.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::time::Instant;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShedLayer,
    timeout::TimeoutLayer as TowerTimeoutLayer,
};
use tower_dspy::{
    CallContext, CancelLayer, Cause, Deadline, DeadlineLayer, DspyServiceBuilderExt, Serve,
    Shutdown, ShutdownLayer, TimeoutLayer, TrackLayer, Tracker,
};
use tower_http::{limit::RequestBodyLimitLayer, trace::TraceLayer};

use super::support::{End, Ends, body, header, json, secs};

/// As `axum::serve` does it. A router that is called without makes the layers of each handler anew
/// for each call, and a limit in them limits nothing.
fn served(app: Router) -> Router {
    app.with_state(())
}

fn to(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

/// Answers `/now` at once, `/never` not at all, and tells of the end.
fn router(ends: &Ends) -> Router {
    let (now, never) = (ends.probes(), ends.probes());
    Router::new()
        .route(
            "/now",
            get(move || async move {
                now.begin().done();
                "now"
            }),
        )
        .route(
            "/never",
            get(move || async move {
                let _probe = never.begin();
                std::future::pending::<&str>().await
            }),
        )
}

#[tokio::test(start_paused = true)]
async fn a_router_takes_our_layers_and_answers_their_errors() {
    let mut ends = Ends::new();
    let app = router(&ends).layer(Serve::new(DeadlineLayer::new(secs(10))));
    let start = Instant::now();
    let response = app.clone().oneshot(to("/never")).await.unwrap();
    assert_eq!(start.elapsed(), secs(10));
    assert_eq!(ends.seen(), Some(End::Dropped));
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        header(response.headers(), "content-type"),
        Some("application/problem+json")
    );
    assert_eq!(json(response).await["kind"], json!("deadline"));

    let response = app.oneshot(to("/now")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body(response).await, "now");
    assert_eq!(ends.seen(), Some(End::Done));
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_the_handler_is_not_called() {
    let mut ends = Ends::new();
    let shutdown = Shutdown::new();
    let app = router(&ends).layer(Serve::new(ShutdownLayer::new(shutdown.clone())));
    let report = shutdown.run(secs(1), secs(1)).await;
    assert_eq!(report.accepted, 0);
    let response = app.oneshot(to("/now")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(response).await["kind"], json!("shutting_down"));
    assert_eq!(ends.seen(), None);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_handler() {
    let mut ends = Ends::new();
    let app = router(&ends).layer(Serve::new(CancelLayer::new()));
    let cancel = tower_dspy::Cancel::new();
    let mut context = CallContext::new();
    context.cancel = cancel.clone();
    let mut request = to("/never");
    request.extensions_mut().insert(context);
    let answer = tokio::spawn(app.oneshot(request));
    tokio::time::sleep(secs(1)).await;
    cancel.cancel(Cause::ClientGone);
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status().as_u16(), 499);
    assert_eq!(ends.seen(), Some(End::Dropped));
}

#[tokio::test(start_paused = true)]
async fn the_handler_gets_the_context_with_the_tightest_limit() {
    let app = Router::new()
        .route(
            "/",
            get(|Extension(context): Extension<CallContext>| async move {
                let left = context.deadline.map(Deadline::remaining);
                format!("{left:?}")
            }),
        )
        .layer(Serve::new((
            DeadlineLayer::new(secs(10)),
            TimeoutLayer::new(secs(4)),
        )));
    let response = app.oneshot(to("/")).await.unwrap();
    assert_eq!(body(response).await, "Some(4s)");
}

/// Ours, tower's and tower-http's, inside and outside.
#[tokio::test(start_paused = true)]
async fn the_layers_of_tower_and_tower_http_fit_among_ours() {
    let mut ends = Ends::new();
    let tracker = Tracker::new();
    let layers = ServiceBuilder::new()
        .shutdown(Shutdown::new())
        .tracked(tracker.clone())
        .deadline(secs(10))
        .cancellable()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(TowerTimeoutLayer::new(secs(5)))
        .layer(TraceLayer::new_for_http())
        .layer(RequestBodyLimitLayer::new(1_000))
        .into_inner();
    let app = router(&ends)
        .layer(Serve::new(layers))
        .layer(TraceLayer::new_for_http())
        .layer(tower_http::timeout::TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            secs(20),
        ));
    let app = served(app);
    let start = Instant::now();
    let (first, second) = tokio::join!(app.clone().oneshot(to("/never")), async {
        tokio::time::sleep(secs(1)).await;
        app.clone().oneshot(to("/never")).await
    },);
    assert_eq!(start.elapsed(), secs(5));
    // Tower's own timeout: the limit of an attempt.
    let first = first.unwrap();
    assert_eq!(first.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(json(first).await["kind"], json!("elapsed"));
    // Tower's load shed.
    let second = second.unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(second).await["kind"], json!("overloaded"));
    assert_eq!(ends.seen(), Some(End::Dropped));
    assert_eq!(tracker.counts().completed, 0);

    let response = app.oneshot(to("/now")).await.unwrap();
    assert_eq!(body(response).await, "now");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_outside_a_limit_bounds_the_wait_for_it() {
    let mut ends = Ends::new();
    let app = router(&ends).layer(Serve::new((
        DeadlineLayer::new(secs(3)),
        ConcurrencyLimitLayer::new(1),
    )));
    let app = served(app);
    let first = tokio::spawn(app.clone().oneshot(to("/never")));
    tokio::time::sleep(secs(1)).await;

    let mut request = to("/never");
    let mut context = CallContext::new();
    context.limit(Deadline::within(secs(1)));
    request.extensions_mut().insert(context);
    let start = Instant::now();
    let second = app.oneshot(request).await.unwrap();
    assert_eq!(start.elapsed(), secs(1));
    assert_eq!(second.status(), StatusCode::GATEWAY_TIMEOUT);
    // It waited all the time, and reached no handler.
    assert_eq!(ends.seen(), None);
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(ends.seen(), Some(End::Dropped));
}

/// `Router::layer` applies its layer to each route: a limit in it is one for each.
#[tokio::test(start_paused = true)]
async fn a_limit_of_calls_is_each_routes_own_unless_it_is_global() {
    async fn took(app: &Router, paths: [&str; 2]) -> Duration {
        let start = Instant::now();
        let [a, b] = paths.map(|path| app.clone().oneshot(to(path)));
        let (a, b) = tokio::join!(a, b);
        assert!(a.unwrap().status().is_success() && b.unwrap().status().is_success());
        start.elapsed()
    }
    let one_second = || get(|| tokio::time::sleep(secs(1)));
    let app = || {
        Router::new()
            .route("/a", one_second())
            .route("/b", one_second())
    };
    let own = served(app().layer(Serve::new(ConcurrencyLimitLayer::new(1))));
    assert_eq!(took(&own, ["/a", "/a"]).await, secs(2));
    assert_eq!(took(&own, ["/a", "/b"]).await, secs(1));
    let global = served(app().layer(Serve::new(GlobalConcurrencyLimitLayer::new(1))));
    assert_eq!(took(&global, ["/a", "/b"]).await, secs(2));
}

/// Is broken after its first call, as a buffer whose worker is gone.
#[derive(Clone, Debug)]
struct Breaks<S> {
    inner: S,
    broken: bool,
}

impl<S, R> Service<R> for Breaks<S>
where
    S: Service<R, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.broken {
            return Poll::Ready(Err("broken".into()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.broken = true;
        self.inner.call(request)
    }
}

#[tokio::test]
async fn a_readiness_error_is_answered_with_500_and_each_clone_asks_for_itself() {
    let inner = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("fine")))
    });
    let breaks = tower::layer::layer_fn(|inner| Breaks {
        inner,
        broken: false,
    });
    let mut service = Serve::new(breaks).layer(inner);
    let whole = service.clone();
    let first = service.ready().await.unwrap().call(to("/")).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let ready = service.ready().await.unwrap();
    let copy = ready.clone();
    let second = ready.call(to("/")).await.unwrap();
    assert_eq!(second.status(), StatusCode::INTERNAL_SERVER_ERROR);
    // The clone asks for itself.
    let third = copy.oneshot(to("/")).await.unwrap();
    assert_eq!(third.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let fourth = whole.oneshot(to("/")).await.unwrap();
    assert_eq!(fourth.status(), StatusCode::OK);
}

/// What axum does not accept, it refuses before it calls us, and the reverse.
#[tokio::test]
async fn answers_of_the_server_itself_pass_unchanged() {
    let app: Router = Router::new()
        .route("/", post(|| async { "posted" }))
        .layer(Serve::new(TrackLayer::new(Tracker::new())));
    let response = app.clone().oneshot(to("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let response = app.oneshot(to("/elsewhere")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
