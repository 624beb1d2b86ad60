//! LM calls that bypass the host, by a client that it does not carry: counted and logged.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::PredictRequest;

use crate::{
    captured_log::Captured,
    support::{call, host, lm_server, load, own_process},
};

#[tokio::test]
async fn bypassing_lm_calls_are_counted_and_logged_once_for_each_program() {
    let name =
        "both_hosts::bypassed::bypassing_lm_calls_are_counted_and_logged_once_for_each_program";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("warn");
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    let program = load(&host, "spends:bypasses", "by-host").await;
    let request = PredictRequest::new(json!({"question": "?", "model": "by-own"}));
    for n in 1..=2 {
        let answer = program.clone().oneshot(request.clone()).await.unwrap();
        let calls: Vec<_> = answer.lm_calls.iter().map(|call| &*call.model).collect();
        assert_eq!((calls, answer.lm_calls_bypassed), (vec!["by-host"], 1));
        assert_eq!(
            Some(answer.usage.total_tokens),
            answer.lm_calls[0].total_tokens
        );
        assert_eq!(program.lm_calls_bypassed(), n);
        assert_eq!(host.stats().lm.bypassed, n);
    }
    assert_eq!(server.requests("by-own").len(), 2);

    let said = captured.text();
    // A busy machine may have the loop held up besides: the first LM of a process reads DSPy's list
    // of models.
    let of_it = said
        .lines()
        .filter(|line| !line.contains("blocks the loop"));
    let said: Vec<_> = of_it.collect();
    assert_eq!(said.len(), 1, "{said:?}");
    for part in [
        "WARN",
        "spends:bypasses",
        "Past(by-own)",
        "past the host",
        "dspy.LM",
    ] {
        assert!(said[0].contains(part), "{part} is not in {said:?}");
    }
}
