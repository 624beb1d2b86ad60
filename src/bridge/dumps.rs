//! The pipe that faulthandler's dumps come through, while C code holds the GIL.

use std::{io::Read, os::fd::OwnedFd, sync::Arc, thread};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
};

use super::{dump, inbox::Inbox, watchdog::Sight};

/// The pieces of one dump come closer to each other than this.
const BETWEEN_PIECES: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// The pipe for faulthandler's dumps: Python writes, and never waits for us.
pub(super) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((read, write))
}

/// Reads the dumps on a thread of its own, until the other end of the pipe is closed.
pub(super) fn read_dumps(inbox: Arc<Inbox>, dumps: OwnedFd) -> std::io::Result<()> {
    thread::Builder::new()
        .name("tower-dspy-watch".into())
        .spawn(move || {
            let mut dumps = std::fs::File::from(dumps);
            let mut text = Vec::new();
            while wait(&dumps, None) {
                match dumps.read_to_end(&mut text) {
                    // The end of the pipe: the host is gone.
                    Ok(_) => return,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
                if wait(&dumps, Some(&BETWEEN_PIECES)) {
                    continue;
                }
                let said = String::from_utf8_lossy(&text);
                // Where the watchdog's thread only got no processor, it has the GIL again by now.
                let held = inbox.watch.gil_held();
                if let Some(culprit) = dump::culprit(&said).filter(|_| held) {
                    inbox.saw(&Sight {
                        frames: culprit.frames,
                        program: culprit.program,
                        call_id: None,
                        gil_held: true,
                    });
                }
                text.clear();
            }
        })?;
    Ok(())
}

/// Waits until there is something to read; false if there was nothing in time.
fn wait(file: &std::fs::File, limit: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    loop {
        match poll(&mut fds, limit) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
