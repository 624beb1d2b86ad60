//! [`TimeoutError`]: the reasons why an operation has no answer.

use std::{convert::Infallible, error::Error as StdError, fmt, time::Duration};

use crate::{
    call::Spent,
    error::{Cancelled, Classify, Elapsed, ErrorKind, Scope, Stage, costs_in},
};

/// Why an operation has no answer: its limit passed, the deadline over it passed, it was cancelled,
/// or it failed by itself.
///
/// The first two call for different answers. After [`Elapsed`](Self::Elapsed) there is time for
/// another try, or for the next item; after [`Deadline`](Self::Deadline) there is none.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::patterns::{TimeoutError, timeout};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let operation = async {
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     Ok::<_, std::io::Error>("Paris")
/// };
/// let answer = match timeout(Duration::from_secs(5), operation).await {
///     Ok(answer) => answer,
///     Err(TimeoutError::Elapsed(elapsed)) => {
///         assert_eq!(elapsed.limit(), Duration::from_secs(5));
///         "a fallback"
///     }
///     Err(TimeoutError::Deadline(_)) => "no time for a fallback",
///     Err(TimeoutError::Cancelled(cancelled)) => cancelled.cause().as_str(),
///     Err(TimeoutError::Failed(error)) => panic!("{error}"),
/// };
/// assert_eq!(answer, "a fallback");
/// # }
/// ```
///
/// `E` is the operation's own error; for operations that cannot fail it is [`Infallible`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeoutError<E = Infallible> {
    /// The limit of this operation passed.
    Elapsed(Elapsed),
    /// The deadline over this operation and others, or over all its attempts, passed.
    Deadline(Elapsed),
    /// It was cancelled.
    Cancelled(Cancelled),
    /// It ended with an error of its own.
    Failed(E),
}

impl<E: 'static> TimeoutError<E> {
    /// What the operation had spent until it ended; of one that failed by itself, if its error is an
    /// [`Error`](crate::Error) or a [`BoxError`](tower::BoxError).
    #[must_use]
    pub fn spent(&self) -> Option<&Spent> {
        match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => elapsed.spent(),
            Self::Cancelled(cancelled) => cancelled.spent(),
            Self::Failed(error) => costs_in(error).map(|spent| &**spent),
        }
    }
}

impl<E> TimeoutError<E> {
    /// The limit that passed, whichever it was.
    #[must_use]
    pub const fn elapsed(&self) -> Option<&Elapsed> {
        match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => Some(elapsed),
            Self::Cancelled(_) | Self::Failed(_) => None,
        }
    }

    /// The operation's own error, if it failed by itself.
    #[must_use]
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The same, with the operation's own error changed by `f`.
    #[must_use]
    pub fn map_failed<D>(self, f: impl FnOnce(E) -> D) -> TimeoutError<D> {
        match self {
            Self::Elapsed(elapsed) => TimeoutError::Elapsed(elapsed),
            Self::Deadline(elapsed) => TimeoutError::Deadline(elapsed),
            Self::Cancelled(cancelled) => TimeoutError::Cancelled(cancelled),
            Self::Failed(error) => TimeoutError::Failed(f(error)),
        }
    }

    /// The operation's own error type, where that has a place for limits and cancellation:
    /// [`Error`](crate::Error), [`BoxError`](tower::BoxError), or a `TimeoutError` itself, as when
    /// operations with limits of their own run under another.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{Error, patterns::{TimeoutError, timeout}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let operation = std::future::pending::<Result<(), Error>>();
    /// let limited = timeout(Duration::from_secs(5), operation);
    /// let result: Result<(), Error> = limited.await.map_err(TimeoutError::flatten);
    /// assert!(matches!(result, Err(Error::Elapsed(_))));
    /// # }
    /// ```
    #[must_use]
    pub fn flatten(self) -> E
    where
        E: From<Elapsed> + From<Cancelled>,
    {
        match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => elapsed.into(),
            Self::Cancelled(cancelled) => cancelled.into(),
            Self::Failed(error) => error,
        }
    }

    /// Whether the operation was not started.
    pub(super) fn is_refusal(&self) -> bool {
        let stage = match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => elapsed.stage(),
            Self::Cancelled(cancelled) => cancelled.stage(),
            Self::Failed(_) => return false,
        };
        stage == Stage::BeforeStart
    }

    /// The kind of all but the operation's own error.
    pub(super) fn own_kind(&self) -> ErrorKind {
        match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => elapsed.kind(),
            Self::Cancelled(cancelled) => cancelled.kind(),
            Self::Failed(_) => ErrorKind::Other,
        }
    }
}

/// By [`Scope`]: that of a deadline becomes [`TimeoutError::Deadline`].
impl<E> From<Elapsed> for TimeoutError<E> {
    fn from(elapsed: Elapsed) -> Self {
        match elapsed.scope() {
            Scope::Deadline => Self::Deadline(elapsed),
            _ => Self::Elapsed(elapsed),
        }
    }
}

impl<E> From<Cancelled> for TimeoutError<E> {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl<E: Classify> Classify for TimeoutError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(error) => error.kind(),
            _ => self.own_kind(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(error) => error.retry_after(),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for TimeoutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elapsed(_) => f.write_str("the operation was stopped at its limit"),
            Self::Deadline(_) => f.write_str("the operation was stopped at the deadline"),
            Self::Cancelled(_) => f.write_str("the operation was cancelled"),
            Self::Failed(error) => write!(f, "the operation failed: {error}"),
        }
    }
}

/// Limits and cancellation are sources, so [`ErrorKind::of`] finds them. An error of the operation's
/// own is in the message, and what caused it is the source.
impl<E: StdError + 'static> StdError for TimeoutError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Elapsed(elapsed) | Self::Deadline(elapsed) => Some(elapsed),
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Failed(error) => error.source(),
        }
    }
}
