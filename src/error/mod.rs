//! Why a call has no answer.
//!
//! Time and cancellation raise the two small structs [`Elapsed`] and [`Cancelled`]. A layer asks of
//! its inner service only that its error can be made from them (`From`), so a stack keeps the
//! user's own error type, [`Error`], or [`BoxError`](tower::BoxError). Layers that decide by the
//! sort of failure ask for [`Classify`].

mod any;
#[cfg(feature = "lm")]
mod bad_status;
mod budget_exceeded;
mod costs;
mod debug;
mod invalid_input;
mod kind;
mod limits;
mod lm_error;
#[cfg(feature = "lm")]
mod lm_failure;
mod lost;
mod message;
mod overloaded;
mod plural;
mod program_error;
mod sources;

pub use crate::call::ErrorKind;
pub(crate) use any::{carries_costs, costs_in, set_call_id_in, set_costs_in};
#[cfg(feature = "tonic")]
pub(crate) use any::{costs_of, find};
#[cfg(feature = "lm")]
pub use bad_status::BadStatus;
pub use budget_exceeded::BudgetExceeded;
pub(crate) use costs::{Costs, ErrorCosts};
pub(crate) use debug::debug_as_display;
pub use invalid_input::InvalidInput;
pub use kind::Classify;
pub use limits::{Cancelled, Elapsed, Scope, Stage};
pub use lm_error::LmError;
#[cfg(feature = "lm")]
pub use lm_failure::{LmFailure, LmFailureKind};
pub use lost::Lost;
pub(crate) use message::cut;
pub use overloaded::Overloaded;
pub(crate) use plural::counted;
pub use program_error::ProgramError;
#[cfg(feature = "tonic")]
pub(crate) use sources::bare;
#[cfg(feature = "lm")]
pub(crate) use sources::messages;
pub(crate) use sources::sources;

use std::{fmt, sync::Arc, time::Duration};

use crate::call::{CallId, Cause, Spent};

/// What a [`DspyService`](crate::DspyService) and the layers around it answer with when there is no
/// prediction.
///
/// `Debug` is a sentence, as `Display` is, so that an error which `main` returns can be read. It leaves
/// out the messages of Python's exceptions and of providers, which may repeat a prompt: `Display` has
/// them.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A limit passed.
    #[error(transparent)]
    Elapsed(#[from] Elapsed),
    /// The call was stopped before it was done.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The service has as many calls as it may have.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The inputs do not fit the program's schema; nothing ran.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The program raised a Python exception.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The LM failed, and the program passed that on.
    #[error(transparent)]
    Lm(#[from] LmError),
    /// A budget was used up before an LM call, and the program passed that on.
    #[error(transparent)]
    BudgetExceeded(#[from] BudgetExceeded),
    /// The interpreter that ran the call is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.inner(), f)
    }
}

impl Error {
    fn inner(&self) -> &dyn Costs {
        match self {
            Self::Elapsed(error) => error,
            Self::Cancelled(error) => error,
            Self::Overloaded(error) => error,
            Self::InvalidInput(error) => error,
            Self::Program(error) => error,
            Self::Lm(error) => error,
            Self::BudgetExceeded(error) => error,
            Self::Lost(error) => error,
        }
    }

    /// What the call had spent until it ended; `None` if that is nothing: it did not run, or called
    /// no LM, finished no step and left no partial answer.
    #[must_use]
    pub fn spent(&self) -> Option<&Spent> {
        self.costs().map(|spent| &**spent)
    }

    /// The id of the call, if a [`TrackLayer`](crate::TrackLayer), a layer that limits or cancels, or a
    /// program had the call. It is in logs, spans and the tracker, and in the header
    /// [`CallId::HEADER`] of the response.
    #[must_use]
    pub fn call_id(&self) -> Option<CallId> {
        self.inner().carried()?.call_id()
    }

    /// The id that the call had on the other server, if one ran it and failed; a number of that
    /// server's process.
    #[must_use]
    pub fn remote_call_id(&self) -> Option<CallId> {
        self.inner().carried()?.remote_call_id()
    }

    /// The same, of the call with this id; the first id stays.
    #[must_use]
    pub fn with_call_id(mut self, id: impl Into<Option<CallId>>) -> Self {
        self.set_ids(id.into(), None);
        self
    }

    pub(crate) fn set_ids(&mut self, call: Option<CallId>, remote: Option<CallId>) {
        if let Some(carried) = self.carried_mut() {
            carried.set_ids(call, remote);
        }
    }

    /// The same, with what the call had spent.
    #[cfg(any(feature = "_host", feature = "tonic"))]
    pub(crate) fn with_spent(mut self, spent: Option<Arc<Spent>>) -> Self {
        if let Some(spent) = spent {
            self.set_costs(spent);
        }
        self
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        self.inner().kind()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.inner().retry_after()
    }

    fn cancel_cause(&self) -> Option<Cause> {
        self.inner().cancel_cause()
    }

    fn may_have_started(&self) -> bool {
        self.inner().may_have_started()
    }
}

impl Costs for Error {
    fn costs(&self) -> Option<&Arc<Spent>> {
        self.inner().costs()
    }

    fn set_costs(&mut self, spent: Arc<Spent>) {
        match self {
            Self::Elapsed(error) => error.set_costs(spent),
            Self::Cancelled(error) => error.set_costs(spent),
            Self::Program(error) => error.set_costs(spent),
            Self::Lm(error) => error.set_costs(spent),
            Self::BudgetExceeded(error) => error.set_costs(spent),
            Self::Lost(error) => error.set_costs(spent),
            // Nothing ran.
            Self::Overloaded(_) | Self::InvalidInput(_) => {}
        }
    }

    fn carried(&self) -> Option<&ErrorCosts> {
        self.inner().carried()
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        match self {
            Self::Elapsed(error) => error.carried_mut(),
            Self::Cancelled(error) => error.carried_mut(),
            Self::Overloaded(error) => error.carried_mut(),
            Self::InvalidInput(error) => error.carried_mut(),
            Self::Program(error) => error.carried_mut(),
            Self::Lm(error) => error.carried_mut(),
            Self::BudgetExceeded(error) => error.carried_mut(),
            Self::Lost(error) => error.carried_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn debug_is_a_sentence_without_what_may_repeat_a_prompt() {
        let program = ProgramError::new("KeyError", "SECRET", "SECRET");
        let lm = LmError::new("LMAuthError", "SECRET", Some(401), None);
        for error in [Error::from(program), Error::from(lm)] {
            let (printed, said) = (format!("{error:?}"), error.to_string());
            assert!(
                said.contains("SECRET") && !printed.contains("SECRET"),
                "{printed}"
            );
            assert_eq!(printed.lines().count(), 1, "{printed}");
        }
        let limit = Duration::from_secs(4);
        for error in [
            Error::from(Elapsed::new(Scope::Deadline, Stage::Running, limit)),
            Cancelled::new(Cause::Shutdown).into(),
            Overloaded::new("qa", 1, 0).into(),
            InvalidInput::new("qa", None, "no", "yes").into(),
            Lost::new("it was stopped").into(),
        ] {
            assert_eq!(format!("{error:?}"), error.to_string());
        }
    }

    /// Every layer's answer is at least as large as its error, and is moved at each of them.
    #[test]
    fn the_error_type_is_small() {
        assert!(size_of::<Elapsed>() <= 24);
        assert!(size_of::<Cancelled>() <= 16);
        assert!(size_of::<Error>() <= 24);
    }
}
