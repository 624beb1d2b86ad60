//! The [`BadStatus`] of a provider's answer, and the answer of a [`BadStatus`].

use std::time::Duration;

use bytes::BytesMut;
use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING},
    response::Parts,
};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::{LmResponse, error_body::LmErrorBody, http::LmBody, rate_headers, redact::Redact};
use crate::{
    call::{Cause, drop_scope},
    error::BadStatus,
};

/// The most of an error's body that is kept.
const MOST: usize = 64 * 1024;
/// More of it is read, so that no key is cut in two before it is looked for.
const BEYOND: usize = 4 * 1024;
/// How long the body of an error is waited for: its status is known, and a retry waits for this.
const LONGEST: Duration = Duration::from_secs(5);

impl BadStatus {
    /// Reads the answer to its end, which leaves its connection free for the next call. If it
    /// breaks off, or does not end soon, the status is still known, and says more than that.
    pub(super) async fn read(answer: LmResponse, redact: Redact<'_>) -> Self {
        let (head, mut reader) = answer.into_parts();
        let mut bytes = BytesMut::new();
        let read = async {
            while bytes.len() < MOST + BEYOND
                && let Some(Ok(frame)) = reader.frame().await
            {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
        };
        // What has come by then is kept.
        if timeout(LONGEST, read).await.is_err() {
            drop_scope::with(Cause::Elapsed, || drop(reader));
        }
        bytes.truncate(MOST + BEYOND);
        Self::in_body(head.status, head, &bytes, redact)
    }

    /// An answer whose body says that it is an error of this status.
    pub(super) fn in_body(
        status: StatusCode,
        mut head: Parts,
        bytes: &[u8],
        redact: Redact<'_>,
    ) -> Self {
        let body = redact.body(bytes, MOST);
        redact.headers(&mut head.headers);
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.insert(CONTENT_LENGTH, body.len().into());
        let said = LmErrorBody::of(&body);
        let rate_limit = || match status {
            StatusCode::TOO_MANY_REQUESTS => rate_headers::wait(&head.headers),
            _ => None,
        };
        let inferred_retry_after = said.retry_after.or_else(rate_limit);
        Self {
            status,
            answer: Response::from_parts(head, body),
            inferred_retry_after,
            used_up: said.used_up,
        }
    }

    /// The answer that it was.
    pub(super) fn to_answer(&self) -> LmResponse {
        let answer = self.answer.clone();
        let mut answer = answer.map(|body| LmBody::new(Full::new(body)));
        // DSPy looks for it nowhere else, and layers around the program go by what DSPy says.
        if self.header_retry_after().is_none()
            && let Some(wait) = self.inferred_retry_after
        {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}
