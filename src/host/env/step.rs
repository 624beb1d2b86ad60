//! One command of a creation: its run, its lines, its exit status.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Command, ExitStatus},
};

use super::{error::EnvError, hint, library_path};

/// How many of the last lines go into an error: a resolver's complaint fits.
const LINES_KEPT: usize = 20;

/// One command.
pub(super) struct Step<'a> {
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    pub(super) args: &'a [&'a OsStr],
    /// What a user runs to do this and the steps after it.
    pub(super) by_hand: &'a str,
    pub(super) venv: &'a Path,
    /// The version of the Python, such as `3.11`.
    pub(super) python: &'a str,
}

/// Runs the command. It holds `lock` for as long as it lives, whatever becomes of this process.
pub(super) fn run(
    step: &Step<'_>,
    lock: &File,
    progress: &mut dyn FnMut(&str),
) -> Result<(), EnvError> {
    let mut last = VecDeque::with_capacity(LINES_KEPT);
    let reason = match listen(step, lock, &mut |line| {
        progress(line);
        if last.len() == LINES_KEPT {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }) {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!(
            "could not be run with `{}` ({error})",
            step.program.display()
        ),
    };
    let output = Vec::from(last).join("\n");
    let reason = match hint::of_output(&output, step.python) {
        Some(remedy) => format!("{reason}. {remedy}"),
        None => reason,
    };
    Err(EnvError::CreateFailed {
        path: step.venv.to_owned(),
        step: step.name,
        reason,
        output,
        command: step.by_hand.to_owned(),
    })
}

/// Runs the command and passes each of its lines on.
fn listen(step: &Step<'_>, lock: &File, on_line: &mut dyn FnMut(&str)) -> io::Result<ExitStatus> {
    // One pipe for both, so that the lines keep their order.
    let (reader, writer) = io::pipe()?;
    let mut child = {
        let mut command = Command::new(step.program);
        command
            .args(step.args)
            // None of pip's variables may send the packages elsewhere, or have others installed.
            .env_remove("PIP_CONSTRAINT")
            .env_remove("PIP_DRY_RUN")
            .env_remove("PIP_PREFIX")
            .env_remove("PIP_PYTHON")
            .env_remove("PIP_REQUIREMENT")
            .env_remove("PIP_ROOT")
            .env_remove("PIP_TARGET")
            .env_remove("PIP_USER")
            .stdin(lock.try_clone()?)
            .stdout(writer.try_clone()?)
            .stderr(writer);
        library_path::leave_out_build_folder(&mut command);
        // The command is dropped here, and with it this side's ends of the pipe: else the
        // reading below would never come to an end.
        command.spawn()?
    };

    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let read = loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => on_line(String::from_utf8_lossy(&line).trim_end()),
            Err(error) => break Err(error),
        }
    };
    // The child is waited for even if it could not be listened to.
    drop(reader);
    let status = child.wait()?;
    read.map(|()| status)
}
