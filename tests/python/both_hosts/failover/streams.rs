//! Streamed LM calls that go on to another member, and those that must not.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_dspy::{
    Classify, Deadline, DspyService, Error, ErrorKind, Lm, PredictRequest, Prediction, StreamEvent,
    testing::scripted_lm::{Gate, Outcome, Reply},
};

use super::member;
use crate::support::{HOUR, LIMIT, ask, host, lm_server};

/// A program that awaits its LM, and a sync one.
const PROGRAMS: [&str; 2] = ["question -> answer", "shapes:SyncOnly"];

/// The text of a streamed answer as its reader had it, and its end.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) text: String,
    pub(super) deltas: usize,
    pub(super) restarts: usize,
    pub(super) end: Result<Prediction, Error>,
}

/// Reads a stream to its end, and calls `on_text` at each delta.
pub(super) async fn read(
    program: &DspyService,
    request: PredictRequest,
    on_text: impl Fn(),
) -> Read {
    let stream = program.clone().streaming().oneshot(request).await;
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            let (text, deltas, restarts) = (String::new(), 0, 0);
            let end = Err(error);
            return Read {
                text,
                deltas,
                restarts,
                end,
            };
        }
    };
    let (mut text, mut deltas, mut restarts) = (String::new(), 0, 0);
    let end = loop {
        match stream.next().await.expect("an end") {
            Ok(StreamEvent::Text { delta, .. }) => {
                text += &delta;
                deltas += 1;
                on_text();
            }
            Ok(StreamEvent::Replace { text: all, .. }) => text = all,
            Ok(StreamEvent::Restart { .. }) => restarts += 1,
            Ok(StreamEvent::Done(prediction)) => break Ok(*prediction),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    Read {
        text,
        deltas,
        restarts,
        end,
    }
}

/// Reads the stream of an LM that writes `text` in two parts, the second once the first is read:
/// deltas that wait for their reader are joined.
pub(super) async fn read_in_parts(program: &DspyService, model: &str, text: &str) -> Read {
    let gate = Gate::new();
    let in_parts = Reply::answer(text).pause_after(9, &gate);
    lm_server().await.script(model, in_parts);
    let reading = timeout(LIMIT, read(program, ask("?"), || gate.open())).await;
    reading.expect("the first part before the second is written")
}

#[tokio::test]
async fn a_stream_goes_on_to_another_member_before_its_first_content() {
    let (host, server) = (host().await, lm_server().await);
    server.script("fo-stream-503", Reply::status(503));
    let text = "an answer of some words from the second";
    for provider in ["openai", "mistral"] {
        for target in PROGRAMS {
            let lm = Lm::fallback([
                member(provider, "fo-stream-503").await,
                member("anthropic", "fo-stream-claude").await,
            ]);
            let program = host.load(target).lm(lm).await.unwrap();
            let reading = read_in_parts(&program, "fo-stream-claude", text).await;
            assert_eq!(reading.text, text, "{target}");
            assert_eq!(reading.restarts, 0, "{target}");
            assert!(reading.deltas >= 2, "{target}: {reading:?}");
            assert_eq!(reading.end.unwrap().get("answer").unwrap(), text);
        }
    }
    for request in server.requests("fo-stream-claude") {
        assert_eq!(request.body["stream"], true);
    }
}

#[tokio::test]
async fn a_stream_of_pings_alone_is_replaced_when_its_share_has_passed() {
    let (host, server) = (host().await, lm_server().await);
    let pings = Reply::answer("late").pings_after(0, 1_000_000, Duration::from_millis(5));
    server.script("fo-stream-pings", pings);
    server.script("fo-stream-quick", Reply::answer("in time"));
    for target in PROGRAMS {
        let lm = Lm::fallback([
            member("openai", "fo-stream-pings").await,
            member("anthropic", "fo-stream-quick").await,
        ]);
        let lm = lm.failover_share(0.3);
        let program = host.load(target).lm(lm).await.unwrap();
        let request = ask("?").with_deadline(Deadline::within(Duration::from_secs(10)));
        let reading = read(&program, request, || ()).await;
        assert_eq!(reading.text, "in time", "{target}");
        assert_eq!(reading.end.unwrap().lm_calls.len(), 2, "{target}");
    }
    let gone = server.wait_for("fo-stream-pings", |all| {
        all.len() == 2 && all.iter().all(|one| one.outcome == Outcome::ClientGone)
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn no_other_member_is_asked_once_content_has_gone_out() {
    let (host, server) = (host().await, lm_server().await);
    server.script(
        "fo-stream-cut",
        Reply::answer("some words of an answer that breaks off before its end")
            .error_after(14, 529),
    );
    for target in PROGRAMS {
        let lm = Lm::fallback([
            member("openai", "fo-stream-cut").await,
            member("anthropic", "fo-stream-unasked").await,
        ]);
        let program = host.load(target).lm(lm).await.unwrap();
        let request = ask("?").with_deadline(Deadline::within(HOUR));
        let reading = read(&program, request, || ()).await;
        let error = reading.end.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LmUnavailable, "{target}: {error}");
        assert!(reading.deltas > 0, "{target}: it broke off too early");
        assert_eq!(reading.restarts, 1, "{target}");
    }
    assert!(server.requests("fo-stream-unasked").is_empty());
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_cut_by_its_share() {
    let (host, server) = (host().await, lm_server().await);
    let text = "an answer of rather many words that takes a good deal longer than the share";
    let slow = Reply::answer(text).drip(Duration::from_millis(250));
    server.script("fo-stream-long", slow);
    for target in PROGRAMS {
        let lm = Lm::fallback([
            member("openai", "fo-stream-long").await,
            member("anthropic", "fo-stream-needless").await,
        ]);
        let lm = lm.failover_share(0.05);
        let program = host.load(target).lm(lm).await.unwrap();
        let request = ask("?").with_deadline(Deadline::within(Duration::from_secs(60)));
        let reading = read(&program, request, || ()).await;
        assert_eq!(reading.text, text, "{target}");
        assert!(reading.end.is_ok(), "{target}");
    }
    assert!(server.requests("fo-stream-needless").is_empty());
}
