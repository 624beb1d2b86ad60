//! Who names what holds the GIL: a thread that needs it for nothing.
//!
//! While C code holds the GIL nobody can ask Python what it is. So this process is copied, and in the
//! copy faulthandler writes down the frames of all threads (snapshot.rs). Where the machine is only
//! so busy that Python's watchdog thread got no turn, the threads go on meanwhile: then the copy may
//! come to nothing, and that is all.

use std::{fs, io, os::fd::RawFd, sync::Arc, thread, time::Duration};

use pyo3::prelude::*;

use super::{dump, snapshot::Dumper};
use crate::host::core::{health::Health, inbox::Inbox, watchdog::Sight};

/// Between two looks at the heartbeat.
const TICK: Duration = Duration::from_millis(20);
/// Ticks until a process is copied again if the copy before was of no use.
const PAUSE: u32 = 50;
/// The largest process that is copied, in KiB. Nobody gets memory from the kernel meanwhile, and that
/// took up to 40 ms for one of this size (on two busy virtual cores).
const LARGEST: u64 = 512 << 10;

/// Starts the thread. It ends with the host.
pub(super) fn watch(py: Python<'_>, inbox: Arc<Inbox>) -> PyResult<()> {
    let faulthandler = py.import("faulthandler")?;
    let mut dumper = Dumper::new(|signal, file: RawFd| {
        // For all threads; after no other handler.
        faulthandler
            .call_method1("register", (signal, file, true, false))
            .map(drop)
    })?;
    let run = move || {
        // A hold is known by the heartbeat that it came after.
        let (mut wait, mut known) = (0_u32, None);
        while inbox.closed().is_none() {
            thread::park_timeout(TICK);
            wait = wait.saturating_sub(1);
            let beat = inbox.counters.beat.stamp();
            if known != Some(beat) && wait == 0 && gil_held(&inbox) {
                wait = PAUSE;
                known = look(&inbox, &mut dumper).then_some(beat);
            }
        }
    };
    thread::Builder::new()
        .name("tower-dspy-watch".into())
        .spawn(run)?;
    Ok(())
}

fn gil_held(inbox: &Inbox) -> bool {
    matches!(Health::of(inbox), Health::Blocked { gil_held: true, .. })
}

/// Looks for what holds the GIL; whether it was found.
fn look(inbox: &Inbox, dumper: &mut Dumper) -> bool {
    let dump = match resident() {
        Some(size) if size <= LARGEST => dumper.dump(),
        _ => Err(io::Error::other("the process is too large to be copied")),
    };
    let culprit = match dump {
        Ok(dump) => dump::culprit(&dump),
        Err(error) => {
            tracing::debug!(target: "tower_dspy", %error, "what holds the GIL was not to be seen");
            None
        }
    };
    // Where nobody but the watchdog's thread was kept waiting, that has the GIL again by now.
    let Some(culprit) = culprit.filter(|_| gil_held(inbox)) else {
        return false;
    };
    inbox.saw(&Sight {
        frames: culprit.frames,
        program: culprit.program,
        call_id: None,
        gil_held: true,
    });
    true
}

/// How much of the process is in memory, in KiB.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    size.trim().strip_suffix(" kB")?.parse().ok()
}
