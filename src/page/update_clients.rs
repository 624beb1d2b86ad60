//! The clients of the streams by which a page is live.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::layers::Shutdown;

/// The clients of the streams of a page.
#[derive(Debug)]
pub(super) struct UpdateClients {
    permits: Arc<Semaphore>,
    shutdown: Option<Shutdown>,
}

impl UpdateClients {
    /// How many streams there are at most.
    const MOST: usize = 16;

    pub(super) fn new(shutdown: Option<Shutdown>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(Self::MOST)),
            shutdown,
        }
    }

    /// A permit of a stream; `None` if there are as many as may be.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Whether the server takes no more calls.
    pub(super) fn is_shutting_down(&self) -> bool {
        let shutdown = self.shutdown.as_ref();
        shutdown.is_some_and(|shutdown| !shutdown.is_accepting())
    }
}
