//! The ends of streams before their answer, of programs that wait in a task and on threads.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use tower_dspy::{
    CancelLayer, Cause, Classify, Deadline, DspyService, Error, ErrorKind, Host, PredictRequest,
    Scope, StreamTimeoutLayer, TimeoutLayer,
    testing::scripted_lm::{Gate, Reply},
};

use super::reading::{Reading, is_well_after, lm_ended, read};
use crate::{
    captured_log::Captured,
    support::{
        LIMIT, ask, eventually, host, host_alone, lm_server, load, open, own_process, start,
    },
};

/// The tokens of an echo by which its text has begun.
const BEGUN: usize = 8;

/// In a task, on a thread of the host, and on threads of DSPy; with their LM calls.
const PROGRAMS: [(&str, usize); 3] = [
    ("question -> answer", 1),
    ("streams:Sync", 1),
    ("streams:Parallel", 3),
];

#[derive(Clone, Copy, Debug)]
enum Way {
    DroppedBeforeItsFirstEvent,
    DroppedInMidStream,
    DroppedUnread,
    CancelledBeforeItsFirstEvent,
    CancelledInMidStream,
    CancelledUnread,
    CancelledByItsLayer,
    Deadline,
    Idle,
    Total,
    FirstContent,
    LimitOfAnAttempt,
}

impl Way {
    const ALL: [Self; 12] = [
        Self::DroppedBeforeItsFirstEvent,
        Self::DroppedInMidStream,
        Self::DroppedUnread,
        Self::CancelledBeforeItsFirstEvent,
        Self::CancelledInMidStream,
        Self::CancelledUnread,
        Self::CancelledByItsLayer,
        Self::Deadline,
        Self::Idle,
        Self::Total,
        Self::FirstContent,
        Self::LimitOfAnAttempt,
    ];

    /// Whether the LM is to write before the end.
    const fn has_text(self) -> bool {
        !matches!(
            self,
            Self::DroppedBeforeItsFirstEvent
                | Self::CancelledBeforeItsFirstEvent
                | Self::FirstContent
                | Self::LimitOfAnAttempt
        )
    }
}

/// A stream of `program` until some text has come.
async fn begun(program: &DspyService, request: PredictRequest) -> Begun {
    let mut stream = program.streaming().oneshot(request).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    Begun { stream, reading }
}

struct Begun {
    stream: tower_dspy::PredictionStream,
    reading: Reading,
}

impl Begun {
    async fn rest(self) -> Reading {
        self.reading.rest(self.stream).await
    }
}

/// That the partial answer of a stream has what its reader had.
fn assert_partial(read: &Reading) {
    let partial = read.partial();
    for ((_, field), text) in &read.texts {
        let kept = partial[field].as_str().unwrap_or_default();
        // Of several LM calls it is the text of the last.
        assert!(!kept.is_empty() && !text.is_empty(), "{partial}, {read:?}");
        if read.texts.len() == 1 {
            assert!(kept.starts_with(text), "{partial}, {read:?}");
        }
    }
}

fn assert_cancelled(error: &Error, cause: Cause) {
    match error {
        Error::Cancelled(cancelled) => assert_eq!(cancelled.cause(), cause),
        other => panic!("{other:?}"),
    }
}

fn assert_elapsed(error: &Error, scope: Scope) {
    match error {
        Error::Elapsed(elapsed) => assert_eq!(elapsed.scope(), scope),
        other => panic!("{other:?}"),
    }
}

