//! The checks of this process: its environment, its runtime, its limits.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::check::Check;
use crate::error::counted;

/// Variables that change Python, and what each does.
const PYTHONS: [(&str, &str); 5] = [
    (
        "PYTHONHOME",
        "sends Python to the modules of another installation. Worker processes start without it, an \
         embedded host refuses it. Unset it",
    ),
    (
        "PYTHONPATH",
        "puts folders before the venv, whose packages hide the venv's. Unset it, and give the \
         programs' folder by `python_path`",
    ),
    (
        "PYTHONOPTIMIZE",
        "takes `assert` statements out of programs. Unset it",
    ),
    (
        "PYTHONMALLOC",
        "replaces Python's memory allocator, which costs time. Unset it in production",
    ),
    (
        "PYTHONDEVMODE",
        "turns on checks that make Python slow, with warnings on stderr. Unset it in production",
    ),
];

/// Variables that change which libraries a process loads.
const LOADERS: [(&str, &str); 1] = [(
    "LD_PRELOAD",
    "loads a library before all others, into Python as well. Unset it if the host does not start",
)];

/// A call in flight has a connection to its LM and one from its client.
const FILES_OF_A_CALL: u64 = 2;
/// Files of a process beside its calls: sockets of workers, logs, modules being imported.
const OTHER_FILES: u64 = 128;

/// Less memory than this is soon used up by calls: DSPy alone takes some 70 MiB.
const LEAST_MEMORY: u64 = 256 << 20;

/// What in the environment changes Python. `is_linked`: Python is part of this process.
pub(super) fn environment(is_linked: bool) -> Vec<Check> {
    environment_of(is_linked, |name| {
        env::var_os(name).is_some_and(|value| !value.is_empty())
    })
}

fn environment_of(is_linked: bool, is_set: impl Fn(&str) -> bool) -> Vec<Check> {
    let loaders = LOADERS.iter().filter(|_| is_linked);
    let set = PYTHONS
        .iter()
        .chain(loaders)
        .filter(|(name, _)| is_set(name));
    let checks = set.map(|(name, what)| {
        Check::warning("environment", format_args!("{name} is set: it {what}"))
    });
    let checks: Vec<_> = checks.collect();
    match checks.is_empty() {
        true => vec![Check::ok("environment", "no variable changes Python")],
        false => checks,
    }
}

/// The runtime that this is called on.
pub(super) fn runtime() -> Check {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Err(_) => Check::wrong(
            "runtime",
            "there is no tokio runtime here, which layers need for their timers. Call this, and \
             services, within one: `#[tokio::main]`",
        ),
        Ok(RuntimeFlavor::CurrentThread) => Check::warning(
            "runtime",
            "tokio runs on one thread here: code that blocks it delays all calls and their \
             deadlines. Serve on `#[tokio::main]` with tokio's feature `rt-multi-thread`",
        ),
        Ok(_) => Check::ok("runtime", "tokio, with several threads"),
    }
}

/// The limit of open files, for so many calls in flight.
pub(super) fn open_files(calls: usize) -> Check {
    open_files_of(getrlimit(Resource::Nofile).current, calls)
}

fn open_files_of(limit: Option<u64>, calls: usize) -> Check {
    let calls = u64::try_from(calls).unwrap_or(u64::MAX);
    let needed = calls
        .saturating_mul(FILES_OF_A_CALL)
        .saturating_add(OTHER_FILES);
    let calls = counted(calls, "call");
    match limit {
        Some(limit) if limit < needed => Check::warning(
            "open files",
            format_args!(
                "{limit} may be open, and {calls} in flight may need {needed}: a call then \
                 fails with `Too many open files`. Raise it (`ulimit -n {needed}`, LimitNOFILE= of \
                 systemd, `--ulimit nofile={needed}` of Docker), or lower `max_in_flight`"
            ),
        ),
        Some(limit) => Check::ok(
            "open files",
            format_args!("{limit} may be open; {calls} in flight may need {needed}"),
        ),
        None => Check::ok("open files", "there is no limit"),
    }
}

/// The memory that is left for this process and its workers.
pub(super) fn memory() -> Check {
    let groups = Path::new("/sys/fs/cgroup");
    let proc = Path::new("/proc");
    let own = fs::read_to_string(proc.join("self/cgroup")).ok();
    let group = own.as_deref().and_then(unified_group);
    let of_group = group.and_then(|group| left_in_group(groups, group));
    let of_system = fs::read_to_string(proc.join("meminfo")).ok();
    let of_system = of_system.as_deref().and_then(available);
    memory_of(of_system, of_group)
}

