//! What the wire forms of a time left have in common: bytes in, a clear refusal out.

use std::time::Duration;

/// As much of a refused value as an error repeats: any client can send it.
const SHOWN: usize = 24;

/// What is wrong with a time left as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TimeoutProblem {
    /// There is nothing, or a number or a unit alone where both are needed.
    #[error("is too short")]
    TooShort,
    /// There are more characters, or digits, than the form allows.
    #[error("is too long")]
    TooLong,
    /// What stands where the unit belongs is none of the form's units.
    #[error("has no known unit")]
    Unit,
    /// What stands before the unit is not a number as the form writes it: a sign, a space, a letter.
    #[error("has something other than a number before its unit")]
    Number,
}

/// A time left that does not have the form it must have.
///
/// `Display` says what came and what was expected, in words fit for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the timeout `{value}` {problem}; expected {expected}")]
pub struct InvalidTimeout {
    value: Box<str>,
    problem: TimeoutProblem,
    expected: &'static str,
}

impl InvalidTimeout {
    pub(super) fn new(value: &[u8], problem: TimeoutProblem, expected: &'static str) -> Self {
        let shown = &value[..value.len().min(SHOWN)];
        let mut text = shown.escape_ascii().to_string();
        if shown.len() < value.len() {
            text.push_str("...");
        }
        Self {
            value: text.into(),
            problem,
            expected,
        }
    }

    /// What is wrong.
    #[must_use]
    pub const fn problem(&self) -> TimeoutProblem {
        self.problem
    }

    /// What was expected instead.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.expected
    }
}

/// The number that ASCII `digits` spell, of which there are at most 18; `None` for anything else.
pub(super) fn digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// `Duration::from_nanos` for more than 584 years of them.
pub(crate) fn from_nanos(nanos: u128) -> Duration {
    const PER_SEC: u128 = 1_000_000_000;
    let secs = u64::try_from(nanos / PER_SEC).unwrap_or(u64::MAX);
    Duration::new(secs, (nanos % PER_SEC) as u32)
}
