//! [`RequestTimeout`]: the time left, in a header of plain HTTP.

use std::{fmt, str::FromStr, time::Duration};

use http::HeaderValue;

use super::{
    Deadline,
    wire::{InvalidTimeout, TimeoutProblem, digits, from_nanos},
};

/// Of the digits before the point, and of milliseconds when written.
const MAX_WHOLE: usize = 12;
const MAX_MILLIS: u128 = 999_999_999_999;
/// Of the digits after the point: nanoseconds.
const MAX_FRACTION: usize = 9;

const EXPECTED_MILLIS: &str = "milliseconds, such as `1500` or `1500ms`, or seconds, such as `1.5s` \
     (at most 12 digits before the point and 9 after it)";
const EXPECTED: &str = "seconds, such as `2` or `2.5`, or milliseconds, such as `1500ms` \
     (at most 12 digits before the point and 9 after it)";

/// The time left in the header [`x-request-timeout`](Self::HEADER): `1500ms`, or seconds, `1.5`.
///
/// There is no standard for it, so the form is the one that reads without a manual: a decimal
/// number of seconds, or with the unit `ms` of milliseconds; `s` may be written. It has at most 12
/// digits before a point and at most 9 after it; no sign, no space, no exponent. It is written in
/// whole milliseconds, rounded up, so that what is read is never less than what was meant; more
/// than 31 years are written as 999,999,999,999 ms. Zero is time that has run out.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::deadline::RequestTimeout;
///
/// for value in ["1500ms", "1.5", "1.5s"] {
///     let left: RequestTimeout = value.parse()?;
///     assert_eq!(left.duration(), Duration::from_millis(1500));
///     assert_eq!(left.to_string(), "1500ms");
/// }
/// assert!("-1".parse::<RequestTimeout>().is_err());
/// # Ok::<_, tower_dspy::deadline::InvalidTimeout>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestTimeout(Duration);

impl RequestTimeout {
    /// The usual name of the header; [`InboundLayer`](crate::InboundLayer) reads any.
    pub const HEADER: http::HeaderName = http::HeaderName::from_static("x-request-timeout");

    /// The time left.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`InvalidTimeout`] for anything but the form above.
    pub fn from_bytes(value: &[u8]) -> Result<Self, InvalidTimeout> {
        Self::read(value, 1_000_000_000, EXPECTED)
    }

    /// Reads the value of a header whose name says that it is in milliseconds: a number without a unit
    /// is one of those.
    ///
    /// # Errors
    /// [`InvalidTimeout`] for anything else than a number, or a number with one of the units of
    /// [`from_bytes`](Self::from_bytes).
    pub(crate) fn from_millis(value: &[u8]) -> Result<Self, InvalidTimeout> {
        Self::read(value, 1_000_000, EXPECTED_MILLIS)
    }

    /// Reads a number with a unit, or without one in units of so many nanoseconds.
    fn read(
        value: &[u8],
        nanos_without_unit: u128,
        expected: &'static str,
    ) -> Result<Self, InvalidTimeout> {
        let refused = |problem| InvalidTimeout::new(value, problem, expected);
        let unit = value
            .iter()
            .position(u8::is_ascii_alphabetic)
            .unwrap_or(value.len());
        let (number, unit) = value.split_at(unit);
        let nanos_per_unit = match unit {
            b"" => nanos_without_unit,
            b"s" => 1_000_000_000,
            b"ms" => 1_000_000,
            _ => return Err(refused(TimeoutProblem::Unit)),
        };
        let mut parts = number.splitn(2, |byte| *byte == b'.');
        let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next());
        if whole.is_empty() {
            let problem = match fraction {
                None => TimeoutProblem::TooShort,
                Some(_) => TimeoutProblem::Number,
            };
            return Err(refused(problem));
        }
        if whole.len() > MAX_WHOLE || fraction.is_some_and(|digits| digits.len() > MAX_FRACTION) {
            return Err(refused(TimeoutProblem::TooLong));
        }
        let number = |part| digits(part).ok_or_else(|| refused(TimeoutProblem::Number));
        let mut nanos = u128::from(number(whole)?) * nanos_per_unit;
        if let Some(fraction) = fraction {
            // What is finer than a nanosecond counts as one: never shorter than what was sent.
            let scale = 10_u128.pow(fraction.len() as u32);
            nanos += (u128::from(number(fraction)?) * nanos_per_unit).div_ceil(scale);
        }
        Ok(Self(from_nanos(nanos)))
    }
}

impl From<Duration> for RequestTimeout {
    fn from(left: Duration) -> Self {
        Self(left)
    }
}

/// What is left of the deadline now; of one that has passed, nothing.
impl From<Deadline> for RequestTimeout {
    fn from(deadline: Deadline) -> Self {
        Self(deadline.remaining())
    }
}

/// The deadline that comes when the time left, from now, is up.
impl From<RequestTimeout> for Deadline {
    fn from(left: RequestTimeout) -> Self {
        Self::within(left.0)
    }
}

impl FromStr for RequestTimeout {
    type Err = InvalidTimeout;

    fn from_str(value: &str) -> Result<Self, InvalidTimeout> {
        Self::from_bytes(value.as_bytes())
    }
}

impl TryFrom<&HeaderValue> for RequestTimeout {
    type Error = InvalidTimeout;

    fn try_from(value: &HeaderValue) -> Result<Self, InvalidTimeout> {
        Self::from_bytes(value.as_bytes())
    }
}

impl fmt::Display for RequestTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000).min(MAX_MILLIS);
        write!(f, "{millis}ms")
    }
}
