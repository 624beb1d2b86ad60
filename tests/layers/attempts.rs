//! Attempts at a call that record when they are sent and how they end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::Service;
use tower_dspy::{Cause, Error, HedgeLayer, drop_scope};

use super::support::{Request, millis};

pub(crate) type Outcome = Result<&'static str, Error>;

/// What became of the attempts of one or more calls.
#[derive(Clone)]
pub(crate) struct Attempts {
    start: Instant,
    pub(crate) sent: Arc<Mutex<Vec<(Duration, Request)>>>,
    dropped: Arc<Mutex<Vec<(u32, Cause)>>>,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            sent: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// When each attempt was sent, and its number.
    pub(crate) fn sent(&self) -> Vec<(Duration, u32)> {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .map(|(at, request)| (*at, request.context.attempt))
            .collect()
    }

    /// The attempts that were dropped before they were done, and why.
    pub(crate) fn dropped(&self) -> Vec<(u32, Cause)> {
        self.dropped.lock().unwrap().clone()
    }

    /// The outcome of attempt `n` is `script(n)`, after its delay.
    pub(crate) fn play(
        &self,
        script: impl Fn(u32) -> (Duration, Outcome) + Clone + Send + Sync + 'static,
    ) -> impl Service<Request, Response = &'static str, Error = Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let log = self.clone();
        tower::service_fn(move |request: Request| {
            let attempt = request.context.attempt;
            log.sent
                .lock()
                .unwrap()
                .push((log.start.elapsed(), request));
            let (delay, outcome) = script(attempt);
            let probe = Probe(Some((log.clone(), attempt)));
            async move {
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                probe.done();
                outcome
            }
        })
    }
}

struct Probe(Option<(Attempts, u32)>);

impl Probe {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some((log, attempt)) = self.0.take() {
            let dropped = (attempt, drop_scope::cause());
            log.dropped.lock().unwrap().push(dropped);
        }
    }
}

/// The first attempt takes so long, the second so long.
pub(crate) fn takes(first: u64, second: u64) -> impl Fn(u32) -> (Duration, Outcome) + Clone {
    move |attempt| match attempt {
        0 => (millis(first), Ok("first")),
        _ => (millis(second), Ok("second")),
    }
}

pub(crate) fn after(delay: u64) -> HedgeLayer {
    HedgeLayer::after(millis(delay))
}
