//! [`RecordLatencyLayer`]: fills a [`Latency`].

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Latency, Percentile, Stopwatch};

/// Records how long the inner service takes to answer, from `call` on, for a layer that reads it.
///
/// It changes nothing about a request. A failure is not recorded. A call that was stopped, that is
/// dropped, took longer than it ran: if it had run for no less than the percentile that is recorded,
/// it counts with that time, else not at all. So the percentile that the layer is made with stays
/// right where the slow calls are the ones that are stopped; those above it may come out too short.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Error, WithContext};
/// use tower_dspy::{DeadlineLayer, Latency, Percentile, RecordLatencyLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let latency = Latency::default();
/// let service = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)).with_latency(latency.clone(), Percentile::P50))
///     .layer(RecordLatencyLayer::new(latency.clone(), Percentile::P50))
///     .service_fn(|question: WithContext<&'static str>| async move {
///         tokio::time::sleep(Duration::from_secs(2)).await;
///         Ok::<_, Error>(question.request.len())
///     });
/// service.oneshot(WithContext::new("why?")).await?;
/// assert_eq!(latency.samples(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Where it belongs
/// Inside the limits, so that they stop it and not the other way round. Not around, nor inside, a
/// [`HedgeLayer`](crate::layers::HedgeLayer) with the same `Latency`, which records by itself.
///
/// # What it demands of the inner service
/// Nothing: any request, any answer, any error.
///
/// # How it differs from tower's layers
/// tower has none for this; its `hedge` has a histogram within, which nothing else can be told of.
///
/// # Cancel safety
/// Dropping the response future drops the inner one.
#[derive(Clone, Debug)]
pub struct RecordLatencyLayer {
    latency: Latency,
    percentile: Percentile,
}

impl RecordLatencyLayer {
    /// Fills `latency`, of which `percentile` will be asked.
    #[must_use]
    pub const fn new(latency: Latency, percentile: Percentile) -> Self {
        Self {
            latency,
            percentile,
        }
    }
}

impl<S> Layer<S> for RecordLatencyLayer {
    type Service = RecordLatency<S>;

    fn layer(&self, inner: S) -> RecordLatency<S> {
        RecordLatency {
            inner,
            config: self.clone(),
        }
    }
}

/// Records how long its inner service takes; see [`RecordLatencyLayer`].
#[derive(Clone, Debug)]
pub struct RecordLatency<S> {
    inner: S,
    config: RecordLatencyLayer,
}

impl<S> RecordLatency<S> {
    /// Fills `latency`, of which `percentile` will be asked, from the answers of `inner`.
    #[must_use]
    pub fn new(inner: S, latency: Latency, percentile: Percentile) -> Self {
        RecordLatencyLayer::new(latency, percentile).layer(inner)
    }

    inner_service_accessors!();
}

impl<S: Service<R>, R> Service<R> for RecordLatency<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = RecordLatencyFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let RecordLatencyLayer {
            latency,
            percentile,
        } = &self.config;
        let floor = latency.percentile(*percentile);
        let mut stopwatch = Stopwatch::new(Some(latency.clone()), floor);
        stopwatch.start(Instant::now());
        RecordLatencyFuture {
            future: self.inner.call(request),
            stopwatch,
        }
    }
}

pin_project! {
    /// The response future of [`RecordLatency`].
    pub struct RecordLatencyFuture<F> {
        #[pin]
        future: F,
        stopwatch: Stopwatch,
    }
}

impl<F> fmt::Debug for RecordLatencyFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordLatencyFuture")
            .finish_non_exhaustive()
    }
}

impl<F, T, E> Future for RecordLatencyFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        match result {
            Ok(_) => this.stopwatch.answered(),
            Err(_) => this.stopwatch.void(),
        }
        Poll::Ready(result)
    }
}
