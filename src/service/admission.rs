//! The admission of calls: a bounded number run, and a bounded number wait for a permit.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Overloaded;

/// The permits of one program, shared by the clones of its service.
#[derive(Debug)]
pub(crate) struct Permits {
    max_in_flight: usize,
    max_waiting: usize,
    free: Arc<Semaphore>,
    /// A permit of this one is held while waiting for one of `free`.
    queue: Arc<Semaphore>,
}

impl Permits {
    pub(crate) fn new(max_in_flight: usize, max_waiting: usize) -> Self {
        let max_in_flight = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max_in_flight,
            max_waiting,
            free: Arc::new(Semaphore::new(max_in_flight)),
            queue: Arc::new(Semaphore::new(max_waiting.min(Semaphore::MAX_PERMITS))),
        }
    }

    #[cfg(feature = "_host")]
    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight
            .saturating_sub(self.free.available_permits())
    }

    pub(crate) fn overloaded(&self, program: &str) -> Overloaded {
        Overloaded::new(program, self.max_in_flight, self.max_waiting)
    }

    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }
}

/// The admission of a service's next call, between `poll_ready` and `call`.
pub(crate) enum Admission {
    Idle,
    Waiting {
        acquire: Acquire,
        _queued: OwnedSemaphorePermit,
    },
    Ready(OwnedSemaphorePermit),
    Overloaded,
}

type Acquire = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

impl Admission {
    /// Ready with a permit, or because too many calls wait for one.
    pub(crate) fn poll(&mut self, permits: &Permits, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Self::Ready(_) | Self::Overloaded => return Poll::Ready(()),
                // The semaphore is never closed; if it were, the call would be refused.
                Self::Waiting { acquire, .. } => {
                    ready!(acquire.as_mut().poll(cx)).map_or(Self::Overloaded, Self::Ready)
                }
                Self::Idle => match permits.try_acquire() {
                    Some(permit) => Self::Ready(permit),
                    None => match permits.queue.clone().try_acquire_owned() {
                        Ok(queued) => Self::Waiting {
                            acquire: acquire(permits.free.clone()),
                            _queued: queued,
                        },
                        Err(_) => Self::Overloaded,
                    },
                },
            };
        }
    }

    /// The permit of the call that comes now, if there is one.
    pub(crate) fn take(&mut self, permits: &Permits) -> Option<OwnedSemaphorePermit> {
        match std::mem::replace(self, Self::Idle) {
            Self::Ready(permit) => Some(permit),
            // One may have come free since.
            _ => permits.try_acquire(),
        }
    }
}

fn acquire(free: Arc<Semaphore>) -> Acquire {
    Box::pin(async move { free.acquire_owned().await.ok() })
}

/// A clone of a service waits for a permit of its own.
impl Clone for Admission {
    fn clone(&self) -> Self {
        Self::Idle
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Waiting { .. } => "Waiting",
            Self::Ready(_) => "Ready",
            Self::Overloaded => "Overloaded",
        })
    }
}
