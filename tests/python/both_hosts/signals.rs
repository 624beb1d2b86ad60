//! SIGINT, which is left to Rust.

use tower::ServiceExt;

use crate::support::{ask, own_process, question, signal_self, start};

#[tokio::test]
async fn sigint_is_left_to_rust_and_the_loop_goes_on() {
    if own_process("both_hosts::signals::sigint_is_left_to_rust_and_the_loop_goes_on")
        .await
        .is_some()
    {
        return;
    }
    // One handler from before Python, and one from after.
    for _ in 0..2 {
        let mut interrupts =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
        let host = start().await;
        let qa = question(&host, "signals").await;
        signal_self("-INT").await;
        interrupts.recv().await.unwrap();
        qa.oneshot(ask("still there?")).await.unwrap();
    }
    assert_eq!(real_time_signals(), 0);
}

/// Those that the process has handlers for, but for the two that the C library keeps for itself.
fn real_time_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() >> 33
}
