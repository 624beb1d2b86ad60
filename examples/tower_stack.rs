//! How do I put these layers into a tower stack that I have, with no Python?
//!
//! Run: `cargo run --no-default-features --example tower_stack`, or `cargo test --example tower_stack`
//!
//! The service here prices things by asking another service, under limits that tower's own layers
//! set. What this crate adds is a deadline for the whole call, and retries within it. A request
//! need only be a `Carrier`: `WithContext` makes one of any type, and an `http::Request` is one.

use std::time::Duration;

use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, util::BoxCloneSyncService,
};
use tower_dspy::{Backoff, DeadlineLayer, RetryLayer, TimeoutLayer, WithContext};

/// What is asked; with its context it is what goes through the stack.
#[derive(Clone, Debug)]
struct PriceOf(&'static str);

type Priced = BoxCloneSyncService<WithContext<PriceOf>, u32, BoxError>;

/// The stack, around whatever asks the other service.
fn stack<S>(other: S) -> Priced
where
    S: Service<WithContext<PriceOf>, Response = u32, Error = BoxError>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let layers = ServiceBuilder::new()
        // Ours: 2 s for all that follows, the waiting for readiness included. It travels inward with
        // the request, and no limit below is longer than what is left of it.
        .layer(DeadlineLayer::new(Duration::from_secs(2)))
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::from_millis(100))))
        .layer(TimeoutLayer::new(Duration::from_millis(800)))
        // Tower's, as they were.
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(8));
    BoxCloneSyncService::new(layers.service(other))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let other = tower::service_fn(|request: WithContext<PriceOf>| async move {
        let left = request
            .context
            .deadline
            .map(|deadline| deadline.remaining());
        println!("asked for {} with {left:.1?} to go", request.request.0);
        Ok(7)
    });
    let price = stack(other)
        .oneshot(WithContext::new(PriceOf("tea")))
        .await?;
    println!("it costs {price}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::time::{Instant, sleep};
    use tower_dspy::ErrorKind;

    use super::*;

    /// Takes so long at each attempt, in milliseconds, and counts those that were not stopped.
    fn other(takes: &'static [u64], finished: Arc<AtomicUsize>) -> Priced {
        let attempts = Arc::new(AtomicUsize::new(0));
        stack(tower::service_fn(move |_: WithContext<PriceOf>| {
            let takes = takes[attempts.fetch_add(1, Relaxed)];
            let finished = finished.clone();
            async move {
                sleep(Duration::from_millis(takes)).await;
                finished.fetch_add(1, Relaxed);
                Ok(7)
            }
        }))
    }

    async fn ask(stack: Priced) -> (Result<u32, ErrorKind>, u128) {
        let begun = Instant::now();
        let price = stack.oneshot(WithContext::new(PriceOf("tea"))).await;
        let price = price.map_err(|error| ErrorKind::of(&*error));
        (price, begun.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_attempt_is_stopped_and_another_made() {
        let finished = Arc::new(AtomicUsize::new(0));
        let answer = ask(other(&[5_000, 50], finished.clone())).await;
        assert_eq!(answer, (Ok(7), 800 + 100 + 50));
        assert_eq!(finished.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_takes_longer_than_the_deadline() {
        let finished = Arc::new(AtomicUsize::new(0));
        let answer = ask(other(&[5_000, 5_000, 5_000], finished.clone())).await;
        assert_eq!(answer, (Err(ErrorKind::Deadline), 2_000));
        assert_eq!(finished.load(Relaxed), 0);
    }
}
