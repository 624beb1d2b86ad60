//! A wake-up of another thread's event loop: an eventfd, written once a burst.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

/// The loop calls [`acknowledge`](Self::acknowledge) before it reads what was pushed, so a push
/// after that notifies it again.
#[derive(Debug)]
pub(crate) struct WakeUp {
    fd: OwnedFd,
    pending: AtomicBool,
}

impl WakeUp {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            pending: AtomicBool::new(false),
        })
    }

    /// Makes the descriptor readable, unless it is already.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            // Fails only if the counter is full, and then the descriptor is readable.
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable until the next notification.
    pub(crate) fn acknowledge(&self) {
        let mut count = [0; 8];
        // Fails if there was no notification, as in a turn that goes on with an earlier burst.
        let _ = rustix::io::read(&self.fd, &mut count);
        self.pending.store(false, Ordering::SeqCst);
    }

    /// A descriptor of its own for a runtime to watch.
    #[cfg(feature = "workers")]
    pub(crate) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    #[cfg(feature = "python")]
    pub(crate) fn raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of writes since the last read.
    fn writes(wake: &WakeUp) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&wake.fd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    #[test]
    fn a_burst_of_notifications_writes_once() {
        let wake = WakeUp::new().expect("an eventfd");
        assert_eq!(writes(&wake), 0);
        for _ in 0..3 {
            wake.notify();
        }
        assert_eq!(writes(&wake), 1);
    }

    #[test]
    fn a_notification_after_the_acknowledgement_writes_again() {
        let wake = WakeUp::new().expect("an eventfd");
        wake.notify();
        wake.acknowledge();
        assert_eq!(writes(&wake), 0);
        wake.notify();
        wake.notify();
        assert_eq!(writes(&wake), 1);
    }
}
