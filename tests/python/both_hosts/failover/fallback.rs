//! LM calls that another member answers, and those that none may.

use std::time::Duration;

use serde_json::json;
use tower::{BoxError, ServiceExt, service_fn};
use tower_dspy::{
    Backoff, Budget, BudgetLimits, Classify, Deadline, Error, ErrorKind, Lm, LmOutcome, RetryLayer,
    Tenant,
    lm::{LmFailure, LmFailureKind, LmLimits, LmRequest},
    testing::scripted_lm::{Outcome, Reply},
};

use super::{PROGRAMS, answer, call, calls, error, member};
use crate::support::{HOUR, ask, host, lm_server, lm_that_says, nowhere};

/// An LM that answers, as the second member.
async fn second(model: &str) -> Lm {
    lm_server()
        .await
        .script(model, Reply::answer("of the second"));
    member("anthropic", model).await
}

#[tokio::test]
async fn another_provider_answers_where_the_first_has_a_server_error() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-503", Reply::status(503));
    for target in PROGRAMS {
        let first = member("openai", "fo-503").await.temperature(0.5);
        let lm = Lm::fallback([first, second("fo-claude").await.max_tokens(77)]);
        let program = host.load(target).lm(lm).await.unwrap();
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
    for request in server.requests("fo-claude") {
        // Its own options, and not those of the first.
        assert_eq!(request.body["max_tokens"], 77, "{}", request.body);
        assert!(
            request.body.get("temperature").is_none(),
            "{}",
            request.body
        );
    }
}

#[tokio::test]
async fn a_provider_that_only_litellm_speaks_to_takes_over_and_hands_on() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-by-litellm", [Reply::answer("so"), Reply::status(500)]);
    server.script("fo-native-500", Reply::status(500));
    for target in PROGRAMS {
        server.script("fo-by-litellm", [Reply::answer("so"), Reply::status(500)]);
        let members = [
            member("openai", "fo-native-500").await,
            member("mistral", "fo-by-litellm").await,
            second("fo-after-litellm").await,
        ];
        let load = host.load(target).lm(Lm::fallback(members));
        let program = load.await.unwrap();
        let first = answer(&program).await;
        assert_eq!(first.get("answer").unwrap(), "so", "{target}");
        assert_eq!(&*first.lm_calls[1].provider, "mistral", "{target}");
        let second = answer(&program).await;
        assert_eq!(second.get("answer").unwrap(), "of the second", "{target}");
        let models = second.lm_calls.iter().map(|call| &*call.model);
        let expected = ["fo-native-500", "fo-by-litellm", "fo-after-litellm"];
        assert!(models.eq(expected), "{target}: {:?}", second.lm_calls);
    }
}

