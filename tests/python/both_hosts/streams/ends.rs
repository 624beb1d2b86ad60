//! The ends of streams before their answer, of programs that wait in a task and on threads.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use tower_dspy::{
    CancelLayer, Cause, Deadline, Host, Scope, StreamTimeoutLayer, TimeoutLayer,
    testing::scripted_lm::{Gate, Reply},
};

use super::reading::{
    assert_cancelled, assert_elapsed, assert_partial, begun, is_well_after, lm_ended, read,
};
use crate::{
    captured_log::Captured,
    support::{LIMIT, ask, eventually, host_alone, lm_server, load, own_process, start},
};

/// The tokens of an echo by which its text has begun.
pub(super) const BEGUN: usize = 8;

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
    // The long limits run from the call: they leave time for all LM calls on a busy machine.
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(12));
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
        let left = stats.running + stats.queued + stats.orphans + stats.streams;
        left == 0 && stats.settled - before.settled == stats.submitted - before.submitted
    };
    eventually("the end of all streams", at_rest).await;
    let stats = host.stats();
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
