//! The count of the requests that a client resets, by which a flood of them is known.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many requests of a connection may be reset early within [`WINDOW`], and how many more after its
/// GOAWAY.
const RESETS: usize = 500;

/// Longer than a burst of an honest client lasts.
const WINDOW: Duration = Duration::from_secs(10);

/// The time after which the reset of a request is not counted: its client has waited for the answer.
const EARLY: Duration = Duration::from_secs(1);

/// How many requests of a connection were reset early. h2 itself limits only the resets of requests
/// that it has not handed out.
#[derive(Debug, Default)]
pub(super) struct ResetCount {
    window: Mutex<ResetWindow>,
    exceeded: CancellationToken,
    flooded: CancellationToken,
}

impl ResetCount {
    /// Counts a request, which is reset if it is dropped before it is [answered](OpenRequest::answered).
    pub(super) fn request(self: &Arc<Self>) -> OpenRequest {
        OpenRequest {
            count: self.clone(),
            began: Instant::now(),
            answered: false,
        }
    }

    /// Ready once more than [`RESETS`] requests were reset early within [`WINDOW`].
    pub(super) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.is_cancelled()
    }

    /// Ready once as many again were reset early, after the GOAWAY.
    pub(super) async fn flooded(&self) {
        self.flooded.cancelled().await;
    }

    fn reset(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = window.began.is_none_or(|began| began.elapsed() >= WINDOW);
        if is_over && !self.is_exceeded() {
            *window = ResetWindow {
                began: Some(Instant::now()),
                resets: 0,
            };
        }
        window.resets += 1;
        let resets = window.resets;
        drop(window);
        if resets > RESETS {
            self.exceeded.cancel();
        }
        if resets > 2 * RESETS {
            self.flooded.cancel();
        }
    }
}

/// The early resets since a time, within [`WINDOW`] of it.
#[derive(Debug, Default)]
struct ResetWindow {
    began: Option<Instant>,
    resets: usize,
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
    async fn a_burst_of_early_resets_exceeds_the_limit_whatever_was_answered_before() {
        let count = Arc::<ResetCount>::default();
        for _ in 0..100 * RESETS {
            count.request().answered();
        }
        for _ in 0..=RESETS {
            assert!(!count.is_exceeded());
            drop(count.request());
            count.request().answered();
        }
        assert!(count.is_exceeded());
        assert!(!count.flooded.is_cancelled());
        // A longer time does not reopen it.
        tokio::time::advance(WINDOW).await;
        for _ in 0..RESETS {
            drop(count.request());
        }
        assert!(count.flooded.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn early_resets_over_a_longer_time_do_not_exceed_the_limit() {
        let count = Arc::<ResetCount>::default();
        for _ in 0..10 * RESETS {
            drop(count.request());
            tokio::time::advance(WINDOW / 490).await;
        }
        assert!(!count.is_exceeded());
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
