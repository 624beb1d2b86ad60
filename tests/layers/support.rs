//! Work that records how it ends.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, util::BoxCloneSyncService};
use tower_dspy::{
    CallContext, Cancelled, Carrier, Cause, Deadline, Elapsed, Scope, Stage, WithContext,
    drop_scope,
};

pub(crate) type Request = WithContext<()>;
pub(crate) type Mocked = BoxCloneSyncService<Request, &'static str, BoxError>;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn request() -> Request {
    WithContext::new(())
}

pub(crate) fn due(limit: Duration) -> Request {
    let mut request = request();
    request.context_mut().limit(Deadline::within(limit));
    request
}

/// The time since `start`, and what was answered.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let start = Instant::now();
    let output = work.await;
    (start.elapsed(), output)
}

#[track_caller]
pub(crate) fn elapsed<T: std::fmt::Debug>(result: Result<T, BoxError>) -> (Scope, Stage, Duration) {
    let error = *result.unwrap_err().downcast::<Elapsed>().unwrap();
    (error.scope(), error.stage(), error.limit())
}

#[track_caller]
pub(crate) fn cancelled<T: std::fmt::Debug>(result: Result<T, BoxError>) -> Cause {
    result.unwrap_err().downcast::<Cancelled>().unwrap().cause()
}

/// What became of the calls of one mock service.
#[derive(Clone, Default)]
pub(crate) struct Record {
    calls: Arc<AtomicUsize>,
    drops: Arc<Mutex<Vec<Cause>>>,
    contexts: Arc<Mutex<Vec<CallContext>>>,
}

impl Record {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The causes of the calls that were dropped before they were done.
    pub(crate) fn drops(&self) -> Vec<Cause> {
        self.drops.lock().unwrap().clone()
    }

    /// The context that the last call got.
    pub(crate) fn context(&self) -> CallContext {
        self.contexts.lock().unwrap().last().unwrap().clone()
    }

    fn probe(&self, request: &Request) -> Probe {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.contexts.lock().unwrap().push(request.context.clone());
        Probe {
            record: self.clone(),
            done: false,
        }
    }

    /// A service that answers after `delay`.
    pub(crate) fn answers(&self, delay: Duration) -> Mocked {
        let record = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request| {
            let probe = record.probe(&request);
            async move {
                sleep(delay).await;
                probe.done();
                Ok("answer")
            }
        }))
    }

    /// A service that works until it is told to stop, cleans up for `tidy`, and answers.
    pub(crate) fn tidies(&self, tidy: Duration) -> Mocked {
        let record = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request| {
            let probe = record.probe(&request);
            async move {
                match request.context.cancel.cancelled_owned() {
                    Some(signal) => signal.await,
                    None => pending().await,
                }
                sleep(tidy).await;
                probe.done();
                Ok("tidied")
            }
        }))
    }
}

struct Probe {
    record: Record,
    done: bool,
}

impl Probe {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.done {
            self.record.drops.lock().unwrap().push(drop_scope::cause());
        }
    }
}

/// A service that is never ready, and panics if it is called.
#[derive(Clone)]
pub(crate) struct NeverReady;

impl Service<Request> for NeverReady {
    type Response = &'static str;
    type Error = BoxError;
    type Future = std::future::Ready<Result<&'static str, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Pending
    }

    fn call(&mut self, _: Request) -> Self::Future {
        panic!("called, but was never ready")
    }
}

/// A service that panics if a clone is called that was not ready itself.
pub(crate) struct Strict {
    ready: bool,
    pub(crate) delay: Duration,
}

impl Strict {
    pub(crate) fn after(delay: Duration) -> Self {
        Self {
            ready: false,
            delay,
        }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::after(self.delay)
    }
}

impl Service<Request> for Strict {
    type Response = &'static str;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        self.ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without readiness");
        let delay = self.delay;
        Box::pin(async move {
            sleep(delay).await;
            Ok("answer")
        })
    }
}
