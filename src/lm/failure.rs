//! The [`LmFailure`] of a failed LM call.

use std::{error::Error as StdError, io};

use super::redact::Redact;
use crate::{
    call::Cause,
    error::{Cancelled, Classify, Elapsed, ErrorKind, LmFailure, LmFailureKind, Scope, sources},
};

impl LmFailure {
    /// The failure among `error` and its sources; else a failure with their messages.
    ///
    /// The errors of a [body](crate::lm::LmBody) become failures again by this.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        Self::found(error)
            .unwrap_or_else(|| Self::saying(error, Redact::new(None).error(error).into()))
    }

    /// The failure that is among `error` and its sources already.
    pub(super) fn found(error: &(dyn StdError + 'static)) -> Option<Self> {
        sources(error).find_map(|error| error.downcast_ref().cloned())
    }

    /// The failure that `error` is, in these words.
    pub(super) fn saying(error: &(dyn StdError + 'static), message: Box<str>) -> Self {
        let kind = kind(error);
        let sort = match ErrorKind::of(error) {
            ErrorKind::Other => kind.sort(),
            known => known,
        };
        Self {
            kind,
            sort,
            message,
            retry_after: None,
        }
    }

    /// The failure of a call that was not sent.
    pub(super) fn refused(message: impl Into<Box<str>>) -> Self {
        Self::new(LmFailureKind::Refused, message)
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

/// The kind of the first among `error` and its sources that knows it; else, if a connection failed, that
/// of an answer that was not complete.
fn kind(error: &(dyn StdError + 'static)) -> LmFailureKind {
    let is_of_connection = |error: &(dyn StdError + 'static)| {
        error.is::<reqwest::Error>() || error.is::<hyper::Error>() || error.is::<io::Error>()
    };
    sources(error)
        .find_map(known)
        .unwrap_or_else(|| match sources(error).any(is_of_connection) {
            true => LmFailureKind::Read,
            false => LmFailureKind::Other,
        })
}

/// What `error` itself says. That a connection failed is said by its sources more exactly.
fn known(error: &(dyn StdError + 'static)) -> Option<LmFailureKind> {
    use LmFailureKind as Kind;
    Some(if let Some(failure) = error.downcast_ref::<LmFailure>() {
        failure.kind
    } else if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
        match elapsed.scope() {
            Scope::Deadline => Kind::Deadline,
            Scope::Attempt
            | Scope::Reserve
            | Scope::Share
            | Scope::FirstContent
            | Scope::Idle
            | Scope::Total => Kind::TotalTimeout,
        }
    } else if error.is::<Cancelled>() {
        Kind::Cancelled
    } else if error.is::<tower::timeout::error::Elapsed>() {
        Kind::TotalTimeout
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        Kind::Refused
    } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => Kind::ConnectTimeout,
            (true, false) => Kind::Connect,
            // A client of the user's, with limits of its own.
            (false, true) => Kind::TotalTimeout,
            (false, false) if error.is_builder() => Kind::Other,
            (false, false) => return None,
        }
    } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_parse().then_some(Kind::Protocol);
    } else {
        let refused = error.downcast_ref::<io::Error>()?.kind() == io::ErrorKind::ConnectionRefused;
        return refused.then_some(Kind::Connect);
    })
}
