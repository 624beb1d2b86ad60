//! The frames of Python code that blocks the loop, as Python's watchdog thread (watchdog.py)
//! reports them, for [`Health`](super::Health) and the log.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "python")]
use super::inbox::Inbox;
use super::{clock::Moment, health::LATE};

/// From when on a block is worth a line in the log.
const WORTH_A_WARNING: Duration = Duration::from_millis(100);
/// Frames that a line in the log holds.
const FRAMES: usize = 8;

/// What is known of the block that is under way, if one is.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Python's watchdog thread got the GIL.
    pub(crate) pulse: Moment,
    /// The heartbeat that the finding follows: with the next one it is over.
    after_beat: AtomicU64,
    found: Mutex<Finding>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Finding {
    frame: Option<String>,
    /// The log has it: without a call's id, or with one.
    logged: bool,
    logged_call: bool,
}

/// What was seen of a block.
#[derive(Debug)]
pub(crate) struct Sight {
    /// `file:line function`, innermost first.
    pub(crate) frames: Vec<String>,
    pub(crate) program: Option<String>,
    pub(crate) call_id: Option<u64>,
    pub(crate) gil_held: bool,
}

impl Watch {
    fn found(&self) -> MutexGuard<'_, Finding> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody else gets the GIL; false where no watchdog runs.
    pub(crate) fn gil_held(&self) -> bool {
        self.pulse.stamp() > 0 && self.pulse.age() >= LATE
    }

    /// The innermost frame of the block that began after the heartbeat at `beat`.
    pub(crate) fn frame(&self, beat: u64) -> Option<String> {
        if self.after_beat.load(Ordering::Acquire) != beat {
            return None;
        }
        self.found().frame.clone()
    }

    /// Keeps what the loop was seen at, which beats and lets calls cross, and logs it where that is
    /// a block: once, and once more if the call becomes known later.
    pub(crate) fn saw(&self, sight: &Sight, beat: &Moment, crossing: &Moment) {
        let (beat, late) = (beat.stamp(), beat.age());
        let mut found = self.found();
        if self.after_beat.swap(beat, Ordering::AcqRel) != beat {
            *found = Finding::default();
        }
        found.frame = sight.frames.first().cloned().or(found.frame.take());
        let news = !found.logged || sight.call_id.is_some() && !found.logged_call;
        let long = late >= WORTH_A_WARNING || sight.gil_held && late >= LATE;
        // While calls move, the loop is not blocked: it has more to do than one thread can.
        if !news || !long || crossing.age() < LATE {
            return;
        }
        found.logged = true;
        found.logged_call = sight.call_id.is_some();
        drop(found);
        tracing::warn!(
            target: "tower_dspy",
            program = sight.program,
            call_id = sight.call_id,
            frame = sight.frames.first(),
            stack = shown(&sight.frames),
            gil_held = sight.gil_held,
            blocked_ms = late.as_millis() as u64,
            "Python code blocks the loop: no call goes on meanwhile"
        );
    }
}

#[cfg(feature = "python")]
impl Inbox {
    /// The same, of the one loop of this process.
    pub(crate) fn saw(&self, sight: &Sight) {
        let counters = &self.counters;
        self.watch.saw(sight, &counters.beat, &counters.crossing);
    }
}

fn shown(frames: &[String]) -> String {
    let most = frames.len().min(FRAMES);
    frames[..most].join(" < ")
}
