//! The calls that the example makes itself.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tower::{Service, ServiceExt};
use tower_dspy::{PredictRequest, Prediction, PredictionStream};

use crate::fault::{Fault, Faults};

/// Makes so many calls a second, the fifth part of them as streams, and five times as many where the
/// fault is overload.
pub(crate) async fn run<S, T>(qa: S, streamed: T, faults: Faults, calls_per_second: u32)
where
    S: Service<PredictRequest, Response = Prediction> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    T: Service<PredictRequest, Response = PredictionStream> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Send,
{
    let mut ticks = interval(Duration::from_secs(1) / calls_per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for n in 0_u64.. {
        ticks.tick().await;
        let fault = faults.now();
        let request = || PredictRequest::new(json!({"question": fault.question()}));
        let at_once = if fault == Fault::Overload { 8 } else { 1 };
        for _ in 0..at_once {
            if n % 5 > 0 {
                tokio::spawn(qa.clone().oneshot(request()));
            } else {
                let call = streamed.clone().oneshot(request());
                tokio::spawn(async move {
                    if let Ok(mut events) = call.await {
                        while events.next().await.is_some() {}
                    }
                });
            }
        }
        if n % 100 == 0 {
            faults.forget_requests();
        }
    }
}
