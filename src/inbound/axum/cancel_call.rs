//! [`cancel_call`]: the cancellation of a call by its id, from another service.

use std::time::Duration;

use ::axum::{
    extract::{Path, RawQuery},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete},
};
use http::StatusCode;
use tokio::time::timeout;

use crate::{
    call::{
        CallId,
        deadline::{InvalidTimeout, RequestTimeout},
    },
    inbound::respond::ErrorResponse,
    layers::track::{Cancellation, Tracker},
};

/// The longest wait that a request may ask for.
const MOST_WAIT: Duration = Duration::from_secs(60);

/// Answers DELETE requests by cancelling the call whose [id](CallId) is the parameter of the path, as
/// [`Tracker::cancel`] does: with [`Cause::Caller`](crate::Cause::Caller).
///
/// | status | meaning |
/// |---|---|
/// | 202 Accepted | the call is signalled to stop, now or before, and its work may go on |
/// | 204 No Content | it was, and all its work has ended, the clean-up code in Python too |
/// | 400 Bad Request | the path has no id, or the wait cannot be read |
/// | 404 Not Found | no call of this id is under way; it may have ended, or be another process's |
/// | 409 Conflict | the call is only [observed](crate::TrackLayer::observe_only), and cannot be cancelled |
///
/// With the query `wait=5s`, which is written as an [`x-request-timeout`](RequestTimeout), it waits for
/// the end of the work, 60 s at most, and answers by 202 if that takes longer. Without one it answers
/// at once.
///
/// ```
/// use axum::{Router, routing::post};
/// use tower_dspy::{Tracker, inbound::axum::cancel_call};
///
/// let tracker = Tracker::new(); // that of the programs' `TrackLayer`s
/// let internal: Router = Router::new().route("/calls/{id}", cancel_call(tracker));
/// ```
///
/// # Who may cancel
/// Everyone who reaches the route, and any call of the tracker: ids ascend, so the next one is known to
/// all who have seen one. Put a layer of yours before it that knows who asks, or serve it at an address
/// of its own. Outside of an [`InboundLayer`](crate::InboundLayer), its responses have no id themselves.
pub fn cancel_call<T>(tracker: Tracker) -> MethodRouter<T>
where
    T: Clone + Send + Sync + 'static,
{
    delete(move |Path(id): Path<String>, RawQuery(query)| async move {
        match (id.parse(), wait(query.as_deref())) {
            (Ok(id), Ok(wait)) => cancel(&tracker, id, wait).await,
            (Err(wrong), _) => refused(StatusCode::BAD_REQUEST, wrong.to_string()),
            (_, Err(wrong)) => refused(StatusCode::BAD_REQUEST, wrong.to_string()),
        }
    })
}

async fn cancel(tracker: &Tracker, id: CallId, wait: Option<Duration>) -> Response {
    let cancellation = match cancelled(tracker, id) {
        Ok(cancellation) => cancellation,
        Err((status, detail)) => return refused(status, detail),
    };
    let settled = match wait {
        Some(wait) => timeout(wait, cancellation.settled()).await.is_ok(),
        None => false,
    };
    let status = if settled {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::ACCEPTED
    };
    status.into_response()
}

/// Cancels the call of this id; else returns why it cannot be cancelled.
pub(crate) fn cancelled(
    tracker: &Tracker,
    id: CallId,
) -> Result<Cancellation, (StatusCode, String)> {
    let cancellation = tracker.cancel(id);
    if !cancellation.found() {
        let detail = format!("no call {id} is under way here");
        return Err((StatusCode::NOT_FOUND, detail));
    }
    let before = || {
        tracker
            .get(id)
            .is_none_or(|call| call.status.is_finished() || call.stopping.is_some())
    };
    if !cancellation.signalled() && !before() {
        let detail = format!("the call {id} is only observed");
        return Err((StatusCode::CONFLICT, detail));
    }
    Ok(cancellation)
}

fn refused(status: StatusCode, detail: String) -> Response {
    ErrorResponse::refused(status, detail).into_response()
}

/// How long a request is to wait.
fn wait(query: Option<&str>) -> Result<Option<Duration>, InvalidTimeout> {
    let mut members = query.unwrap_or_default().split('&');
    let Some(wait) = members.find_map(|member| member.strip_prefix("wait=")) else {
        return Ok(None);
    };
    let wait: RequestTimeout = wait.parse()?;
    Ok(Some(wait.duration().min(MOST_WAIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_among_other_members_and_is_bounded() {
        let secs = |secs| Ok(Some(Duration::from_secs(secs)));
        assert_eq!(wait(None), Ok(None));
        assert_eq!(wait(Some("a=1&b")), Ok(None));
        assert_eq!(wait(Some("a=1&wait=5s")), secs(5));
        assert!(wait(Some("wait=1h")).is_err());
        assert_eq!(wait(Some("wait=9999")), secs(60));
    }
}