#[tokio::test]
async fn each_failure_of_a_provider_is_one_that_the_next_member_mends() {
    let (host, server) = (host().await, lm_server().await);
    for (name, reply) in [
        ("500", Reply::status(500)),
        ("502", Reply::status(502)),
        ("529", Reply::status(529)),
        ("408", Reply::status(408)),
        ("402", Reply::status(402)),
        ("429", Reply::status(429).retry_after(3600)),
        ("cut", Reply::echo().cut_after(20)),
        ("garbage", Reply::garbage()),
    ] {
        let model = format!("fo-fails-{name}");
        server.script(&model, reply);
        let lm = Lm::fallback([member("openai", &model).await, second("fo-mends").await]);
        let program = host.load("question -> answer").lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{name}");
        assert_eq!(answer.lm_calls.len(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_limit_a_failed_connection_an_open_breaker_and_a_used_up_quota_are_mended_too() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-silent", Reply::hang());
    let (_bound, nowhere) = nowhere();
    let silent = member("openai", "fo-silent").await;
    // Long enough for the request to leave, on a busy machine as well.
    let limit = Duration::from_secs(2);
    let breaker = service_fn(|_: LmRequest| async {
        let down = LmFailure::new(LmFailureKind::Refused, "the provider is down: not asked");
        let down = BoxError::from(down.sorted(ErrorKind::Overloaded));
        Err::<tower_dspy::lm::LmResponse, _>(down)
    });
    let quota = r#"{"error":{"message":"m","code":"insufficient_quota"}}"#;
    for (name, first) in [
        ("nobody listens", silent.clone().base_url(nowhere)),
        ("first byte", {
            let limits = LmLimits::new().with_first_byte(limit);
            silent.clone().limits(limits)
        }),
        ("first content", {
            let limits = LmLimits::new().with_first_content(limit);
            silent.clone().limits(limits)
        }),
        (
            "total",
            silent.clone().limits(LmLimits::new().with_total(limit)),
        ),
        ("breaker", silent.clone().http(breaker)),
        ("quota", lm_that_says(429, quota)),
    ] {
        let lm = Lm::fallback([first, second("fo-mends-too").await]);
        let program = host.load("question -> answer").lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{name}");
    }
    let gone = |all: &[tower_dspy::testing::scripted_lm::RequestRecord]| {
        all.len() == 3 && all.iter().all(|it| it.outcome == Outcome::ClientGone)
    };
    server.wait_for("fo-silent", gone).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_wrong_is_not_sent_to_another_provider() {
    let (host, server) = (host().await, lm_server().await);
    for status in [400, 401, 403, 404] {
        let model = format!("fo-wrong-{status}");
        server.script(&model, Reply::status(status));
        let lm = Lm::fallback([member("openai", &model).await, second("fo-unasked").await]);
        let program = host.load("question -> answer").lm(lm).await.unwrap();
        let error = error(&program).await;
        assert_eq!(error.kind(), ErrorKind::LmRejected, "{error}");
        let Error::Lm(lm) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lm.status(), Some(status));
    }
    // Nor is one that the host refuses.
    let keyless = member("openai", "fo-keyless").await;
    let keyless = keyless.key_with(|_: Option<&Tenant>| None);
    let lm = Lm::fallback([keyless, second("fo-unasked").await]);
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    let error = error(&program).await;
    assert!(error.to_string().contains("no key"), "{error}");
    assert!(server.requests("fo-unasked").is_empty());
}

#[tokio::test]
async fn an_exceeded_budget_is_that_of_all_members() {
    let (host, server) = (host().await, lm_server().await);
    for target in PROGRAMS {
        let members = [
            member("openai", "fo-budget").await,
            second("fo-budget-2").await,
        ];
        let load = host.load(target).lm(Lm::fallback(members));
        let program = load.await.unwrap();
        let budget = Budget::new(BudgetLimits::new().with_tokens(0));
        let error = program.oneshot(ask("?").with_budget(&budget)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BudgetExceeded, "{target}: {error}");
    }
    for model in ["fo-budget", "fo-budget-2"] {
        assert!(server.requests(model).is_empty(), "{model}");
    }
}

#[tokio::test]
async fn where_all_fail_the_last_failure_is_raised_and_names_the_others() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-all-1", Reply::status(503));
    server.script("fo-all-2", Reply::status(500));
    for target in PROGRAMS {
        let members = [
            member("openai", "fo-all-1").await,
            member("gemini", "fo-all-2").await,
        ];
        let load = host.load(target).lm(Lm::fallback(members));
        let program = load.await.unwrap();
        let error = error(&program).await;
        assert_eq!(error.kind(), ErrorKind::LmUnavailable, "{target}: {error}");
        let Error::Lm(lm) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(lm.status(), Some(500), "{target}");
        let message = error.to_string();
        assert!(
            message.contains("before it failed `openai/fo-all-1`"),
            "{target}: {message}"
        );
        let spent = error.spent().expect("the cost of two LM calls");
        let statuses: Vec<_> = spent.lm_calls.iter().map(|call| call.status).collect();
        assert_eq!(statuses, [Some(503), Some(500)], "{target}");
    }
}

#[tokio::test]
async fn a_retry_that_fits_comes_before_the_next_member() {
    let (host, server) = (host().await, lm_server().await);
    let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO));
    server.script("fo-retried", [Reply::status(503), Reply::answer("at last")]);
    let first = member("openai", "fo-retried").await.layer(retry);
    let lm = Lm::fallback([first, second("fo-not-needed").await]);
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    let answer = answer(&program).await;
    assert_eq!(answer.get("answer").unwrap(), "at last");
    assert_eq!(answer.lm_calls.len(), 2);
    // A Retry-After beyond the deadline ends the attempts.
    server.script("fo-retried", Reply::status(429).retry_after(7200));
    let request = ask("?").with_deadline(Deadline::within(HOUR));
    let answer = program.oneshot(request).await.unwrap();
    assert_eq!(answer.get("answer").unwrap(), "of the second");
    assert_eq!(answer.lm_calls.len(), 2);
}

