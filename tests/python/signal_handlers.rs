//! Signal handlers set by programs of an embedded host, which do not displace those of the process.

use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tower_dspy::{inbound::axum::predict, server::serve};

use crate::{
    captured_log::Captured,
    support::{HOUR, call, load, own_process, signal_self, start},
};

/// Serves a program that sets handlers, sends a real SIGTERM, and requires a clean drain.
async fn drains_after_a_call_of(target: &str, answer: &str) {
    let captured = Captured::from("warn");
    let host = start().await;
    let program = load(&host, target, "unused").await;
    let app = Router::new().route("/", predict(program.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let until = host.shutdown(HOUR);
    let served = tokio::spawn(async move { serve(listener, app, until).await });
    let client = reqwest::Client::new();
    // Once it serves, it has its handlers.
    client.get(&url).send().await.unwrap();
    let before = dispositions();
    for _ in 0..2 {
        let sent = client.post(&url).json(&json!({"question": "?"})).send();
        let response: serde_json::Value = sent.await.unwrap().json().await.unwrap();
        assert_eq!(response["outputs"]["answer"], answer, "{response}");
    }
    assert_eq!(dispositions(), before);

    signal_self("-TERM").await;
    let report = timeout(Duration::from_secs(30), served).await;
    let report = report.expect("an end").unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
    let logged = captured.text();
    let warnings = logged.matches("which belongs to the process").count();
    let (module, _) = target.split_once(':').unwrap();
    assert_eq!(warnings, 1, "{logged}");
    assert!(logged.contains(module), "{logged}");
}

#[tokio::test]
async fn handlers_set_by_a_program_do_not_displace_the_servers() {
    let name = "signal_handlers::handlers_set_by_a_program_do_not_displace_the_servers";
    if own_process(name).await.is_none() {
        drains_after_a_call_of("handlers:Signals", "[True, True]").await;
    }
}

#[tokio::test]
async fn handlers_set_and_restored_by_a_program_do_not_displace_the_servers() {
    let name =
        "signal_handlers::handlers_set_and_restored_by_a_program_do_not_displace_the_servers";
    if own_process(name).await.is_none() {
        drains_after_a_call_of("handlers:Restores", "[True, True]").await;
    }
}

#[tokio::test]
async fn handlers_set_by_a_sync_program_do_not_displace_the_servers() {
    let name = "signal_handlers::handlers_set_by_a_sync_program_do_not_displace_the_servers";
    if own_process(name).await.is_none() {
        drains_after_a_call_of("handlers:Blocking", "set").await;
    }
}

#[tokio::test]
async fn timers_and_real_time_signals_are_the_programs_own() {
    let name = "signal_handlers::timers_and_real_time_signals_are_the_programs_own";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    let seen = call(&host, "handlers:own", json!({})).await;
    assert_eq!(seen, json!(["SIGALRM", "real-time", "timer"]));
}

#[tokio::test]
async fn a_child_forked_by_a_program_has_no_handler_of_the_host() {
    let name = "signal_handlers::a_child_forked_by_a_program_has_no_handler_of_the_host";
    if own_process(name).await.is_some() {
        return;
    }
    let _terminates = signal(SignalKind::terminate()).unwrap();
    let host = start().await;
    let ends = call(&host, "forks:end_by_sigterm", json!({})).await;
    assert_eq!(ends, json!([-15, 7]));
}

/// Which signals the process ignores, and for which it has handlers.
fn dispositions() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter(|line| {
        let of = |name| line.starts_with(name);
        of("SigIgn:") || of("SigCgt:")
    });
    lines.map(str::to_owned).collect()
}
