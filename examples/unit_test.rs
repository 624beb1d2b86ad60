//! How do I test my stack with paused time, and no Python?
//!
//! Run: `cargo test --example unit_test`, or `cargo run --example unit_test`
//!
//! `MockDspy` stands where the program's service will. Time is paused, so a test of ten seconds
//! takes none, and each instant in it is exact.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_dspy::{
    Backoff, DeadlineLayer, Error, FallbackLayer, PredictRequest, Prediction, RetryLayer,
    TimeoutLayer,
    testing::mock::{MockDspy, Reply},
};

type Answers = BoxCloneSyncService<PredictRequest, Prediction, Error>;

/// What the service does in production, around whatever answers.
fn stack<S>(program: S) -> Answers
where
    S: tower::Service<PredictRequest, Response = Prediction, Error = Error>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let apology = [("answer".to_owned(), "Ask me later.".into())];
    let layers = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(10)))
        .layer(
            FallbackLayer::value(Prediction::new(apology.into_iter().collect()))
                .with_reserve(Duration::from_secs(1)),
        )
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::from_millis(100))))
        .layer(TimeoutLayer::new(Duration::from_secs(4)));
    BoxCloneSyncService::new(layers.service(program))
}

/// The tests are below; this shows one of them at work.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Error> {
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let start = Instant::now();
    let answer = stack(mock.clone()).oneshot(ask()).await?;
    println!("{} (after {:?})", answer.outputs["answer"], start.elapsed());
    println!("{} attempts were stopped", mock.stopped().len());
    Ok(())
}

fn ask() -> PredictRequest {
    PredictRequest::new(json!({"question": "The capital of France?"}))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tokio_test::{assert_pending, task};
    use tower_dspy::{Cause, ErrorKind, LmError, testing::mock::CallEnd};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_lm_that_stumbles_is_asked_again() {
        let busy = LmError::new(
            "LMRateLimitError",
            "slow down",
            Some(429),
            Some(Duration::from_secs(2)),
        );
        let mock = MockDspy::new([Reply::error(busy), Reply::answer("Paris")]);
        let start = Instant::now();
        let answer = stack(mock.clone()).oneshot(ask()).await.unwrap();
        assert_eq!(answer.outputs["answer"], "Paris");
        // Retry-After was heeded.
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(mock.calls()[1].attempt, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_hangs_is_stopped_and_the_caller_gets_an_apology() {
        let mock = MockDspy::from_fn(|_| Reply::hang());
        let start = Instant::now();
        let answer = stack(mock.clone()).oneshot(ask()).await.unwrap();
        assert_eq!(answer.outputs["answer"], "Ask me later.");
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        // The third attempt had what the deadline and the reserve left.
        let left: Vec<_> = mock.calls().iter().map(|call| call.time_left).collect();
        let four = Some(Duration::from_secs(4));
        assert_eq!(left, [four, four, Some(Duration::from_millis(800))]);
        assert_eq!(mock.stopped(), [Cause::Elapsed; 3]);
        assert_eq!(mock.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_leaves_stops_the_work() {
        let mock = MockDspy::new([Reply::hang()]);
        let mut call = task::spawn(stack(mock.clone()).oneshot(ask()));
        assert_pending!(call.poll());
        advance(Duration::from_secs(1)).await;
        drop(call);
        assert_eq!(mock.calls()[0].end, Some(CallEnd::Stopped(Cause::Dropped)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_question_is_asked_once() {
        let mock = MockDspy::new([Reply::fail(ErrorKind::InvalidInput)]);
        let answer = stack(mock.clone()).oneshot(ask()).await;
        assert!(answer.is_err());
        assert_eq!(mock.calls().len(), 1);
    }
}
