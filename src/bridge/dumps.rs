//! Who names what holds the GIL: a thread that needs it for nothing.
//!
//! While C code holds the GIL nobody can ask Python what it is. So this process is copied, and in the
//! copy faulthandler writes down the frames of all threads (snapshot.rs). Where the machine is only
//! so busy that Python's watchdog thread got no turn, the threads go on meanwhile: then the copy may
//! come to nothing, and that is all.

use std::{io, os::fd::RawFd, sync::Arc, thread, time::Duration};

use pyo3::prelude::*;

use super::{Health, dump, inbox::Inbox, snapshot::Dumper, watchdog::Sight};

/// Between two looks at the heartbeat.
const TICK: Duration = Duration::from_millis(20);
/// Ticks between two copies: one takes milliseconds where the process is large.
const PAUSE: u32 = 50;

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
        let mut wait = 0_u32;
        while inbox.closed().is_none() {
            thread::park_timeout(TICK);
            wait = wait.saturating_sub(1);
            if wait == 0 && gil_held(&inbox) {
                wait = PAUSE;
                look(&inbox, dumper.dump());
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

fn look(inbox: &Inbox, dump: io::Result<String>) {
    match dump {
        // Where nobody but the watchdog's thread was kept waiting, that has the GIL again by now.
        Ok(dump) if gil_held(inbox) => {
            if let Some(culprit) = dump::culprit(&dump) {
                inbox.saw(&Sight {
                    frames: culprit.frames,
                    program: culprit.program,
                    call_id: None,
                    gil_held: true,
                });
            }
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(target: "tower_dspy", %error, "what holds the GIL was not to be seen");
        }
    }
}
