//! The count of the requests that a client resets, by which a flood of them is known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many requests of a connection may be reset early, whatever became of the others; and how many
/// more when it was asked to end.
const RESETS: usize = 500;

/// A request that is reset later than this is not counted: it was meant.
const EARLY: Duration = Duration::from_secs(1);

/// The requests of a connection, and how many of them were reset early. h2 itself limits only the resets
/// of requests that it has not handed out.
#[derive(Debug, Default)]
pub(super) struct ResetCount {
    requests: AtomicUsize,
    resets: AtomicUsize,
    exceeded: CancellationToken,
    flooded: CancellationToken,
}

impl ResetCount {
    /// Counts a request, which is reset if it is dropped before it is [answered](OpenRequest::answered).
    pub(super) fn request(self: &Arc<Self>) -> OpenRequest {
        self.requests.fetch_add(1, Relaxed);
        OpenRequest {
            count: self.clone(),
            began: Instant::now(),
            answered: false,
        }
    }

    /// Ready once more than [`RESETS`] requests, and more than half of all, were reset early.
    pub(super) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.is_cancelled()
    }

    /// Ready once as many again were, by a client that does not heed the GOAWAY of the first time.
    pub(super) async fn flooded(&self) {
        self.flooded.cancelled().await;
    }

    fn reset(&self) {
        let resets = self.resets.fetch_add(1, Relaxed) + 1;
        if resets > RESETS && resets > self.requests.load(Relaxed) / 2 {
            self.exceeded.cancel();
            if resets > 2 * RESETS {
                self.flooded.cancel();
            }
        }
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct OpenRequest {
    count: Arc<ResetCount>,
    began: Instant,
    answered: bool,
}

impl OpenRequest {
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.answered && self.began.elapsed() < EARLY {
            self.count.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn early_resets_are_counted_against_all_requests() {
        let count = Arc::<ResetCount>::default();
        for _ in 0..=RESETS {
            count.request().answered();
        }
        for _ in 0..=RESETS {
            assert!(!count.is_exceeded());
            drop(count.request());
        }
        // As many were answered.
        assert!(!count.is_exceeded());
        drop(count.request());
        assert!(count.is_exceeded());
        assert!(!count.flooded.is_cancelled());
        for _ in 0..RESETS {
            drop(count.request());
        }
        assert!(count.flooded.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn late_resets_are_not_counted() {
        let count = Arc::<ResetCount>::default();
        for _ in 0..2 * RESETS {
            let request = count.request();
            tokio::time::advance(EARLY).await;
            drop(request);
        }
        assert!(!count.is_exceeded());
    }
}
