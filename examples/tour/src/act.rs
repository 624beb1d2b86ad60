//! A scene at play: what it tells and whether what it claims is so.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;
use tower_dspy::testing::scripted_lm::RequestRecord;

use crate::{
    calls::SceneCalls,
    stage::{SETTLE, Stage, Trouble, count},
};

/// The least limit of a scene's wait for what its naive calls left behind. What goes on then is ended.
const NAIVE_SETTLES: Duration = Duration::from_secs(8);

/// One scene's telling.
#[derive(Debug)]
pub(crate) struct Act<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) calls: SceneCalls,
    told: Vec<String>,
    no_naive_side: Option<&'static str>,
    spoilt: Option<&'static str>,
    /// Claims about the program's answers that do not hold.
    wrong: Vec<String>,
    /// Claims that hold whatever the model answers, and do not.
    wrong_anyhow: Vec<String>,
}

/// How a scene went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that it claims is so.
    Ok,
    /// All that could be looked at is so; what the LM saw is not known.
    OkWithoutLm,
    /// The scene could not show what it claims, for what the real model answered.
    NotShown,
    /// Something is not so.
    Wrong,
}

impl<'a> Act<'a> {
    /// Plays a scene to its end and prints it.
    pub(crate) async fn play(
        stage: &'a Stage,
        number: usize,
        title: &str,
        scene: impl AsyncFnOnce(&mut Act<'a>) -> Result<(), Trouble>,
    ) -> Verdict {
        println!("{number}. {title}");
        let mut act = Self {
            stage,
            calls: SceneCalls::new(),
            told: Vec::new(),
            no_naive_side: None,
            spoilt: None,
            wrong: Vec::new(),
            wrong_anyhow: Vec::new(),
        };
        match scene(&mut act).await {
            Ok(()) => {
                act.end_naive().await;
                let idle = stage.python_idle(4 * SETTLE).await;
                act.check_anyhow(idle, "nothing is left running in Python");
            }
            Err(trouble) => {
                act.calls.unparsed().note_trouble(&trouble);
                act.wrong
                    .push(format!("the scene could not be played: {trouble}"));
            }
        }
        act.report(number, title).await;
        let verdict = act.verdict();
        match verdict {
            Verdict::Ok => println!("   ok\n"),
            Verdict::OkWithoutLm => println!("   ok (LM side not checked)\n"),
            Verdict::NotShown => {
                let reason = act.not_shown().unwrap_or_default();
                println!("   NOT SHOWN: {reason}\n");
            }
            Verdict::Wrong => {
                for wrong in act.wrong.iter().chain(&act.wrong_anyhow) {
                    println!("   WRONG: {wrong}");
                }
                println!();
            }
        }
        verdict
    }

    fn verdict(&self) -> Verdict {
        if !self.wrong_anyhow.is_empty() {
            Verdict::Wrong
        } else if !self.wrong.is_empty() {
            self.not_shown()
                .map_or(Verdict::Wrong, |_| Verdict::NotShown)
        } else if self.stage.scripted().is_none() {
            Verdict::OkWithoutLm
        } else {
            Verdict::Ok
        }
    }

    /// Why the scene shows nothing, if a real model is the reason. With the scripted LM nothing is
    /// excused.
    fn not_shown(&self) -> Option<String> {
        if self.stage.scripted().is_some() {
            return None;
        }
        match self.calls.unparsed().count() {
            0 => self.spoilt.map(str::to_owned),
            calls => Some(format!(
                "the model's answer did not parse ({})",
                count(calls, "call")
            )),
        }
    }

    /// Says what a real model did that spoils the scene.
    pub(crate) const fn spoil(&mut self, reason: &'static str) {
        self.spoilt = Some(reason);
    }

    /// Puts the scene into the report.
    async fn report(&mut self, number: usize, title: &str) {
        let timelines = self.calls.timelines(SETTLE).await;
        let mut text = self.told.join(" ");
        if let Some(reason) = self.no_naive_side {
            text.push_str(&format!(" No naive side: {reason}"));
        }
        let title = format!("{number}. {title}");
        self.stage.report.add(title, text, timelines);
    }

    /// Tells what happens.
    pub(crate) fn say(&mut self, line: impl Display) {
        let line = line.to_string();
        println!("   {line}");
        self.told.push(line);
    }

    /// Says in the report why the scene shows no naive calls.
    pub(crate) const fn has_no_naive_side(&mut self, reason: &'static str) {
        self.no_naive_side = Some(reason);
    }

    /// Waits until the work of the naive calls so far has ended.
    pub(crate) async fn end_naive(&mut self) {
        // All late answers of the scripted LM come within this.
        let most = NAIVE_SETTLES.max(10 * self.stage.short());
        self.calls.end_left_behind(most).await;
    }

    /// Claims that something is so, and says whether it is.
    pub(crate) fn check(&mut self, holds: bool, claim: impl Display) -> bool {
        if !holds {
            self.wrong.push(format!("it is not so that {claim}"));
        }
        holds
    }

    /// Claims that something is so, whatever the model answers.
    fn check_anyhow(&mut self, holds: bool, claim: impl Display) {
        if !holds {
            self.wrong_anyhow.push(format!("it is not so that {claim}"));
        }
    }

    /// Claims that the LM does no more work for `model`, whose callers all had their outcomes by
    /// `ended`. Returns what it saw, in the order it came; `None` with a real LM.
    pub(crate) async fn lm_let_go(
        &mut self,
        model: &str,
        ended: Instant,
    ) -> Option<Vec<RequestRecord>> {
        let lm = self.stage.scripted()?;
        let settled = ended + SETTLE;
        let left = settled.saturating_duration_since(Instant::now());
        let all_ended =
            |records: &[RequestRecord]| records.iter().all(|record| record.ended().is_some());
        // Whether or not it came to that in time, the records tell.
        let _ = lm.wait_for_within(left, model, all_ended).await;
        let records = lm.requests(model);
        let orphans = records.iter().filter(|record| record.running_at(settled));
        let orphans = orphans.count();
        self.stage.count_orphans(orphans);
        self.check_anyhow(
            orphans == 0,
            format_args!(
                "the LM stopped with the caller ({} went on)",
                count(orphans, "request")
            ),
        );
        Some(records)
    }
}
