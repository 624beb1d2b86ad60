//! How a failed LM call becomes an [`LmFailure`].

use std::{error::Error as StdError, io};

use super::redact::Redact;
use crate::{
    call::Cause,
    error::{Cancelled, Classify, Elapsed, ErrorKind, LmFailure, LmFailureKind, Scope},
};

impl LmFailureKind {
    /// The kind of `error`, which is that of the first among it and its sources that tells one.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        sort(error).0
    }
}

impl LmFailure {
    /// The failure that `error` is, or holds among its sources; else one that says what they say.
    ///
    /// The errors of a [body](crate::lm::LmBody) become failures again by this.
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
