//! Blocking work on a thread of its own: no runtime is needed to start a host.

use std::{io, thread};

use tokio::sync::oneshot;

/// Runs `work` on a thread of its own, and waits for it. Dropping the future does not stop the work.
///
/// # Errors
/// When the thread does not start, and when the work panics.
pub(super) async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("tower-dspy-venv".to_owned())
        .spawn(move || {
            // Fails if the caller has gone.
            let _ = done.send(work());
        })?;
    outcome
        .await
        .map_err(|_| io::Error::other("the thread panicked"))
}
