//! The end of processes that programs have started by `multiprocessing`.

use std::{fs, process, time::Duration};

use serde_json::json;
use tempfile::tempdir;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::{
    support::{HOUR, LIMIT, call, own_process, start},
    workers::is_there,
};

/// The children of this process that have not ended, and those that nobody has waited for.
fn children() -> Vec<String> {
    let mine = process::id().to_string();
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(stat);
    let parent = |stat: &String| {
        let after_name = stat.rsplit(") ").next()?;
        after_name.split(' ').nth(1).map(str::to_owned)
    };
    all.filter(|stat| parent(stat).as_ref() == Some(&mine))
        .collect()
}

async fn none_is_left(method: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = start().await;
    let folder = tempdir().unwrap();
    let arguments = json!({"method": method, "path": folder.path().join("works")});
    let started = call(&host, "children:start", arguments).await;
    let started: Vec<u32> = serde_json::from_value(started).unwrap();
    // Those of a fork server are no children of this process.
    assert_eq!(started.len(), 5);
    assert!(started.iter().all(|pid| is_there(*pid)));
    assert!(!children().is_empty());

    // Nothing ran that needs the grace.
    let stopped = timeout(LIMIT, host.stop(HOUR)).await;
    stopped.expect("a stop that does not wait for its grace");
    assert_eq!(children(), Vec::<String>::new());
    assert!(!started.iter().any(|pid| is_there(*pid)));
    drop(listener);
    // Not `TcpListener::bind`, which would let another listener be.
    let again = std::net::TcpListener::bind(address);
    assert!(again.is_ok(), "{again:?}");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(children(), Vec::<String>::new());
}

#[tokio::test]
async fn no_forked_child_outlives_a_host_that_was_stopped() {
    let name = "child_processes::no_forked_child_outlives_a_host_that_was_stopped";
    if own_process(name).await.is_none() {
        none_is_left("fork").await;
    }
}

#[tokio::test]
async fn no_spawned_child_outlives_a_host_that_was_stopped() {
    let name = "child_processes::no_spawned_child_outlives_a_host_that_was_stopped";
    if own_process(name).await.is_none() {
        none_is_left("spawn").await;
    }
}

#[tokio::test]
async fn no_child_of_a_fork_server_outlives_a_host_that_was_stopped() {
    let name = "child_processes::no_child_of_a_fork_server_outlives_a_host_that_was_stopped";
    if own_process(name).await.is_none() {
        none_is_left("forkserver").await;
    }
}
