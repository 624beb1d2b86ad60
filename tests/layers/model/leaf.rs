//! The innermost service of the random stacks: it follows a plan and records what happens to it.

use std::{
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};
use tower::Service;
use tower_dspy::{Cause, Error, WithContext, drop_scope};

use crate::{script::busy, support::Request};

/// What one attempt does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    Answers(Duration),
    Fails(Duration),
    Never,
    /// Works until it is told to stop, and for so long after that.
    Tidies(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Done,
    Dropped(Cause),
}

#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// The limit that the work was told.
    pub(crate) limit: Option<Duration>,
    pub(crate) began: Duration,
    pub(crate) end: Option<(Duration, End)>,
}

/// All times are since it was made.
pub(crate) struct Ledger {
    start: Instant,
    works: Mutex<Vec<Work>>,
}

impl Ledger {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            works: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn works(&self) -> Vec<Work> {
        self.works.lock().unwrap().clone()
    }

    fn begin(self: &Arc<Self>, limit: Option<Instant>) -> Running {
        let mut works = self.works.lock().unwrap();
        works.push(Work {
            limit: limit.map(|limit| limit.saturating_duration_since(self.start)),
            began: self.now(),
            end: None,
        });
        Running {
            ledger: Arc::clone(self),
            index: works.len() - 1,
        }
    }
}

pub(crate) struct Running {
    ledger: Arc<Ledger>,
    index: usize,
}

impl Running {
    fn end(&self, end: End) {
        let mut works = self.ledger.works.lock().unwrap();
        let now = self.ledger.now();
        works[self.index].end.get_or_insert((now, end));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(End::Dropped(drop_scope::cause()));
    }
}

pub(crate) struct Leaf {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) attempts: Arc<[Behaviour]>,
    /// How long each clone takes to get ready, each time.
    pub(crate) readiness: Duration,
    pub(crate) waits: Option<Pin<Box<Sleep>>>,
    pub(crate) ready: bool,
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self {
            ledger: Arc::clone(&self.ledger),
            attempts: Arc::clone(&self.attempts),
            readiness: self.readiness,
            waits: None,
            ready: false,
        }
    }
}

impl Service<Request> for Leaf {
    type Response = &'static str;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<&'static str, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.ready && !self.readiness.is_zero() {
            let readiness = self.readiness;
            let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(readiness)));
            ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, WithContext { context, .. }: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without readiness");
        let limit = context.deadline.map(|deadline| deadline.instant());
        let work = self.ledger.begin(limit);
        let behaviour = self.attempts[work.index % self.attempts.len()];
        Box::pin(async move {
            let result = match behaviour {
                Behaviour::Answers(delay) => {
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    Ok("answer")
                }
                Behaviour::Fails(delay) => {
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    Err(busy(None))
                }
                Behaviour::Never => pending().await,
                Behaviour::Tidies(delay) => {
                    match context.cancel.cancelled_owned() {
                        Some(signal) => signal.await,
                        None => pending().await,
                    }
                    sleep(delay).await;
                    Ok("tidied")
                }
            };
            work.end(End::Done);
            result
        })
    }
}
