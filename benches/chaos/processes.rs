//! The child processes of programs that wait for an hour, known by their argument wherever they are.

use std::fs;

/// The seconds of an hour's wait. No other run has the same, so a `sleep` with them is of this one.
pub(crate) fn wait_seconds() -> String {
    format!("3600.{:010}", std::process::id())
}

/// The processes that wait for an hour, also those whose worker has ended.
pub(crate) fn waiting_processes() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return vec![];
    };
    let wanted = format!("sleep\0{}\0", wait_seconds());
    let waits = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted)
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(waits).collect()
}
