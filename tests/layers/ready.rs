//! The readiness of services inside layers that are always ready.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::Semaphore;
use tokio_test::{assert_pending, task};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_dspy::{CancelLayer, DeadlineLayer, FallbackLayer};

use super::support::*;

/// Counts its clones, and says of its readiness what it was told.
struct Counted {
    clones: Arc<AtomicUsize>,
    ready: fn() -> Poll<Result<(), BoxError>>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            clones: Arc::clone(&self.clones),
            ready: self.ready,
        }
    }
}

impl Service<Request> for Counted {
    type Response = &'static str;
    type Error = BoxError;
    type Future = std::future::Ready<Result<&'static str, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        (self.ready)()
    }

    fn call(&mut self, _: Request) -> Self::Future {
        std::future::ready(Ok("answer"))
    }
}

fn counted(ready: fn() -> Poll<Result<(), BoxError>>) -> (Counted, Arc<AtomicUsize>) {
    let clones = Arc::default();
    let service = Counted {
        clones: Arc::clone(&clones),
        ready,
    };
    (service, clones)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_is_not_cloned() {
    let (service, clones) = counted(|| Poll::Ready(Ok(())));
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(9)))
        .layer(CancelLayer::new())
        .layer(FallbackLayer::value("fallback"))
        .service(service);
    for _ in 0..3 {
        assert_eq!(service.call(request()).await.unwrap(), "answer");
    }
    assert_eq!(clones.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_service_that_cannot_get_ready_is_the_answer() {
    let (service, _) = counted(|| Poll::Ready(Err("gone".into())));
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(9)))
        .layer(CancelLayer::new())
        .service(service);
    let error = service.call(request()).await.unwrap_err();
    assert_eq!(error.to_string(), "gone");
    // And a fallback may answer for it.
    let (service, _) = counted(|| Poll::Ready(Err("gone".into())));
    let mut service = FallbackLayer::value("fallback").layer(service);
    assert_eq!(service.call(request()).await.unwrap(), "fallback");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_no_reserved_readiness_behind() {
    let permits = Arc::new(Semaphore::new(1));
    let mut service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(9)))
        .layer(CancelLayer::new())
        .layer(tower::limit::GlobalConcurrencyLimitLayer::with_semaphore(
            Arc::clone(&permits),
        ))
        .service(Record::default().answers(secs(1)));
    let mut first = task::spawn(service.call(request()));
    assert_pending!(first.poll());

    // It never gets its turn, and neither does the service that stays.
    let second = service.call(request());
    drop(second);
    assert_eq!(first.await.unwrap(), "answer");
    assert_eq!(permits.available_permits(), 1);

    // Those that wait are served in the order in which they were called.
    let mut first = task::spawn(service.call(request()));
    let mut second = task::spawn(service.call(request()));
    let mut third = task::spawn(service.call(request()));
    assert_pending!(third.poll());
    assert_pending!(second.poll());
    assert_pending!(first.poll());
    let (took, _) = timed(async { tokio::join!(first, second) }).await;
    assert_eq!(took, secs(2));
    assert_eq!(third.await.unwrap(), "answer");
    assert_eq!(permits.available_permits(), 1);
}