fn memory_of(system: Option<u64>, group: Option<u64>) -> Check {
    let Some(left) = system.into_iter().chain(group).min() else {
        return Check::skipped("memory", "neither /proc/meminfo nor a cgroup shows it");
    };
    let mib = left >> 20;
    if left >= LEAST_MEMORY {
        return Check::ok("memory", format_args!("{mib} MiB are left"));
    }
    let whose = match group == Some(left) {
        true => "the container's limit",
        false => "the machine",
    };
    Check::warning(
        "memory",
        format_args!(
            "{mib} MiB are left of {whose}, with the host started: calls may end with their \
             process. Raise it, or start fewer workers"
        ),
    )
}

/// The group of the unified hierarchy, in the text of `/proc/self/cgroup`.
fn unified_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least that is left of the limits of this group and those above it; `None` without a limit.
fn left_in_group(root: &Path, group: &str) -> Option<u64> {
    let number =
        |path: PathBuf| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let folder = root.join(group);
    let above = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    let left = above.filter_map(|folder| {
        let most = number(folder.join("memory.max"))?;
        let used = number(folder.join("memory.current"))?;
        // Pages of files are given back when they are needed.
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let files = stat
            .lines()
            .find_map(|line| line.strip_prefix("inactive_file "));
        let files = files
            .and_then(|bytes| bytes.trim().parse().ok())
            .unwrap_or(0);
        Some(most.saturating_sub(used.saturating_sub(files)))
    });
    left.min()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome::{Ok as Well, Skipped, Warning, Wrong};

    #[test]
    fn each_variable_that_is_set_is_a_warning_with_its_remedy() {
        let checks = environment_of(true, |name| {
            name.starts_with("PYTHONH") || name.starts_with("LD_P")
        });
        let names: Vec<_> = checks
            .iter()
            .map(|check| check.text().split(' ').next())
            .collect();
        assert_eq!(names, [Some("PYTHONHOME"), Some("LD_PRELOAD")]);
        assert!(checks.iter().all(|check| check.outcome() == Warning));
        assert!(checks.iter().all(|check| check.text().contains("Unset it")));
        // A worker has the Python of its venv, wherever this process has its libraries from.
        let checks = environment_of(false, |name| name.starts_with("LD_"));
        assert_eq!(checks[0].outcome(), Well);
    }

    #[test]
    fn the_runtime_is_checked_where_it_is_called() {
        assert_eq!(runtime().outcome(), Wrong);
        let run = |mut builder: tokio::runtime::Builder| {
            let runtime_ = builder.build().expect("a runtime");
            runtime_.block_on(async { runtime().outcome() })
        };
        assert_eq!(run(tokio::runtime::Builder::new_current_thread()), Warning);
        assert_eq!(run(tokio::runtime::Builder::new_multi_thread()), Well);
    }

    #[test]
    fn open_files_that_do_not_suffice_for_the_calls_are_a_warning() {
        assert_eq!(open_files_of(Some(256), 64).outcome(), Well);
        let few = open_files_of(Some(255), 64);
        assert_eq!(few.outcome(), Warning);
        assert!(few.text().contains("ulimit -n 256"), "{few}");
        assert_eq!(open_files_of(None, usize::MAX).outcome(), Well);
        assert_eq!(open_files_of(Some(1024), usize::MAX).outcome(), Warning);
    }

    #[test]
    fn memory_is_that_of_the_tighter_limit() {
        let (little, much) = (LEAST_MEMORY - 1, LEAST_MEMORY);
        assert_eq!(memory_of(None, None).outcome(), Skipped);
        assert_eq!(memory_of(Some(much), None).outcome(), Well);
        let of_group = memory_of(Some(much), Some(little));
        assert_eq!(of_group.outcome(), Warning);
        assert!(
            of_group.text().contains("the container's limit"),
            "{of_group}"
        );
        let of_system = memory_of(Some(little), Some(much));
        assert!(of_system.text().contains("the machine"), "{of_system}");
    }

    #[test]
    fn a_groups_limit_is_the_least_of_those_above_it_without_pages_of_files() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("folders");
        let write =
            |name: &str, text: &str| fs::write(root.path().join(name), text).expect("a file");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "300\n");
        assert_eq!(left_in_group(root.path(), "a/b"), None);
        write("a/memory.max", "1000\n");
        write("a/memory.current", "900\n");
        write("a/memory.stat", "anon 100\ninactive_file 250\n");
        assert_eq!(left_in_group(root.path(), "a/b"), Some(350));
        assert_eq!(unified_group("0::/a/b\n"), Some("a/b"));
        assert_eq!(unified_group("1:memory:/a\n"), None);
        assert_eq!(
            available("MemFree: 1 kB\nMemAvailable:    2 kB\n"),
            Some(2048)
        );
    }
}
