//! The API that all layers share, checked by the compiler.

use std::{fmt::Debug, future::ready, time::Duration};

use tower::{Layer, Service, service_fn};
use tower_dspy::{
    Allot, AllotLayer, CancelLayer, CancelService, DeadlineLayer, DeadlineService, Error, Fallback,
    FallbackLayer, Hedge, HedgeLayer, Latency, Percentile, PredictRequest, Prediction,
    RecordLatency, RecordLatencyLayer, Retry, RetryLayer, Session, SessionLayer, SessionService,
    Shutdown, ShutdownLayer, ShutdownService, StandardStack, Timeout, TimeoutLayer, Track,
    TrackLayer, Tracker,
    layers::{FallbackService, Stale, Value},
};

use crate::{script::answer, support::secs};

const LIMIT: Duration = Duration::from_secs(1);

/// A service of which a layer may demand nothing more.
#[derive(Clone, Debug)]
struct Inner;

impl Service<PredictRequest> for Inner {
    type Response = Prediction;
    type Error = Error;
    type Future = std::future::Ready<Result<Prediction, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: PredictRequest) -> Self::Future {
        ready(Ok(answer("inner")))
    }
}

fn shared<T: Clone + Debug + Send + Sync + 'static>(shared: T) -> T {
    shared
}

/// What holds for a layer and its service, whatever they do.
fn layer<L>(layer: L) -> L::Service
where
    L: Layer<Inner> + Clone + Debug + Send + Sync + 'static,
    L::Service: Service<PredictRequest, Response = Prediction, Error = Error, Future: Send>
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    let mut service = shared(shared(layer).layer(Inner));
    drop(service.call(PredictRequest::new(serde_json::json!({}))));
    service
}

// Made at compile time, where nothing is shared between clones.
const _: TimeoutLayer = TimeoutLayer::new(LIMIT).with_grace(LIMIT);
const _: DeadlineLayer = DeadlineLayer::new(LIMIT)
    .with_reserve(LIMIT)
    .with_grace(LIMIT);
const _: CancelLayer = CancelLayer::new().with_grace(LIMIT);
const _: AllotLayer = AllotLayer::new(3).with_default(LIMIT).with_grace(LIMIT);
const _: FallbackLayer<FallbackService<Inner>> = FallbackLayer::new(FallbackService::new(Inner));

/// The service that `$new` makes, which its layer makes too, and the way back to the inner service.
macro_rules! trio {
    ($($layer:expr, $new:expr;)*) => {$(
        let mut service = $new;
        let _same = [service.clone(), layer($layer)];
        let (_, _): (&Inner, &Inner) = (&service.get_ref().clone(), service.get_mut());
        let Inner = service.into_inner();
    )*};
}

#[tokio::test(start_paused = true)]
async fn each_layer_has_the_same_shape() {
    let (tracker, shutdown, session) = (Tracker::new(), Shutdown::new(), Session::new());
    let (latency, percentile) = (Latency::default(), Percentile::P95);
    let value = || Value::new(answer("value"));
    trio! {
        TimeoutLayer::new(LIMIT), Timeout::new(Inner, LIMIT);
        DeadlineLayer::new(LIMIT), DeadlineService::new(Inner, LIMIT);
        CancelLayer::new(), CancelService::new(Inner);
        FallbackLayer::new(value()), Fallback::new(Inner, value());
        RetryLayer::new(2), Retry::new(Inner, RetryLayer::new(2).into_policy());
        HedgeLayer::new(percentile), Hedge::new(Inner, percentile);
        AllotLayer::new(3), Allot::new(Inner, 3);
        TrackLayer::new(tracker.clone()), Track::new(Inner, tracker.clone());
        ShutdownLayer::new(shutdown.clone()), ShutdownService::new(Inner, shutdown.clone());
        RecordLatencyLayer::new(latency.clone(), percentile),
            RecordLatency::new(Inner, latency.clone(), percentile);
        SessionLayer::new(session.clone()), SessionService::new(Inner, &session);
    }
    layer(FallbackLayer::with(|error: Error, _: PredictRequest| {
        ready(Err::<Prediction, _>(error))
    }));
    layer(
        FallbackLayer::service(Inner)
            .or(Stale::predictions(LIMIT))
            .or(value()),
    );
    layer(StandardStack::new());
    layer(
        StandardStack::new()
            .with_shutdown(shutdown)
            .with_tracker(tracker)
            .with_fallback(FallbackLayer::service(Inner))
            .with_hedge(HedgeLayer::after(LIMIT)),
    );
}

#[test]
fn services_and_requests_need_no_clone() {
    // A service without `Clone` and a request without it, where a layer keeps neither.
    struct Single;
    let single = Single;
    let service = service_fn(move |_: tower_dspy::WithContext<Single>| {
        let _ = &single;
        ready(Ok::<_, Error>(()))
    });
    drop(
        TimeoutLayer::new(secs(1))
            .layer(service)
            .call(tower_dspy::WithContext::new(Single)),
    );
}

#[test]
fn response_futures_are_shown_whatever_is_inside() {
    struct Inside;
    fn shown<T: Debug>() {}
    shown::<tower_dspy::layers::RecordLatencyFuture<Inside>>();
    shown::<tower_dspy::layers::OutboundFuture<Inside>>();
}
