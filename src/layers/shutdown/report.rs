//! The phases and the report of a shutdown.

use std::fmt;

use super::hook::{HookOutcome, HookReport};
use crate::error::counted;

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShutdownPhase {
    /// Calls are let through.
    #[default]
    Accepting,
    /// The end is [announced](super::Shutdown::announce); calls are still let through.
    Announced,
    /// New calls are refused; those in flight go on.
    Draining,
    /// The calls still in flight have been signalled to stop, or are being dropped.
    Cancelling,
    /// The report is made.
    Done,
}

impl ShutdownPhase {
    pub(super) const fn is_accepting(self) -> bool {
        matches!(self, Self::Accepting | Self::Announced)
    }
}

/// What became of all calls and clean-up hooks.
///
/// `accepted` is `completed + failed + cancelled + abandoned`: each call is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The calls that were let through, from the start of the service.
    pub accepted: u64,
    /// Those that were answered.
    pub completed: u64,
    /// Those that ended in an error, the limits of time included, or in a panic.
    pub failed: u64,
    /// Those that were cancelled, by the shutdown or before, or whose future was dropped, or whose
    /// stream was dropped by other than a limit of time. An error after the call was signalled to
    /// stop is taken to be the consequence.
    pub cancelled: u64,
    /// Those that had not ended when the report was made: their futures were not polled any more,
    /// or a poll did not return.
    pub abandoned: u64,
    /// The calls that were refused before the report was made. They were not accepted.
    pub refused: u64,
    /// The clean-up hooks, in the order in which they ran: the last registered first.
    pub hooks: Vec<HookReport>,
}

impl ShutdownReport {
    /// The hooks that did not run to a good end.
    pub fn failed_hooks(&self) -> impl Iterator<Item = &HookReport> {
        let hooks = self.hooks.iter();
        hooks.filter(|hook| hook.outcome != HookOutcome::Completed)
    }

    /// Whether nothing was left behind: no call was abandoned and no hook failed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.abandoned == 0 && self.failed_hooks().next().is_none()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} completed, {} failed, {} cancelled, {} abandoned; {} refused",
            counted(self.accepted, "call"),
            self.completed,
            self.failed,
            self.cancelled,
            self.abandoned,
            self.refused,
        )?;
        for hook in self.failed_hooks() {
            write!(f, "; the hook {:?} {}", hook.name, hook.outcome)?;
        }
        Ok(())
    }
}
