//! A timer that was lent to the limits within is given back.

use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_dspy::{Scope, layers::TimeoutLayer};

use super::support::*;

#[tokio::test(start_paused = true)]
async fn the_timer_of_one_call_is_not_lent_to_the_next() {
    let record = Record::default();
    let failing = service_fn(|_: Request| async { Err::<&str, BoxError>("failed".into()) });
    let failing = TimeoutLayer::new(secs(9)).layer(failing);
    assert!(failing.oneshot(request()).await.is_err());
    let service = TimeoutLayer::new(secs(1)).layer(record.answers(secs(60)));
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(1));
    assert_eq!(elapsed(result).0, Scope::Attempt);
}
