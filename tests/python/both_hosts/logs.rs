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
