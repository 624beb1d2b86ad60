//! The executor of a connection's streams, which resets a stream whose client takes nothing of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::rt::Executor;
use tokio_util::sync::CancellationToken;

use super::send_progress::SendProgress;

tokio::task_local! {
    static STREAM: Arc<SendProgress>;
}

/// Spawns the streams of a connection over HTTP/2, each with a progress of its own.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    connection: Arc<SendProgress>,
    limit: Duration,
    /// How many streams were reset.
    reset: Arc<AtomicUsize>,
    /// The connection's only stream has stalled.
    stalled: CancellationToken,
}

impl StreamExecutor {
    pub(super) fn new(
        connection: Arc<SendProgress>,
        limit: Duration,
        reset: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            connection,
            limit,
            reset,
            stalled: CancellationToken::new(),
        }
    }

    /// The progress of the stream that runs on this task, or of the connection over HTTP/1.
    pub(super) fn progress(connection: &Arc<SendProgress>) -> Arc<SendProgress> {
        let stream = STREAM.try_with(Arc::clone);
        stream.unwrap_or_else(|_| connection.clone())
    }

    /// Ready when a stream stalled and no other is open.
    pub(super) async fn stalled(&self) {
        self.stalled.cancelled().await;
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let this = self.clone();
        let open = self.connection.stream();
        tokio::spawn(async move {
            let progress = SendProgress::of_stream(&this.connection);
            // A stream that is dropped before its end is reset by h2.
            tokio::select! {
                () = STREAM.scope(progress.clone(), stream) => {}
                () = progress.stalled(this.limit) => {
                    if open.is_only() {
                        this.stalled.cancel();
                    } else {
                        this.reset.fetch_add(1, Relaxed);
                        tracing::debug!(target: "tower_dspy", "a client takes nothing of a stream");
                    }
                }
            }
        });
    }
}
