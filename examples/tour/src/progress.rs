//! The progress of long steps: a spinner with the time on a terminal, and elsewhere one line at the
//! begin and one at the end.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::stage::time;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// A long step under way. It is shown on stderr.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    began: Instant,
    /// `None` if stderr is no terminal.
    spinner: Option<ProgressBar>,
    is_over: bool,
}

impl Step {
    /// Begins a step.
    pub(crate) fn begin(what: impl Display) -> Self {
        let what = what.to_string();
        let spinner = stderr().is_terminal().then(ProgressBar::new_spinner);
        match &spinner {
            Some(spinner) => {
                let style =
                    ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}");
                spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                spinner.set_prefix(what.clone());
                spinner.enable_steady_tick(TURN);
            }
            None => line(format_args!("{what} ...")),
        }
        Self {
            what,
            began: Instant::now(),
            spinner,
            is_over: false,
        }
    }

    /// Shows how far it is, on a terminal.
    pub(crate) fn detail(&self, detail: impl Display) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(detail.to_string());
        }
    }

    /// Ends the step.
    pub(crate) fn done(mut self) {
        self.end("done");
    }

    fn end(&mut self, how: &str) {
        self.is_over = true;
        match &self.spinner {
            Some(spinner) => spinner.finish_and_clear(),
            None => {
                let took = time(self.began.elapsed());
                line(format_args!("{}: {how} after {took}", self.what));
            }
        }
    }
}

/// A step that is dropped has failed.
impl Drop for Step {
    fn drop(&mut self) {
        if !self.is_over {
            self.end("given up");
        }
    }
}

/// Writes a line at once. Who closed stderr does not read it.
fn line(text: impl Display) {
    let mut stderr = stderr().lock();
    let _ = writeln!(stderr, "{text}").and_then(|()| stderr.flush());
}