#[tokio::test]
async fn each_member_has_its_own_key_and_a_setting_on_the_result_is_on_all() {
    let (host, server) = (host().await, lm_server().await);
    let layered = tower::util::MapRequestLayer::new(|mut request: LmRequest| {
        let value = http::HeaderValue::from_static("yes");
        request.headers_mut().insert("x-layered", value);
        request
    });
    for model in ["fo-key-1", "fo-key-2"] {
        server.script(model, Reply::status(500));
    }
    let lm = Lm::fallback([
        member("openai", "fo-key-1").await.key("key-of-the-first"),
        member("openai", "fo-key-2").await.key("key-of-the-second"),
    ]);
    let lm = lm.layer(layered).option("seed", 7);
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    let error = error(&program).await.to_string();
    assert!(!error.contains("key-of"), "{error}");
    for (model, key) in [
        ("fo-key-1", "Bearer key-of-the-first"),
        ("fo-key-2", "Bearer key-of-the-second"),
    ] {
        let request = &server.requests(model)[0];
        assert_eq!(request.authorization(), Some(key));
        assert_eq!(request.body["seed"], 7);
    }
}

#[tokio::test]
async fn the_calls_of_a_gather_fail_over_each_by_itself() {
    let (host, server) = (host().await, lm_server().await);
    server.script(
        "fo-gather",
        [Reply::status(503), Reply::answer("of the first")],
    );
    let members = [
        member("openai", "fo-gather").await,
        second("fo-gather-2").await,
    ];
    let load = host.load("failover:gathers").lm(Lm::fallback(members));
    let answer = answer(&load.await.unwrap()).await;
    let mut answers: Vec<String> =
        serde_json::from_value(answer.get("answers").unwrap().clone()).unwrap();
    answers.sort();
    let expected = json!([
        "of the first",
        "of the first",
        "of the first",
        "of the second"
    ]);
    assert_eq!(json!(answers), expected);
    assert_eq!(answer.lm_calls.len(), 5);
}

#[tokio::test]
async fn the_history_and_the_usage_of_dspy_name_the_member_that_answered() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-history", Reply::status(503));
    for target in ["failover:Seen", "failover:SeenSync"] {
        let members = [
            member("openai", "fo-history").await,
            second("fo-history-2").await,
        ];
        let load = host.load(target).lm(Lm::fallback(members));
        let seen = answer(&load.await.unwrap()).await;
        let model = "anthropic/fo-history-2";
        assert_eq!(seen.get("history").unwrap(), &json!([model]), "{target}");
        assert_eq!(seen.get("usage").unwrap(), &json!([model]), "{target}");
        // The option of the program's copy goes along.
        let request = server.requests("fo-history-2").pop().unwrap();
        assert_eq!(request.body["temperature"], 0.25, "{target}");
    }
}

#[tokio::test]
async fn members_may_be_made_of_several_themselves() {
    let (host, server) = (host().await, lm_server().await);
    for model in ["fo-nested-1", "fo-nested-2", "fo-nested-3"] {
        server.script(model, Reply::status(503));
    }
    let pair = Lm::fallback([
        member("openai", "fo-nested-1").await,
        member("gemini", "fo-nested-2").await,
    ]);
    let other = Lm::hedge(
        [
            member("openai", "fo-nested-3").await,
            second("fo-nested-4").await,
        ],
        HOUR,
    );
    for target in PROGRAMS {
        let lm = Lm::fallback([pair.clone(), other.clone()]);
        let program = host.load(target).lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{target}");
        let mut models: Vec<_> = answer.lm_calls.iter().map(|call| &*call.model).collect();
        models.sort_unstable();
        let expected = ["fo-nested-1", "fo-nested-2", "fo-nested-3", "fo-nested-4"];
        assert_eq!(models, expected, "{target}");
        assert_eq!(
            answer.usage.total_tokens,
            answer.lm_calls[3].total_tokens.unwrap()
        );
    }
}

#[tokio::test]
async fn a_group_without_members_or_with_no_share_is_refused_when_a_program_is_loaded() {
    let host = host().await;
    for (lm, said) in [
        (Lm::fallback([]), "at least one"),
        (
            Lm::fallback([Lm::new("openai/x").key("k")]).failover_share(1.5),
            "1.5",
        ),
    ] {
        let error = host.load("question -> answer").lm(lm).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
