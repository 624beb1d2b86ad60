//! What was spent, over a window or for good.

use std::{collections::VecDeque, ops::Add, time::Duration};

use tokio::time::Instant;

use crate::call::Usd;

/// Tokens and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) tokens: u64,
    pub(crate) usd: Usd,
}

impl Amount {
    pub(super) const fn saturating_sub(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            usd: self.usd.saturating_sub(other.usd),
        }
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            usd: self.usd + other.usd,
        }
    }
}

/// A window is counted in this many slots.
const SLOTS: u32 = 60;

/// What was spent within a window; without one, all.
#[derive(Debug)]
pub(super) struct SpentOverTime {
    window: Option<Duration>,
    sum: Amount,
    /// The beginnings of slots and what was spent in each, the oldest first; none without a window.
    slots: VecDeque<(Instant, Amount)>,
}

impl SpentOverTime {
    pub(super) fn new(window: Option<Duration>) -> Self {
        Self {
            window,
            sum: Amount::default(),
            slots: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, now: Instant, amount: Amount) {
        self.sum = self.sum + amount;
        let Some(window) = self.window else { return };
        match self.slots.back_mut() {
            Some((begin, sum)) if now.saturating_duration_since(*begin) < window / SLOTS => {
                *sum = *sum + amount;
            }
            _ => self.slots.push_back((now, amount)),
        }
    }

    /// What counts now.
    pub(super) fn at(&mut self, now: Instant) -> Amount {
        while let Some((begin, amount)) = self.slots.front()
            && *begin + self.lifetime() <= now
        {
            self.sum = self.sum.saturating_sub(*amount);
            self.slots.pop_front();
        }
        self.sum
    }

    /// The time until `holds` is false of what then counts; `None` if it holds for ever.
    pub(super) fn time_while(
        &self,
        now: Instant,
        holds: impl Fn(Amount) -> bool,
    ) -> Option<Duration> {
        let mut left = self.sum;
        self.slots.iter().find_map(|(begin, amount)| {
            left = left.saturating_sub(*amount);
            let gone = (*begin + self.lifetime()).saturating_duration_since(now);
            (!holds(left)).then_some(gone)
        })
    }

    /// How long a slot counts from its beginning: a window from its last moment on.
    fn lifetime(&self) -> Duration {
        let window = self.window.unwrap_or_default();
        window + window / SLOTS
    }
}
