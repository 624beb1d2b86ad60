//! The thread of a host's loop.

use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
};

use super::queue::CommandQueue;

/// A handle to the thread. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct HostThread {
    ended: watch::Receiver<bool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl HostThread {
    /// Runs `run` on a thread. However it ends, the queue is closed with the reason.
    pub(crate) fn spawn(
        builder: Builder,
        queue: Arc<CommandQueue>,
        reason: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ending, ended) = watch::channel(false);
        let guard = EndGuard {
            queue,
            reason,
            ending,
        };
        let thread = builder.spawn(move || {
            let _guard = guard;
            run();
        })?;
        Ok(Self {
            ended,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Waits until the thread has ended.
    pub(crate) async fn join(&self) {
        let mut ended = self.ended.clone();
        // Fails if the sender is gone, and then the thread has ended as well.
        let _ = ended.wait_for(|ended| *ended).await;
        // The thread-locals of libraries are freed as the thread ends, after that. A process that
        // exits meanwhile frees those of all threads: OpenSSL, for one, would free them twice.
        if let Some(thread) = self.thread.lock().await.take() {
            let _ = spawn_blocking(|| thread.join()).await;
        }
    }
}

struct EndGuard {
    queue: Arc<CommandQueue>,
    reason: &'static str,
    ending: watch::Sender<bool>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.queue.close(self.reason);
        self.ending.send_replace(true);
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
