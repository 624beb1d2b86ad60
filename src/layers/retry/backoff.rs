//! How long to wait before a retry.

use std::time::Duration;

use crate::call::deadline::from_nanos;

/// The wait before each retry: fixed, linear or exponential, exact or with full jitter.
///
/// Retry `n` counts from 0. The formulas, exact in nanoseconds, never overflow:
///
/// | made by | wait before retry `n` |
/// |---|---|
/// | [`fixed(d)`](Self::fixed) | `d` |
/// | [`linear(step, cap)`](Self::linear) | `min(cap, step * (n + 1))` |
/// | [`exponential(base, cap)`](Self::exponential) | `min(cap, base * 2^n)`, then full jitter |
/// | any, with [`full_jitter`](Self::full_jitter) | uniform between 0 and the above |
///
/// Full jitter is the one of the AWS Architecture Blog, "Exponential Backoff And Jitter": callers
/// that failed together do not come back together. `exponential` has it unless told otherwise;
/// `fixed` and `linear` wait for what they say.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::Backoff;
///
/// let exact = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1))
///     .without_jitter();
/// let waits: Vec<_> = (0..5).map(|n| exact.wait(n).as_millis()).collect();
/// assert_eq!(waits, [100, 200, 400, 800, 1000]);
/// assert!(exact.full_jitter().wait(2) <= Duration::from_millis(400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    kind: BackoffKind,
    base: Duration,
    cap: Duration,
    jitter: bool,
    seed: Option<u64>,
}

/// How the waits of a [`Backoff`] grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackoffKind {
    /// Not at all.
    Fixed,
    /// By the base.
    Linear,
    /// To the double.
    Exponential,
}

impl Backoff {
    /// The same wait before each retry. [`Duration::ZERO`] retries at once.
    #[must_use]
    pub const fn fixed(wait: Duration) -> Self {
        Self::new(BackoffKind::Fixed, wait, wait)
    }

    /// `step` longer before each retry, up to `cap`.
    #[must_use]
    pub const fn linear(step: Duration, cap: Duration) -> Self {
        Self::new(BackoffKind::Linear, step, cap)
    }

    /// `base`, doubled for each further retry, up to `cap`; with full jitter.
    #[must_use]
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self::new(BackoffKind::Exponential, base, cap)
    }

    /// With full jitter if it is exponential.
    pub(crate) const fn new(kind: BackoffKind, base: Duration, cap: Duration) -> Self {
        Self {
            kind,
            base,
            cap,
            jitter: matches!(kind, BackoffKind::Exponential),
            seed: None,
        }
    }

    /// Draws each wait uniformly from between zero and the formula's.
    #[must_use]
    pub const fn full_jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Waits for exactly what the formula says.
    #[must_use]
    pub const fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// Makes the jitter a function of `seed` and the retry's number, for tests that repeat.
    ///
    /// Not for production: all calls then wait alike, which jitter is there to prevent.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The wait before retry `n`, counted from 0; with jitter, drawn anew at each call.
    #[must_use]
    pub fn wait(&self, n: u32) -> Duration {
        let most = self.most(n);
        if !self.jitter {
            return most;
        }
        let most = most.as_nanos();
        let nanos = match self.seed {
            Some(seed) => fastrand::Rng::with_seed(seed.wrapping_add(n.into())).u128(..=most),
            None => fastrand::u128(..=most),
        };
        from_nanos(nanos)
    }

    fn most(&self, n: u32) -> Duration {
        let Self { base, cap, .. } = *self;
        match self.kind {
            BackoffKind::Fixed => base,
            BackoffKind::Linear => base.saturating_mul(n.saturating_add(1)).min(cap),
            BackoffKind::Exponential => {
                let base = base.as_nanos();
                // `leading_zeros` is how far the base can be doubled; zero doubles for ever.
                if base != 0 && n >= base.leading_zeros() {
                    return cap;
                }
                from_nanos(base.checked_shl(n).unwrap_or(0).min(cap.as_nanos()))
            }
        }
    }
}

/// Exponential from 100 ms to 10 s, with full jitter.
impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(10))
    }
}
