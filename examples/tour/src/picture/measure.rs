//! One call that is given up, measured from its caller's, Python's and the LM's side.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt,
    testing::scripted_lm::{Reply, RequestRecord},
    timeline::CallTimeline,
};

use crate::{
    calls::{NAIVE, OURS, SceneCalls},
    stage::{LONG, Stage, Trouble, ask, question},
};

/// The answer takes more than three times as long as its caller waits.
const TOKENS_IN_LIMIT: u32 = 10;
const WORDS: usize = 30;
/// Longer than the whole answer takes.
const ALL_ENDED: Duration = Duration::from_secs(20);

/// A call that is given up. Times are counted from its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// When its caller gave up.
    pub(crate) gave_up: Duration,
    /// The work in Python, with its clean-up.
    pub(crate) python: Span,
    /// The request at the LM, from its head to its answer or its closed connection.
    pub(crate) lm: Span,
    /// Whether the connection was closed before the answer.
    pub(crate) is_closed: bool,
    /// When the LM produced each token.
    pub(crate) tokens: Vec<Duration>,
}

/// A time in which something is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

impl Span {
    /// How long it goes on after `moment`.
    pub(crate) fn after(self, moment: Duration) -> Duration {
        self.end.saturating_sub(moment)
    }
}

impl GivenUp {
    /// How many tokens were produced after the caller gave up.
    pub(crate) fn for_nobody(&self) -> usize {
        self.tokens.iter().filter(|at| **at > self.gave_up).count()
    }

    /// When the last of its work ended.
    pub(crate) fn end(&self) -> Duration {
        self.gave_up.max(self.python.end).max(self.lm.end)
    }

    fn of(
        began: Instant,
        ended: Instant,
        timeline: &CallTimeline,
        record: &RequestRecord,
    ) -> Result<Self, Trouble> {
        let attempt = timeline.attempts.first();
        let begin = attempt.and_then(|attempt| attempt.started);
        let since = |at: Instant| at.saturating_duration_since(began);
        Ok(Self {
            gave_up: since(ended),
            python: Span {
                begin: begin.ok_or("Python did not begin with the call")?,
                end: timeline.settled.ok_or("the call did not settle")?,
            },
            lm: Span {
                begin: since(record.arrived),
                end: since(record.ended().ok_or("the LM is still at work")?),
            },
            is_closed: record.client_gone.is_some(),
            tokens: record.token_times.iter().map(|at| since(*at)).collect(),
        })
    }
}

/// `tokio::time::timeout` around a call that nobody ends, as in the scenes.
pub(crate) async fn naive(stage: &Stage) -> Result<GivenUp, Trouble> {
    const MODEL: &str = "picture-naive";
    let (calls, limit) = (SceneCalls::new(), limit(stage));
    let program = stage.answerer(MODEL, slow(limit)).await?;
    let asked = calls.ask_naively(NAIVE, program, question(LONG), sleep(limit));
    let naive = asked.await;
    if !naive.given_up {
        return Err("the naive call was answered in time".into());
    }
    let call = settled(stage, MODEL, &calls, naive.ended - naive.took, naive.ended).await?;
    if call.is_closed || call.for_nobody() == 0 {
        return Err("the naive call did not go on".into());
    }
    Ok(call)
}

/// The same call with a limit of this crate.
pub(crate) async fn ours(stage: &Stage) -> Result<GivenUp, Trouble> {
    const MODEL: &str = "picture";
    let (calls, limit) = (SceneCalls::new(), limit(stage));
    let service = ServiceBuilder::new()
        .attempt_timeout(limit)
        .service(stage.answerer(MODEL, slow(limit)).await?);
    let asked = ask(calls.tracked(OURS, service), question(LONG)).await;
    if asked.result.is_ok() {
        return Err("the call of tower-dspy was answered in time".into());
    }
    let call = settled(stage, MODEL, &calls, asked.ended - asked.took, asked.ended).await?;
    if !call.is_closed || call.lm.after(call.gave_up) > 2 * limit {
        return Err("the call of tower-dspy went on".into());
    }
    Ok(call)
}

fn limit(stage: &Stage) -> Duration {
    stage.short() * 4 / 3
}

fn slow(limit: Duration) -> Reply {
    Reply::answer(vec!["word"; WORDS].join(" ")).drip(limit / TOKENS_IN_LIMIT)
}

/// Waits until all work of the call has ended, and reads what it was.
async fn settled(
    stage: &Stage,
    model: &str,
    calls: &SceneCalls,
    began: Instant,
    ended: Instant,
) -> Result<GivenUp, Trouble> {
    let lm = stage.scripted();
    let lm = lm.ok_or("the picture needs the records of the scripted LM: leave --lm out")?;
    let has_ended = |records: &[RequestRecord]| {
        records
            .first()
            .is_some_and(|record| record.ended().is_some())
    };
    let records = lm.wait_for(model, has_ended).await?;
    let timelines = calls.timelines(ALL_ENDED).await;
    match (&timelines[..], &records[..]) {
        ([timeline], [record]) => GivenUp::of(began, ended, timeline, record),
        _ => Err("the call asked the LM more than once".into()),
    }
}
