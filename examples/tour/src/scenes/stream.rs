//! A stream whose reader leaves: the usual way, and ours.

use std::process::Stdio;

use futures_util::{StreamExt, TryFutureExt};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::Instant,
};
use tower::{ServiceExt, service_fn};
use tower_dspy::{
    PredictionStream, StreamEvent,
    testing::scripted_lm::{Outcome, Reply, ScriptedLm},
};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    progress::Step,
    stage::{LONG, PROGRAMS, SETTLE, Trouble, count, left_after, question, time, venv_path},
};

/// The reader leaves after so many pieces of the answer.
const PIECES: usize = 10;
const WORDS: usize = 60;
/// Of an answer that would go on for longer than [`SETTLE`] when its reader has left.
const MANY_WORDS: usize = 300;

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let answer = |words| Reply::answer(vec!["word"; words].join(" ")).drip(stage.short() / 12);
    let slow = answer(WORDS);

    if let Some(lm) = stage.scripted() {
        lm.script("stream-naive", slow.clone());
        let step = Step::begin("a plain DSPy in a process of its own");
        let plain = PlainDspy::leave(lm, "stream-naive").await?;
        step.done();
        let records = lm
            .wait_for("stream-naive", |records| {
                records.iter().all(|record| record.ended().is_some())
            })
            .await?;
        let [record] = &records[..] else {
            return Err(format!("the naive way asked {} times", records.len()).into());
        };
        let for_nobody = record.tokens_after(plain.left);
        act.say(format_args!(
            "The sync stream of dspy.streamify: its reader leaves after {PIECES} pieces, and the LM \
             writes {} more.",
            count(for_nobody, "token")
        ));
        act.check(
            record.outcome == Outcome::Answered && for_nobody > 0,
            "the naive stream goes on to its end when its reader has left",
        );
    }

    // The same in this process: a detached task reads the stream to its end.
    let program = stage.answerer("stream-detached", slow).await?;
    let program = program.streaming();
    let reads = service_fn(move |request| {
        let stream = program.clone().oneshot(request);
        stream.and_then(PredictionStream::prediction)
    });
    let at_work = async { drop(stage.at_work("stream-detached").await) };
    let naive = act
        .calls
        .ask_naively(NAIVE, reads, question(LONG), at_work)
        .await;
    act.check(naive.given_up, "the naive reader is gone");
    act.calls.leave(naive);
    // What follows looks at all that runs in Python.
    act.end_naive().await;

    let program = stage.answerer("stream", answer(MANY_WORDS)).await?;
    let program = act.calls.tracked(OURS, program.streaming());
    let mut answer = program.oneshot(question(LONG)).await?;
    let mut pieces = 0;
    while pieces < PIECES {
        match answer.next().await.transpose()? {
            Some(StreamEvent::Text { .. }) => pieces += 1,
            Some(StreamEvent::Done(_)) | None => return Err("the answer was too short".into()),
            Some(_) => {}
        }
    }
    drop(answer);
    let left = Instant::now();
    let idle = stage.python_idle(SETTLE).await;
    let idle_after = left.elapsed();
    act.check(idle, "Python's work ends when the stream is dropped");
    match act.lm_let_go("stream", left).await {
        Some(records) => {
            let closed = left_after(&records, left);
            let for_nobody: usize = records.iter().map(|record| record.tokens_after(left)).sum();
            act.say(format_args!(
                "tower-dspy: its reader leaves after {PIECES} pieces, and the LM's connection is \
                 closed {} later: {} more.",
                time(closed.unwrap_or_default()),
                count(for_nobody, "token")
            ));
            act.check(closed.is_some(), "the LM saw the reader leave");
        }
        None => act.say(format_args!(
            "The reader of a stream leaves after {PIECES} pieces. Python is idle {} later.",
            time(idle_after)
        )),
    }
    Ok(())
}

/// A plain DSPy, in a process of its own, whose reader has left a stream. It lives on, as a server does.
struct PlainDspy {
    _process: Child,
    left: Instant,
}

impl PlainDspy {
    async fn leave(lm: &ScriptedLm, model: &str) -> Result<Self, Trouble> {
        let mut process = Command::new(venv_path().join("bin/python"))
            .arg("-I")
            .arg(format!("{PROGRAMS}/tour/walk_away.py"))
            .args([lm.base_url(), model, LONG, &PIECES.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).await?;
        }
        let left = Instant::now();
        if said.trim() != "left" {
            let output = process.wait_with_output().await?;
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let _process = process;
        Ok(Self { _process, left })
    }
}
