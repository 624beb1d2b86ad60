//! [`Outcome`]: the results and plain values that an operation may end with.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use super::TimeoutError;
use crate::request::Prediction;

/// What an operation may end with: a `Result`, or a plain value, which is an operation that cannot
/// fail.
///
/// So `timeout(limit, async { Ok::<_, E>(..) })` answers `Result<_, TimeoutError<E>>`, in one layer,
/// and `timeout(limit, async { 42 })` answers `Result<i32, TimeoutError<Infallible>>`. A trait that
/// holds for *every* type that is no `Result` cannot be written in Rust, so this one is implemented
/// for the usual types: the primitive ones, `String`, references, collections, `Option`, tuples,
/// [`serde_json::Value`] and [`Prediction`]. Put an operation with any other value into
/// [`infallible`], or implement the trait for its type.
#[diagnostic::on_unimplemented(
    message = "an operation that ends with `{Self}` is neither a `Result` nor a known plain value",
    note = "let it end with `Ok::<_, E>(..)`, or wrap it: `tower_dspy::patterns::infallible(operation)`"
)]
pub trait Outcome {
    /// What it answers with.
    type Value;
    /// What it fails with; [`Infallible`] if it cannot.
    type Error;

    /// The two, told apart.
    ///
    /// # Errors
    /// The operation's own error.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, E> Outcome for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

macro_rules! plain {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generic)*> Outcome for $type {
            type Value = Self;
            type Error = Infallible;

            fn into_result(self) -> Result<Self, Infallible> {
                Ok(self)
            }
        }
    )*};
}

plain! {
    [] (), [] bool, [] char, [] String, [] Duration, [] serde_json::Value, [] Prediction,
    [] u8, [] u16, [] u32, [] u64, [] u128, [] usize,
    [] i8, [] i16, [] i32, [] i64, [] i128, [] isize, [] f32, [] f64,
    ['a, T: ?Sized] &'a T, [T] Vec<T>, [T] Option<T>, [T: ?Sized] Box<T>, [T: ?Sized] Arc<T>,
    [T, const N: usize] [T; N], [K, V] BTreeMap<K, V>, [K, V, S] HashMap<K, V, S>,
    [A, B] (A, B), [A, B, C] (A, B, C), [A, B, C, D] (A, B, C, D),
}

/// The answer of an operation that ends with `O`, under limits.
pub type TimeoutResult<O> = Result<<O as Outcome>::Value, TimeoutError<<O as Outcome>::Error>>;

/// An operation whose value is an answer, of whatever type: also a `Result` that is to be handed on
/// as it is.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::{infallible, timeout};
///
/// struct Answer;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let answer = timeout(Duration::from_secs(5), infallible(async { Answer })).await;
/// assert!(matches!(answer, Ok(Answer)));
/// # }
/// ```
pub async fn infallible<F: IntoFuture>(operation: F) -> Result<F::Output, Infallible> {
    Ok(operation.await)
}
