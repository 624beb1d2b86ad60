//! LM calls of which a second one runs beside a slow first.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Budget, BudgetLimits, Classify, ErrorKind, Lm, LmOutcome,
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use super::{
    PROGRAMS, answer, call, calls, error, member,
    streams::{read, read_in_parts},
};
use crate::support::{HOUR, ask, eventually, host, lm_server};

/// Soon, and long enough for a request to leave before, on a busy machine as well.
const SOON: Duration = Duration::from_secs(3);

/// A hedge of two models, the second of another dialect.
async fn hedge(first: &str, second: &str, after: Duration) -> Lm {
    let members = [
        member("openai", first).await,
        member("anthropic", second).await,
    ];
    Lm::hedge(members, after)
}

fn is_gone(request: Option<&RequestRecord>) -> bool {
    request.is_some_and(|request| request.outcome == Outcome::ClientGone)
}

#[tokio::test]
async fn the_second_answers_for_a_slow_first_whose_connection_is_closed() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-slow", Reply::hang());
    server.script("hedge-quick", Reply::answer("of the second"));
    for (n, target) in PROGRAMS.into_iter().enumerate() {
        let lm = hedge("hedge-slow", "hedge-quick", SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{target}");
        let expected = [
            call("openai", "hedge-slow", LmOutcome::Cancelled),
            call("anthropic", "hedge-quick", LmOutcome::Answered),
        ];
        assert_eq!(calls(&answer.lm_calls), expected, "{target}");
        // It was sent, so it may be billed.
        let sent = answer.lm_calls.iter().all(|call| call.sent.is_some());
        assert!(sent && answer.usage.total_tokens > 0, "{target}");
        let closed = server.wait_for("hedge-slow", |all| {
            all.len() == n + 1 && all[n].outcome == Outcome::ClientGone
        });
        closed.await.unwrap();
        eventually("its permit", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn the_loser_is_charged_to_a_budget_by_its_estimate() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-charged", Reply::hang());
    server.script("hedge-told", Reply::answer("of the second"));
    for target in PROGRAMS {
        let lm = hedge("hedge-charged", "hedge-told", SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let budget = Budget::new(BudgetLimits::new().with_tokens(1_000_000));
        let answer = program.oneshot(ask("?").with_budget(&budget)).await;
        let told = answer.unwrap().usage.total_tokens;
        // It is charged as its exchange is dropped, on the thread of LM calls.
        eventually(target, || budget.spent().reserved_tokens == 0).await;
        let spent = budget.spent();
        assert!(spent.estimated_tokens > 0, "{target}: {spent:?}");
        assert_eq!(spent.tokens, told + spent.estimated_tokens, "{target}");
    }
}

#[tokio::test]
async fn a_first_that_is_quick_enough_is_the_only_one_asked() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-first", Reply::answer("of the first"));
    for target in PROGRAMS {
        let lm = hedge("hedge-first", "hedge-unasked", HOUR).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the first", "{target}");
        assert_eq!(answer.lm_calls.len(), 1, "{target}");
        eventually("its permit", || program.in_flight() == 0).await;
    }
    assert!(server.requests("hedge-unasked").is_empty());
}

#[tokio::test]
async fn a_first_that_answers_after_all_wins_against_the_second() {
    let (host, server) = (host().await, lm_server().await);
    for (n, target) in PROGRAMS.into_iter().enumerate() {
        let (first, second) = (format!("hedge-wins-{n}"), format!("hedge-loses-{n}"));
        let gate = Gate::new();
        server.script(&first, Reply::answer("of the first").held_by(&gate));
        server.script(&second, Reply::hang());
        let lm = hedge(&first, &second, SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let open = async {
            let asked = server.wait_for(&second, |all| all.len() == 1);
            asked.await.unwrap();
            gate.open();
        };
        let (answer, ()) = tokio::join!(answer(&program), open);
        assert_eq!(answer.get("answer").unwrap(), "of the first", "{target}");
        let expected = [
            call("openai", &first, LmOutcome::Answered),
            call("anthropic", &second, LmOutcome::Cancelled),
        ];
        assert_eq!(calls(&answer.lm_calls), expected, "{target}");
        let closed = server.wait_for(&second, |all| is_gone(all.first()));
        closed.await.unwrap();
        eventually("its permit", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn the_second_begins_at_once_where_the_first_fails_and_is_not_asked_for_a_wrong_request() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-503", Reply::status(503));
    server.script("hedge-401", Reply::status(401));
    server.script("hedge-at-once", Reply::answer("of the second"));
    for target in PROGRAMS {
        let lm = hedge("hedge-503", "hedge-at-once", HOUR).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let answer = answer(&program).await;
        assert_eq!(answer.get("answer").unwrap(), "of the second", "{target}");

        let lm = hedge("hedge-401", "hedge-not-for-401", HOUR).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let error = error(&program).await;
        assert_eq!(error.kind(), ErrorKind::LmRejected, "{target}: {error}");
    }
    assert!(server.requests("hedge-not-for-401").is_empty());
}

#[tokio::test]
async fn where_both_fail_the_error_is_the_seconds_and_names_the_first() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-both-1", Reply::status(503));
    server.script("hedge-both-2", Reply::status(500));
    for target in PROGRAMS {
        let lm = hedge("hedge-both-1", "hedge-both-2", HOUR).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let error = error(&program).await;
        let message = error.to_string();
        assert!(
            message.contains("before it failed `openai/hedge-both-1`"),
            "{target}: {message}"
        );
        let spent = error.spent().expect("the cost of two LM calls");
        let statuses: Vec<_> = spent.lm_calls.iter().map(|call| call.status).collect();
        assert_eq!(statuses, [Some(503), Some(500)], "{target}");
    }
}

#[tokio::test]
async fn of_two_streams_the_first_with_content_goes_on_and_the_other_is_closed() {
    let (host, server) = (host().await, lm_server().await);
    let text = "an answer of some words from the second";
    let pings = Reply::answer("late").pings_after(0, 1_000_000, Duration::from_millis(5));
    server.script("hedge-pings", pings);
    for target in ["question -> answer", "shapes:SyncOnly"] {
        let lm = hedge("hedge-pings", "hedge-stream", SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let reading = read_in_parts(&program, "hedge-stream", text).await;
        assert_eq!(reading.text, text, "{target}");
        assert_eq!(reading.restarts, 0, "{target}");
        assert!(reading.deltas >= 2, "{target}: {reading:?}");
        let answer = reading.end.unwrap();
        let expected = [
            call("openai", "hedge-pings", LmOutcome::Cancelled),
            call("anthropic", "hedge-stream", LmOutcome::Answered),
        ];
        assert_eq!(calls(&answer.lm_calls), expected, "{target}");
    }
    let gone = server.wait_for("hedge-pings", |all| {
        all.len() == 2 && all.iter().all(|one| one.outcome == Outcome::ClientGone)
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_has_begun_wins_however_long_it_takes() {
    let (host, server) = (host().await, lm_server().await);
    let text = "an answer of some words from the first";
    for (n, target) in ["question -> answer", "shapes:SyncOnly"]
        .into_iter()
        .enumerate()
    {
        let (first, second) = (format!("hedge-begins-{n}"), format!("hedge-late-{n}"));
        let (begin, go_on) = (Gate::new(), Gate::new());
        let paused = Reply::answer(text).held_by(&begin).pause_after(1, &go_on);
        server.script(&first, paused);
        server.script(&second, Reply::hang());
        let lm = hedge(&first, &second, SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let open = async {
            let asked = server.wait_for(&second, |all| all.len() == 1);
            asked.await.unwrap();
            begin.open();
            let closed = server.wait_for(&second, |all| is_gone(all.first()));
            closed.await.unwrap();
            go_on.open();
        };
        let (reading, ()) = tokio::join!(read(&program, ask("?"), || ()), open);
        assert_eq!(reading.text, text, "{target}");
        let answer = reading.end.unwrap();
        let expected = [
            call("openai", &first, LmOutcome::Answered),
            call("anthropic", &second, LmOutcome::Cancelled),
        ];
        assert_eq!(calls(&answer.lm_calls), expected, "{target}");
    }
}

#[tokio::test]
async fn a_cancel_closes_both_connections() {
    let (host, server) = (host().await, lm_server().await);
    for (n, target) in PROGRAMS.into_iter().enumerate() {
        let models = [format!("hedge-cancel-{n}-1"), format!("hedge-cancel-{n}-2")];
        for model in &models {
            server.script(model, Reply::hang());
        }
        let lm = hedge(&models[0], &models[1], SOON).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let token = CancellationToken::new();
        let run = program.clone().oneshot(ask("?").with_cancel(token.clone()));
        let cancel = async {
            let asked = server.wait_for(&models[1], |all| all.len() == 1);
            asked.await.unwrap();
            token.cancel();
        };
        let (end, ()) = tokio::join!(run, cancel);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Cancelled, "{target}");
        for model in &models {
            let closed = server.wait_for(model, |all| is_gone(all.first()));
            closed.await.unwrap();
        }
        eventually("its permit", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_second_that_waits_does_not_hold_up_a_cancelled_call() {
    let (host, server) = (host().await, lm_server().await);
    server.script("hedge-waits", Reply::hang());
    for (n, target) in PROGRAMS.into_iter().enumerate() {
        let lm = hedge("hedge-waits", "hedge-never", HOUR).await;
        let program = host.load(target).lm(lm).await.unwrap();
        let token = CancellationToken::new();
        let run = program.clone().oneshot(ask("?").with_cancel(token.clone()));
        let cancel = async {
            let asked = server.wait_for("hedge-waits", |all| all.len() == n + 1);
            asked.await.unwrap();
            token.cancel();
        };
        let (end, ()) = tokio::join!(run, cancel);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Cancelled, "{target}");
        eventually("its permit", || program.in_flight() == 0).await;
    }
    assert!(server.requests("hedge-never").is_empty());
}