/// Ends one stream of a program, and asks it once more.
async fn end(host: &Host, way: Way, (target, lm_calls): (&str, usize)) {
    let server = lm_server().await;
    let (name, gate) = (target.replace([' ', ':', '>'], "-"), Gate::new());
    let model = format!("ends-{way:?}-{name}");
    server.script(
        &model,
        match way.has_text() {
            true => Reply::echo().pause_after(BEGUN, &gate),
            false => Reply::hang(),
        },
    );
    let program = load(host, target, &model).await;
    let asked = || async {
        let asked = server.wait_for(&model, |all| all.len() == lm_calls).await;
        asked.unwrap();
    };
    let token = CancellationToken::new();
    let request = ask("?").with_cancel(token.clone());
    // Those of the limits that end a stream after its begin leave time for it on a busy machine.
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(5));
    let limited = |limits: StreamTimeoutLayer| limits.layer(program.streaming());
    match way {
        Way::DroppedBeforeItsFirstEvent => {
            // The status of a sync program is an event.
            let call = tokio::spawn(program.streaming().oneshot(request));
            asked().await;
            call.abort();
            let _ = call.await;
        }
        Way::DroppedInMidStream => {
            let stream = begun(&program, request).await;
            asked().await;
            drop(stream);
        }
        Way::DroppedUnread => {
            let stream = program.streaming().oneshot(request).await.unwrap();
            asked().await;
            drop(stream);
        }
        Way::CancelledBeforeItsFirstEvent => {
            let call = tokio::spawn(program.streaming().oneshot(request));
            asked().await;
            token.cancel();
            let error = match call.await.unwrap() {
                Err(error) => error,
                Ok(stream) => stream.prediction().await.unwrap_err(),
            };
            assert_cancelled(&error, Cause::Caller);
        }
        Way::CancelledInMidStream => {
            let stream = begun(&program, request).await;
            asked().await;
            token.cancel();
            let read = stream.rest().await;
            assert_cancelled(read.error(), Cause::Caller);
            assert_partial(&read);
        }
        Way::CancelledUnread => {
            let stream = program.streaming().oneshot(request).await.unwrap();
            asked().await;
            token.cancel();
            lm_ended(&model, lm_calls).await;
            eventually("its permit", || program.in_flight() == 0).await;
            let read = read(stream).await;
            assert_cancelled(read.error(), Cause::Caller);
            assert_partial(&read);
        }
        Way::CancelledByItsLayer => {
            let layer = CancelLayer::new().with_token(token.clone());
            let layer = layer.with_grace(LIMIT).layer(program.streaming());
            let stream = layer.oneshot(ask("?")).await.unwrap();
            asked().await;
            token.cancel();
            assert_cancelled(read(stream).await.error(), Cause::Caller);
        }
        Way::Deadline => {
            let request = request.with_deadline(Deadline::within(long));
            let read = begun(&program, request).await.rest().await;
            assert_elapsed(read.error(), Scope::Deadline);
            assert_partial(&read);
        }
        Way::Idle | Way::Total => {
            let (limits, scope) = match way {
                Way::Idle => (StreamTimeoutLayer::new().with_idle(short), Scope::Idle),
                _ => (StreamTimeoutLayer::new().with_total(long), Scope::Total),
            };
            let stream = limited(limits).oneshot(request).await.unwrap();
            asked().await;
            let read = read(stream).await;
            assert_elapsed(read.error(), scope);
            assert_partial(&read);
        }
        Way::FirstContent => {
            let limits = StreamTimeoutLayer::new().with_first_content(long);
            match limited(limits).oneshot(request).await {
                Err(error) => assert_elapsed(&error, Scope::FirstContent),
                // A status came.
                Ok(_) => asked().await,
            }
        }
        Way::LimitOfAnAttempt => {
            let limited = TimeoutLayer::new(long).layer(program.streaming());
            match limited.oneshot(request).await {
                Err(error) => assert_elapsed(&error, Scope::Attempt),
                Ok(_) => asked().await,
            }
        }
    }
    is_well_after(&program, &model, lm_calls, ask("again?")).await;
}

async fn end_in_all_ways(host: &Host) {
    let all = Way::ALL
        .into_iter()
        .flat_map(|way| PROGRAMS.map(|program| (way, program)));
    join_all(all.map(|(way, program)| end(host, way, program))).await;
}

