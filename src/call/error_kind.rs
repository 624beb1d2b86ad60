//! The sorts of failure that a layer, or a table of statuses, tells apart.

/// The sort of a failure; in a configuration in snake case, as `"lm_unavailable"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// One attempt took too long; another may be quicker.
    Elapsed,
    /// The deadline of the whole call passed: there is no time for anything more.
    Deadline,
    /// The call was stopped because nobody wants its answer any more.
    Cancelled,
    /// The service takes no more calls because it is shutting down.
    ShuttingDown,
    /// There are too many calls.
    Overloaded,
    /// The inputs are wrong and stay wrong.
    InvalidInput,
    /// The program raised an exception.
    Program,
    /// The LM could not be reached, had no capacity, or failed on its side: worth another try.
    LmUnavailable,
    /// The LM refused the request, as for a wrong key, or a quota that is used up: the same
    /// request will be refused again.
    LmRejected,
    /// A budget of tokens or of money was used up before an LM call of the call.
    BudgetExceeded,
    /// What ran the call is gone.
    Lost,
    /// A failure that this crate knows nothing about.
    Other,
}

impl ErrorKind {
    /// Each of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 12] = [
        Self::Elapsed,
        Self::Deadline,
        Self::Cancelled,
        Self::ShuttingDown,
        Self::Overloaded,
        Self::InvalidInput,
        Self::Program,
        Self::LmUnavailable,
        Self::LmRejected,
        Self::BudgetExceeded,
        Self::Lost,
        Self::Other,
    ];
}
