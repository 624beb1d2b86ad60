//! The time of an LM call that goes on to another member: shares, deadlines, cancellations.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Backoff, Classify, Deadline, ErrorKind, Lm, LmOutcome, RetryLayer,
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use super::{PROGRAMS, call, calls, member};
use crate::support::{HOUR, ask, eventually, host, lm_server};

/// Whether there are so many requests, and the client of each is gone.
fn gone(requests: &[RequestRecord], count: usize) -> bool {
    let is_gone = |request: &RequestRecord| request.outcome == Outcome::ClientGone;
    requests.len() == count && requests.iter().all(is_gone)
}

#[tokio::test]
async fn a_member_that_hangs_has_its_share_of_the_time_and_the_next_answers() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-share-hangs", Reply::hang());
    server.script("fo-share", Reply::answer("in time"));
    let limit = Duration::from_secs(8);
    for (share, part) in [(None, 0.5), (Some(0.25), 0.25)] {
        let runs = PROGRAMS.map(async |target| {
            let mut lm = Lm::fallback([
                member("openai", "fo-share-hangs").await,
                member("anthropic", "fo-share").await,
            ]);
            if let Some(share) = share {
                lm = lm.failover_share(share);
            }
            let program = host.load(target).lm(lm).await.unwrap();
            let began = Instant::now();
            let request = ask("?").with_deadline(Deadline::within(limit));
            let answer = program.oneshot(request).await.unwrap();
            // Python's clock begins with the call in Python.
            let least = limit.mul_f64(part) - Duration::from_millis(20);
            assert!(began.elapsed() >= least, "{target}: {:?}", began.elapsed());
            assert_eq!(answer.get("answer").unwrap(), "in time", "{target}");
            let expected = [
                call("openai", "fo-share-hangs", LmOutcome::Elapsed),
                call("anthropic", "fo-share", LmOutcome::Answered),
            ];
            assert_eq!(calls(&answer.lm_calls), expected, "{target}");
        });
        join_all(runs).await;
    }
    let all_gone = server.wait_for("fo-share-hangs", |all| gone(all, 6));
    all_gone.await.unwrap();
}

#[tokio::test]
async fn the_retries_of_a_member_are_within_its_share() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-share-retries", [Reply::status(503), Reply::hang()]);
    server.script("fo-share-next", Reply::answer("in time"));
    let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO));
    let lm = Lm::fallback([
        member("openai", "fo-share-retries").await.layer(retry),
        member("openai", "fo-share-next").await,
    ]);
    let lm = lm.failover_share(0.3);
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    let request = ask("?").with_deadline(Deadline::within(Duration::from_secs(10)));
    let answer = program.oneshot(request).await.unwrap();
    assert_eq!(answer.get("answer").unwrap(), "in time");
    let expected = [
        call("openai", "fo-share-retries", LmOutcome::Answered),
        call("openai", "fo-share-retries", LmOutcome::Elapsed),
        call("openai", "fo-share-next", LmOutcome::Answered),
    ];
    assert_eq!(calls(&answer.lm_calls), expected);
}

#[tokio::test]
async fn the_deadline_passes_in_the_second_and_closes_its_connection() {
    let (host, server) = (host().await, lm_server().await);
    for model in ["fo-late-1", "fo-late-2"] {
        server.script(model, Reply::hang());
    }
    let runs = PROGRAMS.map(async |target| {
        let lm = Lm::fallback([
            member("openai", "fo-late-1").await,
            member("gemini", "fo-late-2").await,
        ]);
        let program = host.load(target).lm(lm).await.unwrap();
        let request = ask("?").with_deadline(Deadline::within(Duration::from_secs(8)));
        let error = program.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{target}: {error}");
        let spent = error.spent().expect("the cost of two LM calls");
        let expected = [
            call("openai", "fo-late-1", LmOutcome::Elapsed),
            call("gemini", "fo-late-2", LmOutcome::Elapsed),
        ];
        assert_eq!(calls(&spent.lm_calls), expected, "{target}");
        eventually("its permit", || program.in_flight() == 0).await;
    });
    join_all(runs).await;
    for model in ["fo-late-1", "fo-late-2"] {
        let all_gone = server.wait_for(model, |all| gone(all, 3));
        all_gone.await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_asks_no_other_member() {
    let (host, server) = (host().await, lm_server().await);
    for (n, target) in PROGRAMS.into_iter().enumerate() {
        let models = [1, 2, 3].map(|member| format!("fo-cancel-{n}-{member}"));
        server.script(&models[0], Reply::status(503));
        server.script(&models[1], Reply::hang());
        let mut members = Vec::new();
        for model in &models {
            members.push(member("openai", model).await);
        }
        let program = host.load(target).lm(Lm::fallback(members)).await.unwrap();
        let token = CancellationToken::new();
        let request = ask("?").with_deadline(Deadline::within(HOUR));
        let run = program.clone().oneshot(request.with_cancel(token.clone()));
        let cancel = async {
            let asked = server.wait_for(&models[1], |all| all.len() == 1);
            asked.await.unwrap();
            token.cancel();
        };
        let (end, ()) = tokio::join!(run, cancel);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Cancelled, "{target}");
        let closed = server.wait_for(&models[1], |all| gone(all, 1));
        closed.await.unwrap();
        eventually("its permit", || program.in_flight() == 0).await;
        assert!(server.requests(&models[2]).is_empty(), "{target}");
    }
}
