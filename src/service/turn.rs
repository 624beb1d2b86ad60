//! Waiting for one of a bounded number of permits, with a bounded number of others.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Overloaded;
use crate::service::places::{Place, Places};

/// The permits of one program, shared by the clones of its service.
#[derive(Debug)]
pub(crate) struct Permits {
    max_in_flight: usize,
    free: Arc<Semaphore>,
    waiting: Places,
}

impl Permits {
    pub(crate) fn new(max_in_flight: usize, max_waiting: usize) -> Self {
        let max_in_flight = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max_in_flight,
            free: Arc::new(Semaphore::new(max_in_flight)),
            waiting: Places::new(max_waiting),
        }
    }

    #[cfg(feature = "_host")]
    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight
            .saturating_sub(self.free.available_permits())
    }

    pub(crate) fn overloaded(&self, program: &str) -> Overloaded {
        Overloaded::new(program, self.max_in_flight, self.waiting.max())
    }

    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }
}

/// Where a service stands between `poll_ready` and `call`.
pub(crate) enum Turn {
    Idle,
    Waiting { acquire: Acquire, _place: Place },
    Ready(OwnedSemaphorePermit),
    Overloaded,
}

type Acquire = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

impl Turn {
    /// Ready with a permit, or to say that there are too many who wait for one.
    pub(crate) fn poll(&mut self, permits: &Permits, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::Ready(_) | Self::Overloaded => return Poll::Ready(()),
                Self::Waiting { acquire, .. } => {
                    // The semaphore is never closed; if it were, the call would say so.
                    *self = ready!(acquire.as_mut().poll(cx)).map_or(Self::Overloaded, Self::Ready);
                }
                Self::Idle => {
                    *self =
                        match permits.try_acquire() {
                            Some(permit) => Self::Ready(permit),
                            None => permits.waiting.take().map_or(Self::Overloaded, |place| {
                                Self::Waiting {
                                    acquire: acquire(permits.free.clone()),
                                    _place: place,
                                }
                            }),
                        };
                }
            }
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

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Waiting { .. } => "Waiting",
            Self::Ready(_) => "Ready",
            Self::Overloaded => "Overloaded",
        })
    }
}
