//! A `tonic::Status` as an error of this crate's kinds.

use std::{error::Error as StdError, time::Duration};

use tonic::{Code, Status};

use super::details;
use crate::error::{Classify, ErrorKind, Stage, find};

/// That of its source, where it was made in this process of one of this crate's errors. A status
/// that came over the wire is read by its details, if a server of this crate wrote it, and else by
/// its code.
///
/// What a server that shuts down refuses is [`Lost`](ErrorKind::Lost) here, and not
/// [`ShuttingDown`](ErrorKind::ShuttingDown): that is another process, and there may be others.
impl Classify for Status {
    fn kind(&self) -> ErrorKind {
        if let Some(source) = self.source()
            && let kind = ErrorKind::of(source)
            && kind != ErrorKind::Other
        {
            return kind;
        }
        match details::StatusDetails::of(self).map(|details| details.kind) {
            Some(ErrorKind::ShuttingDown) => return ErrorKind::Lost,
            Some(kind) => return kind,
            None => {}
        }
        match self.code() {
            Code::DeadlineExceeded => ErrorKind::Deadline,
            Code::Cancelled => ErrorKind::Cancelled,
            Code::ResourceExhausted => ErrorKind::Overloaded,
            Code::InvalidArgument => ErrorKind::InvalidInput,
            Code::Unavailable => ErrorKind::Lost,
            _ => ErrorKind::Other,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let known = self.source().and_then(find);
        known
            .and_then(|error| error.retry_after())
            .or_else(|| details::retry_after(self))
    }

    fn may_have_started(&self) -> bool {
        if let Some(known) = self.source().and_then(find) {
            return known.may_have_started();
        }
        details::StatusDetails::of(self).is_none_or(|details| match details.kind {
            ErrorKind::Overloaded | ErrorKind::InvalidInput => false,
            _ => details.stage() == Stage::Running,
        })
    }
}
