//! [`BadStatus`]: an answer that is an error, as the layers of an [`Lm`](crate::Lm) see it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, StatusCode, Version,
    header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING},
    response::Parts,
};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::{LmResponse, error_body::ErrorBody, http::body, redact::Redact};
use crate::{
    call::{Cause, drop_scope},
    error::{Classify, ErrorKind, LmError},
};

/// The most of an error's body that is kept.
const MOST: usize = 64 * 1024;
/// More of it is read, so that no key is cut in two before it is looked for.
const BEYOND: usize = 4 * 1024;
/// How long the body of an error is waited for: its status is known, and a retry waits for this.
const LONGEST: Duration = Duration::from_secs(5);

/// A provider answered with a status of 400 or more, be it in the body of a 200, as gateways do that
/// have begun their answer before they know.
///
/// To the layers around the HTTP client such an answer is an error, so that a retry or a fallback
/// layer acts on a 429 or a 503 and finds its Retry-After. If it is still the outcome outside all
/// layers, it becomes the provider's answer again, for DSPy to read; with a Retry-After where only
/// its body asks for one.
#[derive(Clone)]
pub struct BadStatus {
    status: StatusCode,
    /// Of the answer's head.
    answered: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    says: ErrorBody,
}

impl BadStatus {
    /// Reads the answer to its end, which leaves its connection free for the next call. If it
    /// breaks off, or does not end soon, the status is still known, and says more than that.
    pub(super) async fn read(answer: LmResponse, redact: &Redact) -> Self {
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
        let status = head.status;
        Self::in_body(head, status, &bytes, redact)
    }

    /// An answer whose body says that it is an error of this status.
    pub(super) fn in_body(head: Parts, status: StatusCode, bytes: &[u8], redact: &Redact) -> Self {
        let mut headers = head.headers;
        redact.headers(&mut headers);
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
        let body = redact.body(bytes, MOST);
        headers.insert(CONTENT_LENGTH, body.len().into());
        Self {
            status,
            answered: head.status,
            version: head.version,
            headers,
            says: ErrorBody::of(&body),
            body,
        }
    }

    /// The status, or the one that the body of a 200 says.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of the answer.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The answer that it was.
    pub(super) fn to_answer(&self) -> LmResponse {
        let mut answer = http::Response::new(body(Full::new(self.body.clone())));
        *answer.status_mut() = self.answered;
        *answer.version_mut() = self.version;
        *answer.headers_mut() = self.headers.clone();
        // DSPy does not look into bodies for it, and layers around the program go by what DSPy says.
        if self.in_headers().is_none()
            && let Some(wait) = self.says.retry_after
        {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }

    /// The wait that the headers ask for.
    fn in_headers(&self) -> Option<Duration> {
        let text = |name| self.headers.get(name)?.to_str().ok();
        // The first is OpenAI's, and finer.
        if let Some(millis) = text("retry-after-ms").and_then(|millis| millis.trim().parse().ok()) {
            return Duration::try_from_secs_f64(f64::max(millis, 0.0) / 1000.0).ok();
        }
        let after = text(RETRY_AFTER.as_str())?.trim();
        if let Ok(seconds) = after.parse() {
            return Duration::try_from_secs_f64(f64::max(seconds, 0.0)).ok();
        }
        let at = httpdate::parse_http_date(after).ok()?;
        // A date that has passed asks for no wait.
        Some(at.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl Classify for BadStatus {
    fn kind(&self) -> ErrorKind {
        if self.says.used_up {
            return ErrorKind::LmRejected;
        }
        LmError::kind_of_status(Some(self.status.as_u16()))
    }

    fn retry_after(&self) -> Option<Duration> {
        self.in_headers().or(self.says.retry_after)
    }
}

impl std::error::Error for BadStatus {}

impl fmt::Display for BadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the LM provider answered {}", self.status)
    }
}

/// Leaves out headers and body, which may repeat the prompt.
impl fmt::Debug for BadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BadStatus")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&'static str, &str)]) -> BadStatus {
        let headers = headers.iter().map(|(name, value)| {
            let value = value.parse().expect("a header");
            (http::HeaderName::from_static(name), value)
        });
        BadStatus {
            status: StatusCode::TOO_MANY_REQUESTS,
            answered: StatusCode::TOO_MANY_REQUESTS,
            version: Version::HTTP_11,
            headers: headers.collect(),
            body: Bytes::new(),
            says: ErrorBody::default(),
        }
    }

    #[test]
    fn each_form_of_retry_after_is_read() {
        let seconds = |n| Some(Duration::from_secs_f64(n));
        assert_eq!(answer(&[("retry-after", "7")]).retry_after(), seconds(7.0));
        assert_eq!(answer(&[("retry-after", "-1")]).retry_after(), seconds(0.0));
        assert_eq!(
            answer(&[("retry-after", "NaN")]).retry_after(),
            seconds(0.0)
        );
        let both = answer(&[("retry-after", "7"), ("retry-after-ms", "1500")]);
        assert_eq!(both.retry_after(), seconds(1.5));
        let past = answer(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(past.retry_after(), seconds(0.0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let wait = answer(&[("retry-after", &soon)]).retry_after();
        assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(60) && wait.as_secs() > 50));
        for nonsense in ["soon", "inf", "1e300"] {
            assert_eq!(answer(&[("retry-after", nonsense)]).retry_after(), None);
        }
    }

    #[test]
    fn what_is_worth_another_try_says_so() {
        let mut bad = answer(&[]);
        assert_eq!(bad.kind(), ErrorKind::LmUnavailable);
        bad.status = StatusCode::UNAUTHORIZED;
        assert_eq!(bad.kind(), ErrorKind::LmRejected);
    }
}
