//! tokio's `Notify`, with a point before each step at which another thread may come first. As with
//! tokio's, what came before a notification is seen after it.

use loom::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Notify {
    steps: AtomicUsize,
    inner: tokio::sync::Notify,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            steps: AtomicUsize::new(0),
            inner: tokio::sync::Notify::new(),
        }
    }
}

impl Notify {
    pub(crate) fn notified(&self) -> impl Future<Output = ()> {
        self.step();
        let inner = self.inner.notified();
        async {
            inner.await;
            self.step();
        }
    }

    pub(crate) fn notify_waiters(&self) {
        self.step();
        self.inner.notify_waiters();
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::SeqCst);
    }
}
