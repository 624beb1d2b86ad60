//! What happened in each second of a run.

use std::{fmt::Write as _, sync::Mutex};

use tokio::time::Instant;

use crate::{
    lm::{SLOTS, SLOTS_LEFT},
    world::{BROWN_OUT, BROWN_OUT_END, CALLS_PER_SECOND, END},
};

/// So many seconds of goodput are looked at together.
const WINDOW: usize = 5;
/// The seconds until the calls that the LM had begun at the start of the brown-out have ended.
const DRAIN: usize = 10;
/// The share of the calls made answered in time, from which on it has recovered.
const RECOVERED_SHARE: f64 = 0.95;

#[derive(Clone, Copy, Default)]
struct Second {
    /// Calls that callers made.
    wanted: u32,
    /// Those of them that were answered in time.
    answered: u32,
    /// Answers that reached their caller in time.
    good: u32,
    lm_calls: u32,
}

pub(crate) struct Ledger {
    start: Instant,
    seconds: Mutex<Vec<Second>>,
}

impl Ledger {
    /// A ledger that begins now.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            seconds: Mutex::new(vec![Second::default(); END + 60]),
        }
    }

    /// Counts a call; returns the second in which it was made.
    pub(crate) fn wanted(&self) -> usize {
        self.now(|second| second.wanted += 1)
    }

    /// Counts the answer of a call that was made in second `made`.
    pub(crate) fn answered(&self, made: usize) {
        self.now(|second| second.good += 1);
        self.in_second(made, |second| second.answered += 1);
    }

    pub(crate) fn lm_called(&self) {
        self.now(|second| second.lm_calls += 1);
    }

    fn now(&self, note: impl FnOnce(&mut Second)) -> usize {
        let second = self.start.elapsed().as_secs() as usize;
        self.in_second(second, note);
        second
    }

    fn in_second(&self, second: usize, note: impl FnOnce(&mut Second)) {
        let mut seconds = self.seconds.lock().expect("no panic");
        if let Some(second) = seconds.get_mut(second) {
            note(second);
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let seconds = self.seconds.lock().expect("no panic");
        let sum = |range: std::ops::Range<usize>, of: fn(&Second) -> u32| {
            seconds[range].iter().map(of).map(f64::from).sum::<f64>()
        };
        let minute = BROWN_OUT..BROWN_OUT_END;
        let wanted = sum(minute.clone(), |second| second.wanted);
        let before = BROWN_OUT - 20..BROWN_OUT;
        let has_recovered = |at: &usize| {
            let window = *at..*at + WINDOW;
            let answered = sum(window.clone(), |second| second.answered);
            answered >= RECOVERED_SHARE * sum(window, |second| second.wanted)
        };
        // From the end back to the last window before the recovery.
        let last_before = (BROWN_OUT_END..=END - WINDOW)
            .rev()
            .find(|at| !has_recovered(at));
        let capacity = CALLS_PER_SECOND.min(capacity() * SLOTS_LEFT as f64 / SLOTS as f64);
        let of_capacity = |range: std::ops::Range<usize>| {
            let length = range.len() as f64;
            100.0 * sum(range, |second| second.good) / (capacity * length)
        };
        let mut curve = String::new();
        for at in (BROWN_OUT..END).step_by(15) {
            let answered = sum(at..at + 15, |second| second.answered);
            let share = 100.0 * answered / sum(at..at + 15, |second| second.wanted);
            let _ = write!(curve, "{share:>4.0}");
        }
        Summary {
            before: 100.0 * sum(before.clone(), |second| second.answered)
                / sum(before.clone(), |second| second.wanted),
            usual: sum(before.clone(), |second| second.lm_calls)
                / sum(before, |second| second.wanted),
            amplification: sum(minute.clone(), |second| second.lm_calls) / wanted,
            // The calls that the LM had begun before have ended by then.
            goodput: of_capacity(BROWN_OUT + DRAIN..BROWN_OUT_END),
            recovery: last_before.map_or(0, |at| at + 1 - BROWN_OUT_END) as f64,
            never_recovers: last_before == Some(END - WINDOW),
            curve,
        }
    }
}

/// The calls that the LM can serve in a second in full capacity, at a mean of 1.5 s.
fn capacity() -> f64 {
    SLOTS as f64 / 1.5
}

/// What a run comes to.
pub(crate) struct Summary {
    /// Goodput in percent of the calls made, and LM calls for each of them, in the 20 s before.
    before: f64,
    usual: f64,
    /// LM calls in the minute over the calls made in it.
    pub(crate) amplification: f64,
    /// Goodput in the minute but for its first 10 s, in percent of what the LM can still serve.
    pub(crate) goodput: f64,
    /// Seconds until it has recovered.
    pub(crate) recovery: f64,
    pub(crate) never_recovers: bool,
    /// Those of the calls made that were answered in time, in percent, for each 15 s.
    curve: String,
}

impl Summary {
    pub(crate) const HEAD: &str = "                       before   |  in the minute          | \
         recovery | goodput, % of the calls made, for each 15 s:\n\
         variant                %  LM/call | LM/call  % of capacity | s        | \
         four in the minute, then after it";

    pub(crate) fn row(&self, name: &str) -> String {
        let never = if self.never_recovers { ">" } else { " " };
        format!(
            "{name:<22} {:>3.0} {:>6.2}  | {:>6.2} {:>12.0}    | {never}{:>4.0}    | {}",
            self.before, self.usual, self.amplification, self.goodput, self.recovery, self.curve,
        )
    }
}
