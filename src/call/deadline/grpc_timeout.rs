//! [`GrpcTimeout`]: the time left, as gRPC writes it.

use std::{fmt, str::FromStr, time::Duration};

use http::HeaderValue;

use super::{
    Deadline,
    wire::{InvalidTimeout, TimeoutProblem, digits, from_nanos},
};

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// The units, finest first, with their nanoseconds. The case tells minutes from milliseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', NANOS_PER_SEC),
    (b'M', 60 * NANOS_PER_SEC),
    (b'H', 3_600 * NANOS_PER_SEC),
];

/// Eight digits.
const MAX_VALUE: u128 = 99_999_999;

const EXPECTED: &str = "1 to 8 digits and one of the units H, M, S, m, u, n \
     (hours, minutes, seconds, milli-, micro-, nanoseconds), such as `1500m`";

/// The time left in the header [`grpc-timeout`](Self::HEADER): `1500m` is 1.5 seconds.
///
/// The form is that of [gRPC over HTTP/2]: 1 to 8 digits and a unit, `H`, `M`, `S`, `m`, `u` or
/// `n`. It is written in the finest unit that has room for the value, rounded up, so that what is
/// read is never less than what was meant; more than 99,999,999 hours are written as that many. A
/// zero is read, against the letter of the specification, as time that has run out, as grpc-go
/// does.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::deadline::GrpcTimeout;
///
/// let left: GrpcTimeout = "1500m".parse()?;
/// assert_eq!(left.duration(), Duration::from_millis(1500));
/// assert_eq!(GrpcTimeout::from(Duration::from_millis(1500)).to_string(), "1500000u");
///
/// let error = "1500s".parse::<GrpcTimeout>().unwrap_err();
/// assert!(error.to_string().contains("one of the units H, M, S, m, u, n"));
/// # Ok::<_, tower_dspy::deadline::InvalidTimeout>(())
/// ```
///
/// [gRPC over HTTP/2]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcTimeout(Duration);

impl GrpcTimeout {
    /// The name of the header.
    pub const HEADER: http::HeaderName = http::HeaderName::from_static("grpc-timeout");

    /// The time left.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`InvalidTimeout`] for anything but the form above: no value has a sign, a space, a
    /// fraction, or more than nine characters.
    pub fn from_bytes(value: &[u8]) -> Result<Self, InvalidTimeout> {
        let refused = |problem| InvalidTimeout::new(value, problem, EXPECTED);
        match value.len() {
            0 | 1 => return Err(refused(TimeoutProblem::TooShort)),
            2..=9 => {}
            _ => return Err(refused(TimeoutProblem::TooLong)),
        }
        let (number, unit) = value.split_at(value.len() - 1);
        let Some((_, nanos)) = UNITS.iter().find(|(letter, _)| unit == [*letter]) else {
            return Err(refused(TimeoutProblem::Unit));
        };
        let number = digits(number).ok_or_else(|| refused(TimeoutProblem::Number))?;
        Ok(Self(from_nanos(u128::from(number) * nanos)))
    }
}

impl From<Duration> for GrpcTimeout {
    fn from(left: Duration) -> Self {
        Self(left)
    }
}

/// What is left of the deadline now; of one that has passed, nothing.
impl From<Deadline> for GrpcTimeout {
    fn from(deadline: Deadline) -> Self {
        Self(deadline.remaining())
    }
}

/// The deadline that comes when the time left, from now, is up.
impl From<GrpcTimeout> for Deadline {
    fn from(left: GrpcTimeout) -> Self {
        Self::within(left.0)
    }
}

impl FromStr for GrpcTimeout {
    type Err = InvalidTimeout;

    fn from_str(value: &str) -> Result<Self, InvalidTimeout> {
        Self::from_bytes(value.as_bytes())
    }
}

impl TryFrom<&HeaderValue> for GrpcTimeout {
    type Error = InvalidTimeout;

    fn try_from(value: &HeaderValue) -> Result<Self, InvalidTimeout> {
        Self::from_bytes(value.as_bytes())
    }
}

impl fmt::Display for GrpcTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.0.as_nanos();
        let (value, unit) = UNITS
            .iter()
            .map(|&(unit, nanos)| (left.div_ceil(nanos), unit))
            .find(|(value, _)| *value <= MAX_VALUE)
            .unwrap_or((MAX_VALUE, b'H'));
        write!(f, "{value}{}", char::from(unit))
    }
}
