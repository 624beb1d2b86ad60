//! The health of a host, judged by its heartbeat and without the GIL.

use std::time::Duration;

/// The age of a late heartbeat: three of 20 ms are missed.
pub(crate) const LATE: Duration = Duration::from_millis(60);

/// The health of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The interpreter starts, imports DSPy and makes its first, canned, prediction. A host that
    /// `start` has returned is past this.
    Starting,
    /// The loop keeps up.
    Ready,
    /// The heartbeat is late, but calls still move: there is more work than one thread does.
    Saturated,
    /// The heartbeat is late and nothing moves: Python code blocks the loop, or holds the GIL.
    #[non_exhaustive]
    Blocked {
        /// The innermost Python frame of the code that blocks, as `file:line function`. The host's
        /// [watchdog](crate::host::Embedded::watchdog) finds it within about 100 ms; `None` before that.
        /// While C code holds the GIL it is the frame that called that code, of whichever thread,
        /// with feature `py-spy`; without it `None`, for the watchdog is of Python too.
        frame: Option<String>,
        /// The watchdog did not get the GIL for 60 ms: C code holds it, and no thread runs Python
        /// code, sync programs included. Else the other threads go on.
        gil_held: bool,
    },
    /// The loop keeps up, but as many threads as may be were given up while they work: sync
    /// programs are refused until one of them ends. See
    /// [`Embedded::max_abandoned`](crate::host::Embedded::max_abandoned).
    Exhausted {
        /// How many.
        abandoned: u64,
    },
    /// The host has stopped; it takes no calls.
    Lost,
}

impl Health {
    const BLOCKED: Self = Self::Blocked {
        frame: None,
        gil_held: false,
    };

    /// The health of a loop, by the ages of its heartbeat and of the last progress of a call.
    pub(super) fn judge(beat: Duration, progress: Duration) -> Self {
        if beat < LATE {
            Self::Ready
        } else if progress < LATE {
            Self::Saturated
        } else {
            Self::BLOCKED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_heartbeat_is_saturation_while_calls_move_and_a_blockage_when_none_do() {
        let (soon, late) = (Duration::from_millis(59), Duration::from_millis(60));
        assert_eq!(Health::judge(soon, late), Health::Ready);
        assert_eq!(Health::judge(late, soon), Health::Saturated);
        assert_eq!(Health::judge(late, late), Health::BLOCKED);
    }
}
