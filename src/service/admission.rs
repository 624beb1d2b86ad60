//! The admission of calls: a bounded number run, and a bounded number wait for a permit.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::ReusableBoxFuture;

use super::tenant_permits::{TenantPermit, TenantPermits};
use crate::{error::Overloaded, request::Tenant};

/// The permits of one program, shared by the clones of its service.
#[derive(Debug)]
pub(crate) struct Permits {
    max_in_flight: usize,
    max_waiting: usize,
    free: Arc<Semaphore>,
    /// A permit of this one is held while waiting for one of `free`.
    queue: Arc<Semaphore>,
    /// The most calls of one tenant, if there is such a limit.
    max_per_tenant: Option<usize>,
    of_tenants: TenantPermits,
}

/// What a call holds until all its work has ended.
#[derive(Debug)]
pub(crate) struct Permit {
    // Dropped first: dropping the program's permit wakes a waiting call, which needs the tenant's permit
    // to be free.
    _of_tenant: Option<TenantPermit>,
    _of_program: OwnedSemaphorePermit,
}

impl Permits {
    pub(crate) fn new(max_in_flight: usize, max_waiting: usize) -> Self {
        let max_in_flight = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max_in_flight,
            max_waiting,
            free: Arc::new(Semaphore::new(max_in_flight)),
            queue: Arc::new(Semaphore::new(max_waiting.min(Semaphore::MAX_PERMITS))),
            max_per_tenant: None,
            of_tenants: TenantPermits::default(),
        }
    }

    /// The same, with at most so many calls of one tenant at once.
    pub(crate) fn with_max_per_tenant(mut self, calls: Option<usize>) -> Self {
        self.max_per_tenant = calls;
        self
    }

    /// Adds the permit of its tenant to that of the program, or refuses the call.
    pub(crate) fn of_tenant(
        &self,
        of_program: OwnedSemaphorePermit,
        tenant: Option<&Tenant>,
        program: &str,
    ) -> Result<Permit, Overloaded> {
        let of_tenant = match self.max_per_tenant {
            None => None,
            Some(most) => Some(
                self.of_tenants
                    .try_acquire(tenant, most)
                    .ok_or_else(|| Overloaded::tenant(program, most))?,
            ),
        };
        Ok(Permit {
            _of_tenant: of_tenant,
            _of_program: of_program,
        })
    }

    #[cfg(feature = "_host")]
    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight
            .saturating_sub(self.free.available_permits())
    }

    /// The calls that wait for a permit.
    #[cfg(all(feature = "_host", feature = "metrics"))]
    pub(crate) fn waiting(&self) -> usize {
        self.max_waiting
            .min(Semaphore::MAX_PERMITS)
            .saturating_sub(self.queue.available_permits())
    }

    /// The calls that may run at once, and those that may wait.
    #[cfg(all(feature = "_host", feature = "metrics"))]
    pub(crate) const fn limits(&self) -> (usize, usize) {
        (self.max_in_flight, self.max_waiting)
    }

    pub(crate) fn overloaded(&self, program: &str) -> Overloaded {
        Overloaded::new(program, self.max_in_flight, self.max_waiting)
    }

    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }
}

/// The admission of a service's next call, between `poll_ready` and `call`.
#[derive(Debug)]
pub(crate) enum Admission {
    Idle,
    Waiting(ReusableBoxFuture<'static, Option<OwnedSemaphorePermit>>),
    /// Without a permit it is overloaded.
    Ready(Option<OwnedSemaphorePermit>),
}

impl Admission {
    /// Ready with a permit, or because too many calls wait for one.
    pub(crate) fn poll(&mut self, permits: &Permits, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Self::Ready(_) => return Poll::Ready(()),
                Self::Waiting(acquire) => Self::Ready(ready!(acquire.poll(cx))),
                Self::Idle => {
                    let (free, queue) = (permits.free.clone(), permits.queue.clone());
                    Self::Waiting(ReusableBoxFuture::new(acquire(free, queue)))
                }
            };
        }
    }

    /// The permit of the call that comes now, if there is one.
    pub(crate) fn take(&mut self, permits: &Permits) -> Option<OwnedSemaphorePermit> {
        match mem::replace(self, Self::Idle) {
            Self::Ready(Some(permit)) => Some(permit),
            // One may have come free since.
            _ => permits.try_acquire(),
        }
    }
}

/// A clone of a service waits for a permit of its own.
impl Clone for Admission {
    fn clone(&self) -> Self {
        Self::Idle
    }
}

/// A permit of `free`, which is waited for with one of `queue`. `None` if too many wait.
async fn acquire(free: Arc<Semaphore>, queue: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = free.clone().try_acquire_owned() {
        return Some(permit);
    }
    let _queued = queue.try_acquire_owned().ok()?;
    // It fails where the semaphore is closed, which it never is.
    free.acquire_owned().await.ok()
}
