//! The Python frames of the thread that holds the GIL, read by `py-spy` from a process's memory.
//!
//! The process is not paused and runs no code for it. What changes while it is read fails the
//! reading, or names a frame that has just ended.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::Builder,
    time::Duration,
};

use py_spy::{Config, Frame, Pid, PythonSpy, config::LockingStrategy};

use crate::host::core::loop_monitor::{BlockReport, LoopMonitor};

/// Between two readings of the monitor.
const TICK: Duration = Duration::from_millis(40);
/// How often in a row the process is read in vain while the GIL is held.
const MOST_FAILURES: u32 = 10;
/// The start of the name of a program's outermost frame, which program.py sets.
const PROGRAM: &str = "program ";

/// A thread that names the holder of the GIL of a process. It ends when this is dropped.
pub(super) struct GilWatch {
    _stop: Sender<()>,
}

impl GilWatch {
    /// Reports the frames to `monitor`, once each time that the GIL is held for long.
    pub(super) fn new(pid: u32, monitor: Arc<LoopMonitor>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = Builder::new().name("tower-dspy-gil".into());
        if let Err(error) = thread.spawn(move || run(pid, &monitor, &stopped)) {
            tracing::warn!(target: "tower_dspy", %error, "the holder of the GIL is not named");
        }
        Self { _stop: stop }
    }
}

fn run(pid: u32, monitor: &LoopMonitor, stopped: &Receiver<()>) {
    let mut reader = None;
    let mut done = None;
    let mut failures = 0;
    while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let held = monitor.gil_held_since();
        if held.is_none() || held == done {
            failures = 0;
            continue;
        }
        let problem = match frames(&mut reader, pid) {
            // Another thread may have got the GIL meanwhile.
            Ok(_) if monitor.gil_held_since() != held => continue,
            Ok(frames) if !frames.is_empty() => {
                monitor.report(&report(&frames));
                done = held;
                continue;
            }
            Ok(_) => "no thread was seen to hold it".to_owned(),
            Err(error) => error,
        };
        // What changes while it is read fails the reading: of the next one it may stand still.
        reader = None;
        failures += 1;
        if failures == MOST_FAILURES {
            tracing::warn!(target: "tower_dspy", pid, error = problem, "the holder of the GIL is not named");
            done = held;
        }
    }
}

/// The frames of the thread that holds the GIL, innermost first; none if no thread does. The first
/// call attaches to the process, which takes tens of milliseconds.
fn frames(reader: &mut Option<PythonSpy>, pid: u32) -> Result<Vec<Frame>, String> {
    let reader = match reader {
        Some(reader) => reader,
        None => {
            let config = Config {
                blocking: LockingStrategy::NonBlocking,
                gil_only: true,
                collect_thread_names: false,
                full_filenames: true,
                ..Config::default()
            };
            let new = PythonSpy::new(pid as Pid, &config);
            reader.insert(new.map_err(|e| format!("{e:#}"))?)
        }
    };
    let holders = reader.get_stack_traces();
    let mut holders = holders.map_err(|e| format!("{e:#}"))?;
    Ok(holders.pop().map_or_else(Vec::new, |holder| holder.frames))
}

fn report(frames: &[Frame]) -> BlockReport {
    let program = frames
        .iter()
        .find_map(|frame| frame.name.strip_prefix(PROGRAM));
    // As watchdog.py writes it, but for the name, which is the qualified one.
    let line = |frame: &Frame| format!("{}:{} {}", frame.filename, frame.line, frame.name);
    BlockReport {
        frames: frames.iter().map(line).collect(),
        program: program.map(str::to_owned),
        call_id: None,
    }
}
