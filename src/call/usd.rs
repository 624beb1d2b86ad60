//! An amount of US dollars.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Serialize, Serializer};

/// An amount of US dollars, in whole picodollars: sums are exact, also of prices such as 0.0375 USD
/// for a million tokens.
///
/// Sums end at about 18.4 million dollars. As JSON it is a number of dollars.
///
/// ```
/// use tower_dspy::Usd;
///
/// let spent = Usd::new(0.25) + Usd::new(0.0375);
/// assert_eq!(spent.as_f64(), 0.2875);
/// assert_eq!(spent.to_string(), "$0.2875");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

const PER_DOLLAR: f64 = 1e12;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many dollars, to the nearest picodollar; zero if that is negative or no number.
    #[must_use]
    pub fn new(dollars: f64) -> Self {
        // A cast of a float ends at the type's bounds, and makes a NaN zero.
        Self((dollars * PER_DOLLAR).round() as u64)
    }

    /// The amount in dollars.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / PER_DOLLAR
    }

    /// The amount less `other`, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times the amount.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.as_f64())
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_prices_of_single_tokens_are_exact() {
        let token = Usd::new(0.0375 / 1e6);
        let million: Usd = (0..1000).map(|_| token.times(1000)).sum();
        assert_eq!(million, Usd::new(0.0375));
        assert_eq!(million.to_string(), "$0.0375");
    }

    #[test]
    fn what_is_no_amount_is_zero_and_sums_have_an_end() {
        assert_eq!(Usd::new(-1.0), Usd::ZERO);
        assert_eq!(Usd::new(f64::NAN), Usd::ZERO);
        let most = Usd::new(f64::INFINITY);
        assert_eq!(most + Usd::new(1.0), most);
        assert_eq!(Usd::new(1.0).saturating_sub(Usd::new(2.0)), Usd::ZERO);
    }
}
