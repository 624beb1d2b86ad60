//! Readings of a process in `/proc`: memory, descriptors, threads, children.

use std::fs;

/// The readings of one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessReading {
    /// Resident memory, in KiB.
    pub(crate) rss_kib: u64,
    /// Open file descriptors.
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// The readings of the process `pid`, which may be `self`; `None` when it has ended.
pub(crate) fn read_process(pid: &str) -> Option<ProcessReading> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    // The folder that is read is one of them.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(ProcessReading {
        rss_kib: field("VmRSS:")?,
        descriptors: descriptors.saturating_sub(u64::from(pid == "self")),
        threads: field("Threads:")?,
    })
}

/// The processes that this one has as children, zombies included.
pub(crate) fn child_processes() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return vec![];
    };
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let lists = tasks.filter_map(|task| of_task(task.ok()?));
    let mut children = vec![];
    for list in lists {
        children.extend(
            list.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    children
}
