//! The start and the stop of a host. A process has one, so each test here has a process.

use std::{fs, time::Duration};

use futures_util::FutureExt;
use serde_json::json;
use tempfile::tempdir;
use tokio::{net::TcpListener, time::timeout};
use tower::{Service, ServiceExt};
use tower_dspy::{Cancel, Error, ErrorKind, Health, Host, PredictRequest, StartError};

use crate::support::{
    HOUR, LIMIT, ask, ask_as, call, eventually, in_a_worker, lm_server, load, own_process,
    programs, question, seen, start, venv,
};
use tower_dspy::{
    Classify,
    testing::scripted_lm::{Outcome, Reply},
};

#[tokio::test]
async fn a_stop_cancels_running_calls_and_waits_for_their_clean_up() {
    let name = "both_hosts::lifecycle::a_stop_cancels_running_calls_and_waits_for_their_clean_up";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, lm) = (start().await, lm_server().await);
    let marks = tempdir().unwrap();
    lm.script("stopped", Reply::hang());
    let mut program = load(&host, "cleanup:leaves_a_file", "stopped").await;
    let mut calls = Vec::new();
    for n in 0..3 {
        let mark = marks.path().join(n.to_string());
        let request = PredictRequest::new(json!({"key": mark, "question": "?"}));
        calls.push(tokio::spawn(program.ready().await.unwrap().call(request)));
    }
    lm.wait_for("stopped", |all| all.len() == 3).await.unwrap();

    let stats = host.stop(HOUR).await;
    // All that is over before the stop is.
    assert_eq!(fs::read_dir(marks.path()).unwrap().count(), 3);
    assert_eq!((stats.running, stats.queued, stats.orphans), (0, 0, 0));
    assert_eq!(program.in_flight(), 0);
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShuttingDown, "{error}");
    }
    lm.wait_for("stopped", |all| {
        all.iter().all(|r| r.outcome == Outcome::ClientGone)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn after_a_stop_every_use_fails_at_once_with_the_reason() {
    let name = "both_hosts::lifecycle::after_a_stop_every_use_fails_at_once_with_the_reason";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    let qa = question(&host, "after").await;
    let echo = host.function("inputs:echo", None).await.unwrap();
    qa.clone().oneshot(ask("before")).await.unwrap();

    host.stop(Duration::ZERO).await;
    // A second one, and one of another handle, are no different.
    host.stop(HOUR).await;
    host.clone().stop(HOUR).await;

    assert_eq!(host.health(), Health::Lost);
    let error = qa.clone().oneshot(ask("after")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Lost(lost) if lost.reason() == "it was stopped"),
        "{error}"
    );
    assert_eq!(qa.in_flight(), 0);
    let error = echo.call(json!({"value": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    let error = host.load("question -> answer").await.unwrap_err();
    assert!(error.to_string().contains("it was stopped"), "{error}");
    assert_eq!(lm_server().await.requests("after").len(), 1);

    if in_a_worker() {
        // Of workers a process may have any number, one after the other too.
        let again = Host::workers(1).venv(venv().await).python_path(programs());
        let again = again.start().await.unwrap();
        question(&again, "after")
            .await
            .oneshot(ask("?"))
            .await
            .unwrap();
        return;
    }
    let again = Host::embedded().venv(venv().await).python_path(programs());
    let error = again.start().await.unwrap_err();
    assert!(matches!(error, StartError::Over { .. }), "{error}");
    assert!(
        error.to_string().contains("cannot be started twice"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stop_gives_up_on_calls_that_do_not_end_and_reports_them() {
    let name = "both_hosts::lifecycle::a_stop_gives_up_on_calls_that_do_not_end_and_reports_them";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, lm) = (start().await, lm_server().await);
    lm.script("stuck", Reply::hang());
    let program = load(&host, "cleanup:slow", "stuck").await;
    let call = tokio::spawn(program.clone().oneshot(ask_as("stuck")));
    lm.wait_for("stuck", |all| all.len() == 1).await.unwrap();

    let stats = host.stop(Duration::from_millis(50)).await;
    // A worker is killed, with all that runs there.
    let left = u64::from(!in_a_worker());
    assert_eq!(stats.running, left);
    assert_given_up(&call.await.unwrap().unwrap_err());
}

/// What a stop answers for a call that does not end.
fn assert_given_up(error: &Error) {
    // A worker whose report does not come in time is killed, which ends its calls as cancelled.
    let is_killed = in_a_worker() && error.kind() == ErrorKind::ShuttingDown;
    assert!(is_killed || error.kind() == ErrorKind::Lost, "{error}");
}

/// Nobody waits for ever for the end of work of which no code runs any more.
#[tokio::test]
async fn the_work_that_a_stop_leaves_has_ended_when_its_threads_have() {
    let name = "both_hosts::lifecycle::the_work_that_a_stop_leaves_has_ended_when_its_threads_have";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, lm) = (start().await, lm_server().await);
    lm.script("left", Reply::hang());
    let folder = tempdir().unwrap();
    let ends = folder.path().join("ends");
    let slow = load(&host, "cleanup:slow", "left").await;
    let stubborn = load(&host, "sync:OutlivesItsHost", "unused").await;
    let [task, thread] = [Cancel::new(), Cancel::new()];
    let on_thread = PredictRequest::new(json!({"path": ends})).with_cancel(thread.clone());
    let calls = [
        tokio::spawn(slow.oneshot(ask_as("left").with_cancel(task.clone()))),
        tokio::spawn(stubborn.oneshot(on_thread)),
    ];
    lm.wait_for("left", |all| all.len() == 1).await.unwrap();
    eventually("its thread", || folder.path().join("ends.begun").exists()).await;

    host.stop(Duration::from_millis(50)).await;
    for call in calls {
        assert_given_up(&call.await.unwrap().unwrap_err());
    }
    let ended = timeout(LIMIT, task.settled()).await;
    ended.expect("no loop runs its code any more");
    if !in_a_worker() {
        assert!(thread.settled().now_or_never().is_none());
        assert_eq!(host.stats().running, 2);
        fs::write(&ends, "").unwrap();
    }
    timeout(LIMIT, thread.settled())
        .await
        .expect("it has ended");
    assert_eq!(host.stats().running, u64::from(!in_a_worker()));
}

#[tokio::test]
async fn a_second_start_with_the_same_settings_gets_the_first_host() {
    let name = "both_hosts::lifecycle::a_second_start_with_the_same_settings_gets_the_first_host";
    if own_process(name).await.is_some() {
        return;
    }
    let same = Host::embedded().venv(venv().await).python_path(programs());
    let (first, second) = tokio::join!(same.clone().start(), same.clone().start());
    let (first, second) = (first.unwrap(), second.unwrap());
    question(&first, "shared")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
    assert_eq!(second.stats().submitted, 1);

    let error = same.python_path("elsewhere").start().await.unwrap_err();
    assert!(matches!(error, StartError::Another), "{error}");
    // The first is none the worse for it.
    assert_eq!(seen(&first, "nothing").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_host_outlives_the_runtime_that_started_it() {
    let name = "both_hosts::lifecycle::a_host_outlives_the_runtime_that_started_it";
    if own_process(name).await.is_some() {
        return;
    }
    let elsewhere = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(start())
    });
    let host = elsewhere.join().unwrap();
    question(&host, "outlives")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stop_returns_after_pythons_thread_has_ended() {
    let name = "both_hosts::lifecycle::a_stop_returns_after_pythons_thread_has_ended";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    call(&host, "thread_end:takes_its_time", json!({"port": port})).await;
    let (peer, _) = listener.accept().await.unwrap();

    // Neither of two returns early: the connection would stay open for seconds then. Once the thread has
    // ended, the kernel reports its end at once.
    let stop = || async {
        host.stop(HOUR).await;
        let end = timeout(Duration::from_secs(1), peer.peek(&mut [0])).await;
        assert_eq!(end.expect("the end of the thread").unwrap(), 0);
    };
    tokio::join!(stop(), stop());
}
