//! [`OutsideWork`]: a guard that holds paused time while something other than a tokio task works.

use std::sync::mpsc;

/// Keeps paused time from advancing by itself for as long as it lives.
///
/// Under paused time the clock jumps to the next timer as soon as no task can run. The runtime
/// knows nothing of work on other threads, as Python's is, or of another process: its callers seem
/// idle, so the first timeout around them fires at once, whatever it is. This guard keeps a blocking
/// task of the runtime busy, which is what stops the jumps. Time then moves by
/// `tokio::time::advance` alone.
///
/// ```
/// use std::time::Duration;
/// use tokio::{sync::oneshot, time::{Instant, timeout}};
/// use tower_dspy::testing::OutsideWork;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let answer = || {
///     let (send, answer) = oneshot::channel();
///     // Python, say, or a device.
///     std::thread::spawn(move || {
///         # #[allow(clippy::disallowed_methods)]
///         std::thread::sleep(Duration::from_millis(50));
///         send.send("answer")
///     });
///     answer
/// };
/// let limit = Duration::from_secs(3600);
///
/// // Not an hour passed, and no answer came either.
/// assert!(timeout(limit, answer()).await.is_err());
///
/// let outside = OutsideWork::begin();
/// let start = Instant::now();
/// assert_eq!(timeout(limit, answer()).await.unwrap().unwrap(), "answer");
/// assert_eq!(start.elapsed(), Duration::ZERO);
/// drop(outside);
/// # }
/// ```
///
/// With real Python, begin before the host is started: whatever the test waits for there has to be
/// waited for in real time. And limit its calls to an hour or so: their LM calls are made by a
/// runtime whose clock goes on, and which finds a deadline passed that is nearer than the real time
/// since the test began.
///
/// More than one may live at a time. Dropped in an async test's body, or by a task, it is gone
/// before the runtime is; kept for longer, the runtime waits for it when it is dropped. Without
/// paused time it does nothing but hold a thread.
#[derive(Debug)]
#[must_use = "time is held for as long as this lives"]
pub struct OutsideWork {
    // Dropping it ends the blocking task.
    _ends: mpsc::Sender<()>,
}

impl OutsideWork {
    /// Holds the clock from now on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn begin() -> Self {
        let (ends, ended) = mpsc::channel::<()>();
        // The clock is held from the call on, also before a thread takes the task.
        drop(tokio::task::spawn_blocking(move || ended.recv()));
        Self { _ends: ends }
    }
}
