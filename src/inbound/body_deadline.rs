//! [`BodyDeadline`]: until when a server reads the body of a request.

use std::sync::{Arc, OnceLock};

use tower::BoxError;

use super::respond::ErrorResponse;
use crate::call::Deadline;

/// The deadline of a call, for the body of its request: a server puts it into the request's
/// extensions, [`InboundLayer`](crate::InboundLayer) sets it, and the body ends with an error then.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyDeadline(Arc<OnceLock<Deadline>>);

impl BodyDeadline {
    pub(super) fn set(&self, deadline: Deadline) {
        // Where two layers are nested, that of the outer one holds.
        let _ = self.0.set(deadline);
    }

    pub(crate) fn get(&self) -> Option<Deadline> {
        self.0.get().copied()
    }

    /// The error of a body that has not come by then, which tonic answers as it is.
    pub(crate) fn error() -> BoxError {
        let refused = ErrorResponse::slow_body();
        #[cfg(feature = "tonic")]
        return tonic::Status::from(refused).into();
        #[cfg(not(feature = "tonic"))]
        refused.detail().into()
    }
}
