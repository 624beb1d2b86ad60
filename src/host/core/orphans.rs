//! The calls of a host whose work goes on after their answer, by their age.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Since when each orphan is one. The lock is held for one change of the map.
#[derive(Debug, Default)]
pub(super) struct Orphans(Mutex<OrphanMap>);

#[derive(Debug, Default)]
struct OrphanMap {
    next: u64,
    /// In the order of their answers: the first is the oldest.
    since: BTreeMap<u64, Instant>,
}

/// One orphan, until it is dropped.
pub(super) struct OrphanGuard {
    orphans: Arc<Orphans>,
    number: u64,
}

impl Orphans {
    /// Enters an orphan.
    #[must_use]
    pub(super) fn enter(self: &Arc<Self>) -> OrphanGuard {
        let mut map = self.lock();
        let number = map.next;
        map.next += 1;
        map.since.insert(number, Instant::now());
        OrphanGuard {
            orphans: self.clone(),
            number,
        }
    }

    /// The age of the oldest; zero if there is none.
    pub(super) fn oldest(&self) -> Duration {
        let oldest = self.lock().since.values().next().copied();
        oldest.map(|since| since.elapsed()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, OrphanMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OrphanGuard {
    fn drop(&mut self) {
        self.orphans.lock().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_age_is_that_of_the_oldest_orphan_and_not_of_all_that_ever_were() {
        let orphans = Arc::new(Orphans::default());
        assert_eq!(orphans.oldest(), Duration::ZERO);
        let first = orphans.enter();
        advance(Duration::from_secs(40)).await;
        let second = orphans.enter();
        advance(Duration::from_secs(5)).await;
        assert_eq!(orphans.oldest(), Duration::from_secs(45));
        drop(first);
        assert_eq!(orphans.oldest(), Duration::from_secs(5));
        drop(second);
        assert_eq!(orphans.oldest(), Duration::ZERO);
    }
}
