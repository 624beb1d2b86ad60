//! Why an LM call has no answer: [`LmFailure`].

use std::{error::Error as StdError, io};

use tower::BoxError;

use super::redact::Redact;
use crate::{Cancelled, Cause, Classify, Elapsed, ErrorKind, Scope};

/// In which way an LM call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LmFailureKind {
    /// No connection came about: nothing listens, no such host, or TLS was not agreed upon.
    Connect,
    /// No connection came about in time: [`LmLimits::connect`](super::LmLimits).
    ConnectTimeout,
    /// The head of the answer was not there in time: [`LmLimits::first_byte`](super::LmLimits).
    FirstByteTimeout,
    /// The body of the answer paused for too long: [`LmLimits::idle`](super::LmLimits).
    IdleTimeout,
    /// The call took too long: [`LmLimits::total`](super::LmLimits), or a layer's limit of time.
    TotalTimeout,
    /// The deadline of the program's call, less the reserve, passed while the LM call ran.
    Deadline,
    /// The program's call was cancelled while the LM call ran.
    Cancelled,
    /// It was not sent at all: too late, cancelled, shed, or about to take the key elsewhere.
    Refused,
    /// The connection ended, or broke, before the answer was complete.
    Read,
    /// What came was no HTTP.
    Protocol,
    /// A failure that this crate knows nothing about.
    Other,
}

impl LmFailureKind {
    /// The kind of `error`, which is that of the first among it and its sources that tells one.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        sort(error).0
    }
}

/// An LM call failed without an answer of the provider.
///
/// Its message says what happened to which host, with neither key nor prompt: what the errors it
/// was made of say is redacted and cut short, so it has no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LmFailure {
    kind: LmFailureKind,
    sort: ErrorKind,
    message: Box<str>,
}

impl LmFailure {
    pub(super) fn new(kind: LmFailureKind, sort: ErrorKind, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            sort,
            message: message.into(),
        }
    }

    /// The failure that `error` is: one that it holds already, or else what it says.
    pub(super) fn from_error(error: &BoxError, redact: &Redact) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = Some(&**error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return failure.clone();
            }
            next = error.source();
        }
        let (kind, sort) = sort(&**error);
        Self::new(kind, sort, redact.error(&**error))
    }

    /// The call was stopped because of `cause`, or not even begun.
    pub(super) fn cancelled(cause: Cause, begun: bool) -> Self {
        let sort = Cancelled::new(cause).kind();
        if begun {
            let message = format!("the LM call was stopped because its call was ended ({cause})");
            Self::new(LmFailureKind::Cancelled, sort, message)
        } else {
            let message = format!("no LM call was made: its call had been ended ({cause})");
            Self::new(LmFailureKind::Refused, sort, message)
        }
    }

    /// In which way the call failed.
    #[must_use]
    pub const fn kind(&self) -> LmFailureKind {
        self.kind
    }

    /// What happened; without key, prompt, or a provider's body.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Classify for LmFailure {
    fn kind(&self) -> ErrorKind {
        self.sort
    }
}

type Sorted = (LmFailureKind, ErrorKind);

/// Asks `error` and its sources, from the outermost on. One that knows only roughly what happened,
/// as a client's error does, leaves it to those inside it to know better.
fn sort(error: &(dyn StdError + 'static)) -> Sorted {
    let mut rough = None;
    let mut next = Some(error);
    while let Some(error) = next {
        match known(error) {
            Some((sorted, true)) => return sorted,
            Some((sorted, false)) => rough = Some(rough.unwrap_or(sorted)),
            None => {}
        }
        next = error.source();
    }
    rough.unwrap_or((LmFailureKind::Other, ErrorKind::Other))
}

/// What `error` itself says, and whether that is for sure.
fn known(error: &(dyn StdError + 'static)) -> Option<(Sorted, bool)> {
    use LmFailureKind as Kind;
    let away = |kind| (kind, ErrorKind::LmUnavailable);
    Some(if let Some(error) = error.downcast_ref::<LmFailure>() {
        ((error.kind, error.sort), true)
    } else if let Some(error) = error.downcast_ref::<Elapsed>() {
        let kind = match error.scope() {
            Scope::Deadline => Kind::Deadline,
            Scope::Attempt | Scope::Reserve => Kind::TotalTimeout,
        };
        ((kind, error.kind()), true)
    } else if let Some(error) = error.downcast_ref::<Cancelled>() {
        ((Kind::Cancelled, error.kind()), true)
    } else if error.is::<tower::timeout::error::Elapsed>() {
        ((Kind::TotalTimeout, ErrorKind::Elapsed), true)
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        ((Kind::Refused, ErrorKind::Overloaded), true)
    } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        if error.is_connect() && error.is_timeout() {
            ((Kind::ConnectTimeout, ErrorKind::Elapsed), true)
        } else if error.is_connect() {
            (away(Kind::Connect), true)
        } else if error.is_builder() {
            ((Kind::Other, ErrorKind::Other), true)
        } else {
            (away(Kind::Read), false)
        }
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        let protocol = error.is_parse();
        (
            away(if protocol { Kind::Protocol } else { Kind::Read }),
            protocol,
        )
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => (away(Kind::Connect), true),
            _ => (away(Kind::Read), false),
        }
    } else {
        return None;
    })
}
