//! A copy of this process, made to be looked at: its threads stand still, and it may crash.
//!
//! Whoever reads what other threads change reads what may be nonsense by then, and follows pointers
//! to where nothing is any more. The kernel copies a process as it is at one moment. In the copy,
//! which shares no memory with this process, one thread looks and tells; if it runs into nonsense,
//! it is the copy that ends.

#![expect(
    unsafe_code,
    reason = "a process is copied by a call of the kernel's that has no safe interface"
)]

use std::{
    fs::File,
    io::{Error, ErrorKind, Read, Result, Seek},
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use libc::{c_int, c_long};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// How long a look may take; far more than a hundred threads need.
const LIMIT: Duration = Duration::from_millis(500);
/// What a process that crashes gets by default. Handlers of this process's are not for its copies.
const CRASHES: [c_int; 5] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
];

/// A handler for signals of faulthandler's, called for what it does: it writes the frames of all
/// Python threads to a file, with nothing but what a signal handler may do.
#[derive(Debug)]
pub(super) struct Dumper {
    signal: c_int,
    handler: extern "C" fn(c_int),
    file: File,
}

impl Dumper {
    /// Has `register` set a handler for a signal that writes to a file. The signal is one that nobody
    /// has a handler for, and it has none afterwards: it is not sent.
    pub(super) fn new<E: From<Error>>(
        register: impl FnOnce(c_int, RawFd) -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let file = memfd_create("tower-dspy-frames", MemfdFlags::CLOEXEC).map_err(Error::from)?;
        let file = File::from(file);
        let free = |signal: &c_int| {
            action(*signal).is_ok_and(|action| action.sa_sigaction == libc::SIG_DFL)
        };
        let signal = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(free);
        let signal = signal.ok_or_else(|| Error::other("all real-time signals are in use"))?;
        let before = action(signal)?;
        register(signal, file.as_raw_fd())?;
        let registered = action(signal)?;
        // SAFETY: `before` is what the kernel said of this signal.
        let restored = unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
        if restored != 0 {
            return Err(Error::last_os_error().into());
        }
        let takes_more = registered.sa_flags & libc::SA_SIGINFO != 0;
        if registered.sa_sigaction == libc::SIG_DFL || takes_more {
            return Err(Error::other("faulthandler set no handler that is known").into());
        }
        // SAFETY: without SA_SIGINFO, a handler is a function of the signal alone.
        let handler = unsafe {
            std::mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(registered.sa_sigaction)
        };
        Ok(Self {
            signal,
            handler,
            file,
        })
    }

    /// The frames of all threads, at one moment.
    pub(super) fn dump(&mut self) -> Result<String> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        // SAFETY: the handler does what a signal handler may, and writes to a file.
        unsafe { in_a_copy(|| (self.handler)(self.signal)) }?;
        self.file.rewind()?;
        let mut said = Vec::new();
        self.file.read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

fn action(signal: c_int) -> Result<libc::sigaction> {
    // SAFETY: zeros are a valid `sigaction`, and the kernel writes one over them.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        match libc::sigaction(signal, std::ptr::null(), &raw mut action) {
            0 => Ok(action),
            _ => Err(Error::last_os_error()),
        }
    }
}

/// Runs `look` in a copy of this process, in which no other thread runs, and waits for its end.
///
/// # Errors
/// If no copy could be made, or it did not come to its end.
///
/// # Safety
/// Other threads may hold any lock at that moment, and hold it for ever in the copy: `look` may do
/// what a signal handler may, and no more. It must not unwind.
unsafe fn in_a_copy(look: impl FnOnce()) -> Result<()> {
    const NONE: c_long = 0;
    // Not by fork(), which calls what libraries want called in children that live on. Without a
    // signal at its end, so that whoever waits for children of this process hears nothing of it.
    //
    // SAFETY: with no flag and no stack, the call returns in the copy as it does here, on a stack of
    // its own at the same address.
    let id = unsafe { libc::syscall(libc::SYS_clone, NONE, NONE, NONE, NONE, NONE) };
    if id == 0 {
        // SAFETY: calls that a signal handler may make, with constants.
        unsafe {
            // If it crashes, nobody is to be told, and nothing to be kept.
            libc::prctl(libc::PR_SET_DUMPABLE, NONE, NONE, NONE, NONE);
            libc::prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGKILL as c_long,
                NONE,
                NONE,
                NONE,
            );
            for signal in CRASHES {
                libc::signal(signal, libc::SIG_DFL);
            }
            look();
            libc::_exit(0);
        }
    }
    let id = c_int::try_from(id).map_err(Error::other)?;
    let Some(pid) = Pid::from_raw(id).filter(|_| id > 0) else {
        return Err(Error::last_os_error());
    };
    let ended = pidfd_open(pid, PidfdFlags::empty())
        .map_err(Error::from)
        .and_then(|copy| ends_in_time(&copy));
    let mut status = 0;
    // SAFETY: the process is a child of this one that nobody has waited for, so the id is its own.
    unsafe {
        if !matches!(ended, Ok(true)) {
            libc::kill(id, libc::SIGKILL);
        }
        while libc::waitpid(id, &raw mut status, libc::__WALL) == -1 {
            let error = Error::last_os_error();
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
    match (ended?, status) {
        (true, 0) => Ok(()),
        (true, status) => Err(Error::other(format!("the copy ended with status {status}"))),
        (false, _) => Err(ErrorKind::TimedOut.into()),
    }
}

fn ends_in_time(copy: impl AsFd) -> Result<bool> {
    let limit = Timespec::try_from(LIMIT).map_err(Error::other)?;
    let mut ends = [PollFd::new(&copy, PollFlags::IN)];
    loop {
        match poll(&mut ends, Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_copy_tells_what_it_sees_and_may_crash_or_hang_and_nothing_here_notices() {
        let mut file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        let mut seen = [1_u8];
        // SAFETY: it writes to a variable and to a file.
        unsafe {
            in_a_copy(|| {
                seen[0] += 1;
                let _ = (&file).write(&seen);
            })
        }
        .unwrap();
        assert_eq!(seen, [1]);
        let mut told = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut told).unwrap();
        assert_eq!(told, [2]);

        for _ in 0..100 {
            // SAFETY: it reads what is not mapped, in the copy.
            let crashed = unsafe {
                in_a_copy(|| {
                    let nowhere = std::hint::black_box(8 as *const u8);
                    std::hint::black_box(nowhere.read_volatile());
                })
            };
            let crashed = crashed.unwrap_err().to_string();
            assert_eq!(
                crashed,
                format!("the copy ended with status {}", libc::SIGSEGV)
            );
        }
        // SAFETY: it waits, and wakes nobody.
        let hung = unsafe {
            in_a_copy(|| {
                loop {
                    libc::pause();
                }
            })
        };
        assert_eq!(hung.unwrap_err().kind(), ErrorKind::TimedOut);

        // SAFETY: only copies have no signal at their end, and nobody else makes any.
        let left =
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WCLONE | libc::WNOHANG) };
        assert_eq!(
            (left, Error::last_os_error().raw_os_error()),
            (-1, Some(libc::ECHILD))
        );
    }
}
