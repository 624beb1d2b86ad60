//! Why an LM call has no answer: [`LmFailure`].

use std::{error::Error as StdError, io};

use super::redact::Redact;
use crate::{
    call::Cause,
    error::{Cancelled, Classify, Elapsed, ErrorKind, Scope},
};

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
    /// What came was no HTTP, or not encoded as its head says.
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

    const fn sort(self) -> ErrorKind {
        match self {
            Self::Connect | Self::Read | Self::Protocol => ErrorKind::LmUnavailable,
            Self::ConnectTimeout
            | Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout => ErrorKind::Elapsed,
            Self::Deadline => ErrorKind::Deadline,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Refused => ErrorKind::LmRejected,
            Self::Other => ErrorKind::Other,
        }
    }
}

/// An LM call failed without an answer of the provider.
///
/// Its message says what happened, without the key: what the errors that it was made of say is
/// redacted and cut short, so it has no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LmFailure {
    kind: LmFailureKind,
    sort: ErrorKind,
    message: Box<str>,
}

impl LmFailure {
    /// A failure of this kind, as a mock in a test raises one.
    pub fn new(kind: LmFailureKind, message: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            sort: kind.sort(),
            message: message.into(),
        }
    }

    /// The failure that `error` is, or holds among its sources; else one that says what they say.
    ///
    /// The errors of a [body](super::LmBody) become failures again by this.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        Self::found(error)
            .unwrap_or_else(|| Self::saying(error, Redact::default().error(error).into()))
    }

    /// The failure that is among `error` and its sources already.
    pub(super) fn found(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure.clone());
            }
            next = error.source();
        }
        None
    }

    /// The failure that `error` is, in these words.
    pub(super) fn saying(error: &(dyn StdError + 'static), message: Box<str>) -> Self {
        let (kind, sort) = sort(error);
        Self {
            kind,
            sort,
            message,
        }
    }

    /// The call was stopped because of `cause`, or not even begun.
    pub(super) fn cancelled(cause: Cause, begun: bool) -> Self {
        let (kind, message) = if begun {
            let message = format!("the LM call was stopped because its call was ended ({cause})");
            (LmFailureKind::Cancelled, message)
        } else {
            let message = format!("no LM call was made: its call had been ended ({cause})");
            (LmFailureKind::Refused, message)
        };
        Self::new(kind, message).sorted(Cancelled::new(cause).kind())
    }

    /// The failure as one of another [`ErrorKind`] than its kind mostly is, as a layer of yours
    /// makes one. A refused call, for example, is [`ErrorKind::LmRejected`] unless said otherwise.
    #[must_use]
    pub fn sorted(mut self, sort: ErrorKind) -> Self {
        self.sort = sort;
        self
    }

    /// Whether it is the deadline that was to blame.
    pub(super) fn is_late(&self) -> bool {
        self.sort == ErrorKind::Deadline
    }

    /// In which way the call failed.
    #[must_use]
    pub const fn kind(&self) -> LmFailureKind {
        self.kind
    }

    /// What happened; without the key, or a provider's body.
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
    let (kind, sure) = if let Some(failure) = error.downcast_ref::<LmFailure>() {
        return Some(((failure.kind, failure.sort), true));
    } else if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
        match elapsed.scope() {
            Scope::Deadline => (Kind::Deadline, true),
            Scope::Attempt | Scope::Reserve | Scope::Share => (Kind::TotalTimeout, true),
        }
    } else if let Some(cancelled) = error.downcast_ref::<Cancelled>() {
        return Some(((Kind::Cancelled, cancelled.kind()), true));
    } else if error.is::<tower::timeout::error::Elapsed>() {
        (Kind::TotalTimeout, true)
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        return Some(((Kind::Refused, ErrorKind::Overloaded), true));
    } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => (Kind::ConnectTimeout, true),
            (true, false) => (Kind::Connect, true),
            // A client of the user's, with limits of its own.
            (false, true) => (Kind::TotalTimeout, true),
            (false, false) if error.is_builder() => (Kind::Other, true),
            (false, false) => (Kind::Read, false),
        }
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_parse() {
            (Kind::Protocol, true)
        } else {
            (Kind::Read, false)
        }
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => (Kind::Connect, true),
            _ => (Kind::Read, false),
        }
    } else {
        return None;
    };
    Some(((kind, kind.sort()), sure))
}
