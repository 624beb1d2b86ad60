//! Keys and prompts, which reach no log at info level and no terminal.

use std::time::Duration;

use tower::ServiceExt;
use tower_dspy::{
    Deadline, Error,
    testing::scripted_lm::{Gate, Reply},
};

use crate::{
    captured_log::Captured,
    support::{ask, eventually, lm, lm_server, load, own_process, question, start},
};

/// The level of a line of the log and what follows; `None` for a line of a traceback.
fn level(line: &str) -> Option<&str> {
    line.split_whitespace()
        .find(|word| ["ERROR", "WARN", "INFO", "DEBUG"].contains(word))
}

#[tokio::test]
async fn a_program_that_raises_logs_where_at_warn_and_its_traceback_at_debug() {
    let name =
        "both_hosts::logs::a_program_that_raises_logs_where_at_warn_and_its_traceback_at_debug";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("tower_dspy=debug");
    let host = start().await;
    let program = load(&host, "raises:own", "unused").await;
    let request = tower_dspy::PredictRequest::new(serde_json::json!({"key": "SECRET"}));
    program.oneshot(request).await.unwrap_err();
    host.stop(Duration::from_secs(10)).await;

    let logged = captured.text();
    let warned: Vec<_> = logged
        .lines()
        .filter(|line| line.contains("outcome=\"failed\""))
        .collect();
    let [warned] = *warned else {
        panic!("one event of the end in:\n{logged}")
    };
    assert_eq!(level(warned), Some("WARN"), "{warned}");
    assert!(
        warned.contains("python_type=\"raises.NoAnswer\""),
        "{warned}"
    );
    // The file, the line and the function.
    let (_, frame) = warned.split_once("programs/raises.py:").unwrap();
    let (line, function) = frame.split_once(' ').unwrap();
    assert!(line.parse::<u32>().is_ok_and(|line| line > 1), "{warned}");
    assert!(function.starts_with("own"), "{warned}");
    // The message may repeat a prompt: it is below info alone.
    assert!(
        logged.contains("NoAnswer: nothing about SECRET"),
        "{logged}"
    );
    for line in logged.lines() {
        let is_shown = matches!(level(line), Some("ERROR" | "WARN" | "INFO"));
        assert!(!(is_shown && line.contains("SECRET")), "{line}");
    }
}

// Put together here, so that nothing but a leak can hold them.
fn secrets() -> [String; 4] {
    ["prompt", "key", "answer", "body"].map(|what| format!("SECRET-{what}-{}", 6 * 7))
}

fn assert_none(secrets: &[String], text: &str) {
    for secret in secrets {
        assert!(!text.contains(secret), "`{secret}` is in:\n{text}");
    }
}

#[tokio::test]
async fn keys_prompts_and_answers_reach_no_log_at_info_and_no_terminal() {
    let secrets = secrets();
    let name = "both_hosts::logs::keys_prompts_and_answers_reach_no_log_at_info_and_no_terminal";
    if let Some(said) = own_process(name).await {
        assert_none(&secrets, &said);
        return;
    }
    let captured = Captured::from("info");
    let [prompt, key, answer, body] = secrets.clone();
    let (host, server) = (start().await, lm_server().await);
    let lm = |model: &'static str| {
        let key = key.clone();
        async move { lm(model).await.key(key) }
    };
    let never = Gate::new();
    server.script("logs-ok", Reply::answer(&answer));
    server.script("logs-unreadable", Reply::content(&body));
    server.script("logs-garbage", Reply::garbage());
    server.script("logs-slow", Reply::answer(&answer).held_by(&never));
    for status in [401, 429, 500] {
        server.script(format!("logs-{status}"), Reply::status(status));
    }

    for (model, passes) in [
        ("logs-ok", true),
        ("logs-unreadable", false),
        ("logs-garbage", false),
        ("logs-401", false),
        ("logs-429", false),
        ("logs-500", false),
    ] {
        let qa = host
            .load("question -> answer")
            .lm(lm(model).await)
            .await
            .unwrap();
        let result = qa.oneshot(ask(&prompt)).await;
        assert_eq!(result.is_ok(), passes, "{model}");
        if let Err(error) = result {
            // Nor by way of an error that is logged as `{error:?}`.
            assert_none(&secrets, &format!("{error:?}"));
        }
        assert!(!server.requests(model).is_empty());
    }
    let slow = host
        .load("question -> answer")
        .lm(lm("logs-slow").await)
        .await
        .unwrap();
    let limited = ask(&prompt).with_deadline(Deadline::within(Duration::from_millis(300)));
    let error = slow.oneshot(limited).await.unwrap_err();
    assert!(matches!(error, Error::Elapsed(_)), "{error:?}");

    let raises = load(&host, "asks:prompts_in_its_error", "unused").await;
    raises.clone().oneshot(ask(&prompt)).await.unwrap_err();
    // Mistyped, with the prompt as an unknown field.
    let qa = question(&host, "unused").await;
    let unknown = tower_dspy::PredictRequest::new(serde_json::json!({ prompt.clone(): 1 }));
    qa.oneshot(unknown).await.unwrap_err();
    eventually("the end of all", || host.stats().running == 0).await;
    host.stop(Duration::from_secs(10)).await;

    let logged = captured.text();
    assert!(
        logged.contains("LM failed"),
        "the log was not captured:\n{logged}"
    );
    assert_none(&secrets, &logged);
}
