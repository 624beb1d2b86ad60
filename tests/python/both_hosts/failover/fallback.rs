//! LM calls that another member answers, and those that none may.

use std::time::Duration;

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Backoff, Classify, Deadline, Error, ErrorKind, Lm, LmOutcome, RetryLayer,
    lm::{LmFailure, LmFailureKind, LmLimits, LmRequest},
    testing::scripted_lm::{Outcome, Reply},
};

use super::{PROGRAMS, answer, call, calls, error, member};
use crate::support::{ask, host, lm_server, lm_that_says, nowhere};

#[tokio::test]
async fn another_provider_answers_where_the_first_has_a_server_error() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-503", Reply::status(503));
    server.script("fo-claude", Reply::answer("of the second"));
    for target in PROGRAMS {
        let first = member("openai", "fo-503").await.key("key-of-the-first");
        let second = member("anthropic", "fo-claude")
            .await
            .key("key-of-the-second");
        let load = host.load(target).lm(Lm::fallback([first, second]));
        let program = load.await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{target}");
        let expected = [
            call("openai", "fo-503", LmOutcome::Answered),
            call("anthropic", "fo-claude", LmOutcome::Answered),
        ];
        assert_eq!(calls(&answer.lm_calls), expected, "{target}");
        let tokens = answer.lm_calls[1].total_tokens;
        assert_eq!(Some(answer.usage.total_tokens), tokens, "{target}");
        assert_eq!(answer.lm_calls_bypassed, 0, "{target}");
    }
    let request = &server.requests("fo-claude")[0];
    assert_eq!(request.body["model"], "fo-claude");
}
