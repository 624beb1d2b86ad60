//! A monitor of one asyncio loop: its heartbeat, and the frames that Python's watchdog thread
//! (watchdog.py) reports of code that blocks it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    clock::Timestamp,
    health::{Health, LATE},
};

/// How often the loop beats: `HEARTBEAT` of `runner.py`.
#[cfg(any(feature = "metrics", feature = "workers"))]
const BEAT: Duration = Duration::from_millis(20);
/// The least duration of a block that is logged.
const LOGGED_FROM: Duration = Duration::from_millis(100);
/// The most frames of a line in the log.
const LOGGED_FRAMES: usize = 8;

/// What is known of a loop, from outside and without the GIL.
#[derive(Debug, Default)]
pub(crate) struct LoopMonitor {
    heartbeat: Timestamp,
    /// The last time that Python's watchdog thread got the GIL.
    pulse: Timestamp,
    /// The last time that a command or an outcome crossed between Rust and Python.
    progress: Timestamp,
    block: Mutex<Block>,
}

/// The block that is under way; the next heartbeat ends it.
#[derive(Debug, Default)]
struct Block {
    frame: Option<String>,
    /// It was logged: without a call's id, or with one.
    logged: bool,
    logged_call: bool,
}

/// The watchdog's report of a loop that is late.
#[derive(Debug)]
pub(crate) struct BlockReport {
    /// `file:line function`, innermost first.
    pub(crate) frames: Vec<String>,
    pub(crate) program: Option<String>,
    pub(crate) call_id: Option<u64>,
}

impl LoopMonitor {
    /// The loop runs.
    pub(crate) fn beat(&self) {
        self.heartbeat.set_now();
        *self.block() = Block::default();
    }

    /// Python's watchdog thread runs.
    pub(crate) fn pulse(&self) {
        self.pulse.set_now();
    }

    /// A command or an outcome crosses.
    pub(crate) fn progress(&self) {
        self.progress.set_now();
    }

    /// Whether the heartbeat is late.
    #[cfg(feature = "workers")]
    pub(crate) fn is_late(&self) -> bool {
        self.heartbeat.age() > LATE
    }

    /// How late the heartbeat is.
    #[cfg(any(feature = "metrics", feature = "workers"))]
    pub(crate) fn lag(&self) -> Duration {
        self.heartbeat.age().saturating_sub(BEAT)
    }

    /// The health of the loop.
    pub(crate) fn health(&self) -> Health {
        match Health::judge(self.heartbeat.age(), self.progress.age()) {
            Health::Blocked { .. } => Health::Blocked {
                frame: self.block().frame.clone(),
                gil_held: self.gil_held(),
            },
            other => other,
        }
    }

    /// The last pulse before the GIL was held; `None` while the loop is not blocked by that.
    #[cfg(feature = "py-spy")]
    pub(crate) fn gil_held_since(&self) -> Option<u64> {
        let pulse = self.pulse.get();
        matches!(self.health(), Health::Blocked { gil_held: true, .. }).then_some(pulse)
    }

    /// Whether no thread of Python's runs; false where no watchdog does.
    fn gil_held(&self) -> bool {
        self.pulse.get() > 0 && self.pulse.age() >= LATE
    }

    fn block(&self) -> MutexGuard<'_, Block> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A report by Python's watchdog thread, which therefore has the GIL, also if its pulse is old.
    pub(crate) fn report_of_watchdog(&self, report: &BlockReport) -> Option<Duration> {
        self.pulse();
        self.log(report, false)
    }

    /// A report from outside of Python.
    #[cfg(any(feature = "py-spy", test))]
    pub(crate) fn report(&self, report: &BlockReport) -> Option<Duration> {
        self.log(report, self.gil_held())
    }

    /// Keeps the frame, and logs a block: once, and once more if the call becomes known later. Returns
    /// for how long the loop is late, if the block was logged.
    fn log(&self, report: &BlockReport, gil_held: bool) -> Option<Duration> {
        let mut block = self.block();
        let late = self.heartbeat.age();
        block.frame = report.frames.first().cloned().or(block.frame.take());
        let news = !block.logged || report.call_id.is_some() && !block.logged_call;
        let long = late >= LOGGED_FROM || gil_held && late >= LATE;
        // While calls progress the loop is saturated, not blocked.
        if !news || !long || self.progress.age() < LATE {
            return None;
        }
        block.logged = true;
        block.logged_call = report.call_id.is_some();
        drop(block);
        let most = report.frames.len().min(LOGGED_FRAMES);
        let stack = report.frames[..most].join(" < ");
        tracing::warn!(
            target: "tower_dspy",
            program = report.program,
            call_id = report.call_id,
            frame = report.frames.first(),
            stack,
            gil_held,
            blocked_ms = late.as_millis() as u64,
            "Python code blocks the loop: no call goes on meanwhile"
        );
        Some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::core::clock::now;

    fn report() -> BlockReport {
        BlockReport {
            frames: vec!["slow.py:12 match".into()],
            program: None,
            call_id: None,
        }
    }

    /// Waits until what happened before is late, by the host's clock.
    fn let_it_be_late() {
        let since = now();
        while now() < since + 2 * LATE {
            std::thread::park_timeout(LATE);
        }
    }

    fn frame(monitor: &LoopMonitor) -> Option<String> {
        match monitor.health() {
            Health::Blocked { frame, .. } => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_report_names_the_frame_until_the_next_heartbeat() {
        let_it_be_late();
        let monitor = LoopMonitor::default();
        assert_eq!(frame(&monitor), None);
        monitor.report(&report());
        assert_eq!(frame(&monitor).as_deref(), Some("slow.py:12 match"));
        // The thread may be stopped for too long after one beat, but not after each.
        let is_ready = |_| {
            monitor.beat();
            monitor.health() == Health::Ready
        };
        assert!((0..100).any(is_ready));
        let_it_be_late();
        assert_eq!(frame(&monitor), None);
    }

    #[test]
    fn the_gil_is_held_while_a_watchdog_that_ran_does_not() {
        let_it_be_late();
        let monitor = LoopMonitor::default();
        assert!(!monitor.gil_held());
        let is_free = |_| {
            monitor.pulse();
            !monitor.gil_held()
        };
        assert!((0..100).any(is_free));
        let_it_be_late();
        assert!(monitor.gil_held());
        let is_free = |_| {
            monitor.report_of_watchdog(&report());
            !monitor.gil_held()
        };
        assert!((0..100).any(is_free));
    }
}
