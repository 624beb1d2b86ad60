//! How much of what is left one step gets: in whole nanoseconds, rounded down, never more than all.

use std::time::Duration;

use crate::call::deadline::from_nanos;

const WHOLE: u32 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeShare {
    Even(u32),
    Billionths(u32),
    AllBut(Duration),
}

impl TimeShare {
    pub(super) const fn fraction(fraction: f64) -> Option<Self> {
        // Also false of what is not a number.
        if !(fraction > 0.0 && fraction <= 1.0) {
            return None;
        }
        match (fraction * WHOLE as f64 + 0.5) as u32 {
            0 => None,
            billionths => Some(Self::Billionths(billionths)),
        }
    }

    pub(super) fn of(self, left: Duration) -> Duration {
        match self {
            Self::Even(steps) => left / steps.max(1),
            Self::Billionths(WHOLE) => left,
            Self::Billionths(billionths) => {
                let nanos = left.as_nanos().saturating_mul(billionths.into());
                from_nanos(nanos / u128::from(WHOLE))
            }
            Self::AllBut(reserve) => left.saturating_sub(reserve),
        }
    }
}
