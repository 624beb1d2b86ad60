//! A gate that a test opens by hand, so that events have an order without sleeping.

use tokio::sync::watch;

/// Holds replies back until a test opens it.
///
/// Clones are the same gate. A gate opens once and stays open.
#[derive(Clone, Debug, Default)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Makes a gate that is shut.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through everyone who waits, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the gate as it is.
    pub async fn wait(&self) {
        let mut open = self.0.subscribe();
        // `self` holds a sender, so the channel cannot close while this waits.
        let _ = open.wait_for(|open| *open).await;
    }
}
