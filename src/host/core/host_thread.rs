//! The thread of a host's loop.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::Builder,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::oneshot, task::spawn_blocking};

use super::queue::CommandQueue;

/// A handle to the thread. A clone is a handle to the same.
#[derive(Clone)]
pub(crate) struct HostThread(Shared<BoxFuture<'static, ()>>);

impl HostThread {
    /// Runs `run` on a thread. However it ends, the queue is closed with the reason.
    pub(crate) fn spawn(
        builder: Builder,
        queue: Arc<CommandQueue>,
        reason: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ending, ended) = oneshot::channel::<()>();
        let thread = builder.spawn(move || {
            // The hook has printed a panic.
            let _ = catch_unwind(AssertUnwindSafe(run));
            queue.close(reason);
            drop(ending);
        })?;
        let joined = async {
            // Fails, as the sender is dropped.
            let _ = ended.await;
            // The thread-locals of libraries are freed as the thread ends, after that. A process
            // that exits meanwhile frees those of all threads: OpenSSL, for one, would free them
            // twice.
            let _ = spawn_blocking(|| thread.join()).await;
        };
        Ok(Self(joined.boxed().shared()))
    }

    /// Waits until the thread has ended.
    pub(crate) async fn join(&self) {
        self.0.clone().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_closes_its_queue() {
        let queue = Arc::new(CommandQueue::new().expect("an eventfd"));
        let spawn = |run: fn()| HostThread::spawn(Builder::new(), queue.clone(), "it ended", run);
        let thread = spawn(|| {}).expect("a thread");
        thread.join().await;
        assert_eq!(queue.refusal(), Some("it ended"));
        thread.clone().join().await;
    }
}