#[tokio::test]
async fn however_streams_end_their_lm_is_left_and_nothing_of_them_stays() {
    let host = host_alone().await;
    let before = host.stats();
    end_in_all_ways(&host).await;
    let at_rest = || {
        let stats = host.stats();
        stats.running + stats.queued + stats.orphans + stats.streams == 0
    };
    eventually("the end of all streams", at_rest).await;
    let stats = host.stats();
    assert_eq!(
        stats.settled - before.settled,
        stats.submitted - before.submitted
    );
    assert_eq!(
        (stats.abandoned, stats.replaced),
        (before.abandoned, before.replaced)
    );
}

#[tokio::test]
async fn however_streams_end_no_task_of_python_complains() {
    const NAME: &str = "both_hosts::streams::ends::however_streams_end_no_task_of_python_complains";
    let complaints = [
        "never retrieved",
        "Task exception",
        "never awaited",
        "Traceback",
        "GeneratorExit",
    ];
    if let Some(said) = own_process(NAME).await {
        for complaint in complaints {
            assert!(!said.contains(complaint), "{said}");
        }
        return;
    }
    let captured = Captured::from("warn");
    let host = start().await;
    end_in_all_ways(&host).await;
    eventually("the end of all streams", || host.stats().running == 0).await;
    let log = captured.text();
    for complaint in complaints {
        assert!(!log.contains(complaint), "{log}");
    }
}

#[tokio::test]
async fn a_program_that_fails_in_mid_stream_has_the_text_as_its_partial_answer() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script("ends-raises", Reply::echo().pause_after(BEGUN, &gate));
    let program = load(&host, "streams:Raises", "ends-raises").await;
    let request = || PredictRequest::new(json!({"key": "ends-raises", "question": "?"}));
    let mut stream = program.streaming().oneshot(request()).await.unwrap();
    let mut reading = Reading::default();
    reading.until_text(&mut stream).await;
    let text = reading.text(1, "answer").to_owned();
    open(&host, "ends-raises").await;
    let read = reading.rest(stream).await;
    assert_eq!(read.error().kind(), ErrorKind::Program, "{read:?}");
    let partial = read.partial()["answer"].as_str().map(str::to_owned);
    assert!(
        partial.is_some_and(|partial| partial.starts_with(&text)),
        "{read:?}"
    );
    lm_ended("ends-raises", 1).await;
    eventually("its permit", || program.in_flight() == 0).await;
}

#[tokio::test]
async fn a_program_that_swallows_its_end_asks_no_more_and_streams_no_more() {
    let (host, lm) = (host().await, lm_server().await);
    for (n, target) in ["streams:Swallows", "streams:SwallowsOnThread"]
        .into_iter()
        .enumerate()
    {
        let (model, gate) = (format!("ends-swallows-{n}"), Gate::new());
        lm.script(&model, Reply::echo().pause_after(BEGUN, &gate));
        let program = load(&host, target, &model).await;
        let token = CancellationToken::new();
        let begun = begun(&program, ask("?").with_cancel(token.clone())).await;
        token.cancel();
        let read = begun.rest().await;
        assert_cancelled(read.error(), Cause::Caller);
        assert_eq!(read.statuses, [""; 0]);
        assert_partial(&read);
        assert_eq!(lm_ended(&model, 1).await.len(), 1);
        is_well_after(&program, &model, 1, ask("?")).await;
    }
}

#[tokio::test]
async fn a_dropped_stream_ends_its_lm_call_within_a_generous_limit() {
    let (host, lm) = (host().await, lm_server().await);
    let gate = Gate::new();
    lm.script("ends-in-time", Reply::echo().pause_after(BEGUN, &gate));
    let program = load(&host, "question -> answer", "ends-in-time").await;
    for _ in 0..10 {
        let begun = begun(&program, ask("?")).await;
        let since = tokio::time::Instant::now();
        drop(begun);
        eventually("its permit", || program.in_flight() == 0).await;
        assert!(since.elapsed() < LIMIT / 10);
    }
    lm_ended("ends-in-time", 10).await;
}
