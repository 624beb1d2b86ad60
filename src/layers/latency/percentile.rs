//! [`Percentile`], and the error of those who give a share that is none.

/// A share of all answers, by which to name the time that they took: [`P95`](Self::P95) is the time
/// within which 95 % of them came.
///
/// ```
/// use tower_dspy::Percentile;
///
/// assert_eq!(Percentile::new(0.95), Ok(Percentile::P95));
/// let error = Percentile::new(95.0).unwrap_err();
/// assert_eq!(error.to_string(), "a percentile is more than 0 and at most 1, as 0.95 is; got 95");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percentile(f64);

impl Percentile {
    /// The median.
    pub const P50: Self = Self(0.5);
    /// Nine of ten.
    pub const P90: Self = Self(0.9);
    /// 95 of a hundred.
    pub const P95: Self = Self(0.95);
    /// 99 of a hundred.
    pub const P99: Self = Self(0.99);

    /// The percentile that `share` of all answers came within.
    ///
    /// # Errors
    /// Unless `share` is more than 0 and at most 1.
    pub const fn new(share: f64) -> Result<Self, OutOfRange> {
        if share > 0.0 && share <= 1.0 {
            Ok(Self(share))
        } else {
            Err(OutOfRange {
                what: "a percentile",
                example: "0.95",
                value: share,
            })
        }
    }

    /// The share, more than 0 and at most 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// A share that was to be more than 0 and at most 1 is not.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{what} is more than 0 and at most 1, as {example} is; got {value}")]
pub struct OutOfRange {
    what: &'static str,
    example: &'static str,
    value: f64,
}

impl OutOfRange {
    pub(in crate::layers) const fn fraction(value: f64) -> Self {
        Self {
            what: "a fraction of the time left",
            example: "0.3",
            value,
        }
    }

    /// The number that was given.
    #[must_use]
    pub const fn value(&self) -> f64 {
        self.value
    }
}
