//! The reading that live pages share.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::page_reading::PageReading;

/// How old a reading may be that is shown again. It is less than the time between two events of a live
/// page, so that each of them has a newer one.
const RECENT: Duration = Duration::from_millis(900);

/// The last reading, and when it was made.
#[derive(Debug, Default)]
pub(super) struct SharedReading(Mutex<Option<(Instant, Arc<PageReading>)>>);

impl SharedReading {
    /// The last reading if it is recent, else one by `read`, for which all others wait.
    pub(super) async fn recent<F>(&self, read: impl FnOnce() -> F) -> Arc<PageReading>
    where
        F: Future<Output = PageReading>,
    {
        let mut last = self.0.lock().await;
        if let Some((at, reading)) = &*last
            && at.elapsed() < RECENT
        {
            return reading.clone();
        }
        let reading = Arc::new(read().await);
        *last = Some((Instant::now(), reading.clone()));
        reading
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::time::advance;

    use super::*;
    use crate::{layers::track::Tracker, page::sources::PageSources};

    #[tokio::test(start_paused = true)]
    async fn pages_share_one_reading_a_second() {
        let sources = PageSources::new(Tracker::new());
        let (shared, reads) = (SharedReading::default(), Cell::new(0));
        let read = || async {
            reads.set(reads.get() + 1);
            tokio::task::yield_now().await;
            PageReading::of(&sources)
        };
        join_all((0..16).map(|_| shared.recent(read))).await;
        assert_eq!(reads.get(), 1);
        advance(Duration::from_secs(1)).await;
        join_all((0..16).map(|_| shared.recent(read))).await;
        assert_eq!(reads.get(), 2);
    }
}
