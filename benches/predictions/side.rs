//! A process that measures what it is asked to, and answers with a number.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// No thread of numpy's waits for work by spinning.
const ONE_THREAD: [(&str, &str); 1] = [("OPENBLAS_NUM_THREADS", "1")];

pub(crate) struct Side {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Side {
    /// This program again, as another part of the bench.
    pub(crate) fn ourselves(part: &str, url: &str) -> Self {
        let mut command = Command::new(env::current_exe().expect("a path"));
        command
            .env("TOWER_DSPY_BENCH_PART", part)
            .env("TOWER_DSPY_BENCH_URL", url)
            .envs(ONE_THREAD);
        let mut side = Self::start(command);
        if part != "server" {
            assert_eq!(side.line(), "ready");
        }
        side
    }

    /// A side of a Python script, by its path in the repository.
    pub(crate) fn script(venv: &Path, script: &str, side: &str, url: &str) -> Self {
        Self::script_with(venv, script, side, url, &[])
    }

    /// The same with these folders on Python's path.
    pub(crate) fn script_with(
        venv: &Path,
        script: &str,
        side: &str,
        url: &str,
        python_path: &[PathBuf],
    ) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new(venv.join("bin/python"));
        let python_path = env::join_paths(python_path).expect("paths without a colon");
        command
            .args([&script, Path::new(side), Path::new(url)])
            .env("PYTHONPATH", python_path)
            .envs(ONE_THREAD);
        let mut side = Self::start(command);
        assert_eq!(side.line(), "ready");
        side
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let told = child.stdin.take().expect("its stdin");
        let says = BufReader::new(child.stdout.take().expect("its stdout"));
        Self { child, told, says }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.told, "{line}").expect("a process that listens");
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Has something measured; the number that the side answers.
    pub(crate) fn ask(&mut self, line: &str) -> f64 {
        self.say(line);
        self.line().parse().expect("a number")
    }

    /// Makes predictions; the CPU seconds that they took.
    pub(crate) fn cpu(&mut self, predictions: usize, at_once: usize) -> f64 {
        self.ask(&format!("{predictions} {at_once}"))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
