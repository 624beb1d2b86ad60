//! The same questions in both ways, and what the LM saw of them.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use crate::{
    calls::{NAIVE, OURS, SceneCalls},
    progress::Step,
    stage::{LONG, SETTLE, Stage, Trouble, ask, question, time},
};

const REQUESTS: usize = 8;
/// The answer takes more than three times as long as its callers wait.
const TOKENS_IN_LIMIT: u32 = 10;
const WORDS: usize = 30;

/// What the LM saw of one way.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: usize,
    /// Answered to their end after the caller had given up.
    went_on: usize,
    /// Tokens produced after the caller had given up.
    for_nobody: usize,
}

/// Runs both ways and prints the table; false if ours left requests behind.
pub(crate) async fn print(stage: &Stage) -> Result<bool, Trouble> {
    let Some(lm) = stage.scripted() else {
        println!(
            "The comparison needs the scripted LM's records: it is left out with a real LM.\n"
        );
        return Ok(true);
    };
    let limit = stage.short() * 4 / 3;
    let mut calls = SceneCalls::new();
    let step = Step::begin("the same questions in both ways");
    let naive = run_naive(stage, lm, &calls, limit).await?;
    let ours = run_ours(stage, lm, &calls, limit).await?;
    step.done();
    calls.end_left_behind(SETTLE).await;
    let text = format!(
        "{REQUESTS} long questions each, whose callers give up after {}. The LM writes {} tokens \
         for nobody, and {} for the callers of tower-dspy.",
        time(limit),
        naive.for_nobody,
        ours.for_nobody,
    );
    let title = "The same questions, both ways".to_owned();
    let timelines = calls.timelines(SETTLE).await;
    stage.report.add(title, text, timelines);
    stage.count_orphans(ours.went_on);

    println!(
        "What the LM saw of {REQUESTS} long questions that their callers gave up after {}\n",
        time(limit)
    );
    println!(
        "   {:<24}{:>10}{:>10}{:>20}",
        "", "requests", "went on", "tokens for nobody"
    );
    for (name, seen) in [("naive", naive), ("tower-dspy", ours)] {
        println!(
            "   {name:<24}{:>10}{:>10}{:>20}",
            seen.requests, seen.went_on, seen.for_nobody
        );
    }
    println!();
    println!("   went on            the LM wrote its answer to the end after the caller gave up");
    println!("   tokens for nobody  produced after the caller gave up");
    println!(
        "   naive              tokio::time::timeout around a detached task, which goes on as the"
    );
    println!("                      Python task behind pyo3-async-runtimes' into_future does");
    println!();
    Ok(ours.went_on == 0)
}

fn slow(limit: Duration) -> Reply {
    Reply::answer(vec!["word"; WORDS].join(" ")).drip(limit / TOKENS_IN_LIMIT)
}

async fn run_naive(
    stage: &Stage,
    lm: &ScriptedLm,
    calls: &SceneCalls,
    limit: Duration,
) -> Result<Seen, Trouble> {
    let program = stage.answerer("table-naive", slow(limit)).await?;
    let mut callers = JoinSet::new();
    for n in 0..REQUESTS {
        let request = question(&numbered(n));
        let naive = calls.ask_naively(NAIVE, program.clone(), request, sleep(limit));
        callers.spawn(async move { (n, naive.await.ended) });
    }
    look(lm, "table-naive", callers, limit).await
}

async fn run_ours(
    stage: &Stage,
    lm: &ScriptedLm,
    calls: &SceneCalls,
    limit: Duration,
) -> Result<Seen, Trouble> {
    let service = ServiceBuilder::new()
        .attempt_timeout(limit)
        .service(stage.answerer("table-ours", slow(limit)).await?);
    let service = calls.tracked(OURS, service);
    let mut callers = JoinSet::new();
    for n in 0..REQUESTS {
        let ours = ask(service.clone(), question(&numbered(n)));
        callers.spawn(async move { (n, ours.await.ended) });
    }
    look(lm, "table-ours", callers, limit).await
}

/// A question that says which caller asked it.
fn numbered(n: usize) -> String {
    format!("[{n}] {LONG}")
}

/// Waits for the callers, for requests that are late by `latest`, then for the LM, and compares.
async fn look(
    lm: &ScriptedLm,
    model: &str,
    mut callers: JoinSet<(usize, Instant)>,
    latest: Duration,
) -> Result<Seen, Trouble> {
    let mut gave_up = Vec::new();
    while let Some(caller) = callers.join_next().await {
        gave_up.push(caller?);
    }
    // What was given up on its way to the LM may never come there.
    if let Some(last) = gave_up.iter().map(|(_, ended)| *ended).max() {
        sleep_until(last + latest).await;
    }
    let records = lm
        .wait_for(model, |records| {
            records.iter().all(|record| record.ended().is_some())
        })
        .await?;
    let mut seen = Seen {
        requests: records.len(),
        ..Seen::default()
    };
    for record in &records {
        let prompt = record.body["messages"].to_string();
        let mut callers = gave_up.iter();
        let Some((_, ended)) = callers.find(|(n, _)| prompt.contains(&format!("[{n}] "))) else {
            return Err("the LM got a question that nobody asked".into());
        };
        seen.went_on += usize::from(record.finished.is_some_and(|end| end > *ended));
        seen.for_nobody += record.tokens_after(*ended);
    }
    Ok(seen)
}
