//! What the LM saw of one way, beside what the way itself can tell.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::Value;
use tokio::time::sleep_until;
use tower_dspy::testing::scripted_lm::{RequestRecord, ScriptedLm};

use crate::{
    CALLERS, LIMIT, Trouble,
    callers::{GaveUp, caller_in},
    figures::figure,
    ways::Way,
};

/// From when a caller gives up until its request, if still at work, counts as gone on.
const SETTLE: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Requests that came to the LM.
    requests: usize,
    /// Those at work [`SETTLE`] after their caller gave up.
    went_on: usize,
    /// Tokens produced after the caller gave up.
    for_nobody: usize,
    /// Requests at work this long after their caller gave up.
    soon: usize,
    later: usize,
    /// From giving up to the closed connection, the longest; `None` if one was never closed.
    closed: Option<Duration>,
    /// Calls that the way itself says are running, [`SOON`] after the last caller gave up; `None` if
    /// it cannot tell.
    counted_running: Option<u64>,
    /// Calls that the way itself says were given up; `None` if it cannot tell.
    counted_given_up: Option<u64>,
}

impl Found {
    /// Watches the LM until all of its work has ended.
    pub(crate) async fn watch(
        lm: &ScriptedLm,
        model: &str,
        gave_up: &GaveUp,
        counts: impl AsyncFnOnce() -> Result<Value, Trouble>,
    ) -> Result<Self, Trouble> {
        let last = *gave_up.values().max().ok_or("nobody asked")?;
        sleep_until(last + SOON).await;
        let counts = counts().await?;
        // What is on its way to the LM may come only now.
        sleep_until(last + LATER).await;
        let all_ended = |records: &[RequestRecord]| records.iter().all(|of| of.ended().is_some());
        let records = lm.wait_for(model, all_ended).await?;
        let mut found = Self::of(&records, gave_up);
        if found.requests < CALLERS {
            let requests = found.requests;
            return Err(format!("only {requests} of {CALLERS} questions came to the LM").into());
        }
        found.counted_running = counts["running"].as_u64();
        found.counted_given_up = counts["given_up"].as_u64();
        Ok(found)
    }

    /// Compares the LM's records with the times at which the callers gave up.
    fn of(records: &[RequestRecord], gave_up: &GaveUp) -> Self {
        let mut found = Self {
            closed: Some(Duration::ZERO),
            ..Self::default()
        };
        for record in records {
            let caller = caller_in(&record.body["messages"].to_string());
            // The first question has no caller who gives up.
            let Some(&ended) = caller.and_then(|n| gave_up.get(&n)) else {
                continue;
            };
            found.requests += 1;
            found.went_on += usize::from(record.running_at(ended + SETTLE));
            found.soon += usize::from(record.running_at(ended + SOON));
            found.later += usize::from(record.running_at(ended + LATER));
            found.for_nobody += record.tokens_after(ended);
            let closed = record
                .client_gone
                .map(|gone| gone.saturating_duration_since(ended));
            found.closed = found.closed.zip(closed).map(|(a, b)| a.max(b));
        }
        found
    }

    fn row(&self) -> [String; 8] {
        let counts = |counts: Option<u64>| counts.map_or("-".to_owned(), |n| n.to_string());
        let closed = self
            .closed
            .map(|closed| format!("{:.0} ms", closed.as_secs_f64() * 1e3));
        [
            self.requests.to_string(),
            self.went_on.to_string(),
            self.for_nobody.to_string(),
            self.soon.to_string(),
            self.later.to_string(),
            closed.unwrap_or_else(|| "never".into()),
            counts(self.counted_running),
            counts(self.counted_given_up),
        ]
    }

    fn print_figures(&self, way: &str) {
        let count = |what: &str, value: usize| {
            figure(&format!("comparison_{way}_{what}"), value as f64, "count");
        };
        count("lm_requests", self.requests);
        count("went_on", self.went_on);
        count("running_after_1s", self.soon);
        count("running_after_5s", self.later);
        let name = format!("comparison_{way}_tokens_for_nobody");
        figure(&name, self.for_nobody as f64, "tokens");
        if let Some(closed) = self.closed {
            let name = format!("comparison_{way}_closed_after_max");
            figure(&name, closed.as_secs_f64() * 1e3, "ms");
        }
        for (what, counts) in [
            ("running", self.counted_running),
            ("given_up", self.counted_given_up),
        ] {
            if let Some(counts) = counts {
                figure(
                    &format!("comparison_{way}_counted_{what}"),
                    counts as f64,
                    "count",
                );
            }
        }
    }
}

/// Prints the table, then the figures.
pub(crate) fn print(all: &[(&Way, Found)], out: &mut impl Write) -> io::Result<()> {
    let limit = LIMIT.as_millis();
    writeln!(
        out,
        "\n{CALLERS} long questions, whose callers give up after {limit} ms\n"
    )?;
    writeln!(
        out,
        "{:<62}{:>9}{:>9}{:>8}{:>6}{:>6}{:>10}{:>8}{:>9}",
        "", "requests", "went on", "tokens", "1 s", "5 s", "closed", "running", "given up"
    )?;
    for (way, found) in all {
        let [
            requests,
            went_on,
            tokens,
            soon,
            later,
            closed,
            running,
            given_up,
        ] = found.row();
        writeln!(
            out,
            "{:<62}{requests:>9}{went_on:>9}{tokens:>8}{soon:>6}{later:>6}{closed:>10}\
             {running:>8}{given_up:>9}",
            way.title
        )?;
    }
    writeln!(
        out,
        "\nwent on   at work at the LM {} ms after the caller gave up\n\
         tokens    produced after the caller gave up\n\
         1 s, 5 s  requests at work at the LM so long after the caller gave up\n\
         closed    from giving up to the closed connection at the LM, the longest of them\n\
         running   what the way itself says is running 1 s after; -: it has no count\n\
         given up  what the way itself says was given up; -: it has no count\n",
        SETTLE.as_millis()
    )?;
    for (way, found) in all {
        found.print_figures(way.name);
    }
    Ok(())
}
