//! [`BadStatus`]: an answer that is an error, as the layers of an [`Lm`](crate::Lm) see it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};

use super::{Classify, ErrorKind, LmError};

/// A provider answered with a status of 400 or more, be it in the body of a 200, as gateways do that
/// have begun their answer before they know.
///
/// To the layers around the HTTP client such an answer is an error, so that a retry or a fallback
/// layer acts on a 429 or a 503 and finds its Retry-After. If it is still the outcome outside all
/// layers, it becomes the provider's answer again, for DSPy to read; with a Retry-After where only
/// its body, or the reset of a rate limit in its headers, asks for one.
#[derive(Clone, thiserror::Error)]
#[error("the LM provider answered {status}")]
pub struct BadStatus {
    pub(crate) status: StatusCode,
    pub(crate) answer: Response<Bytes>,
    /// The wait that the body asks for, or the reset of a rate limit in the headers of a 429.
    pub(crate) inferred_retry_after: Option<Duration>,
    /// The body says that a quota is used up.
    pub(crate) used_up: bool,
}

impl BadStatus {
    /// The status of the response, or the status in the body of a 200.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// The wait that a Retry-After asks for.
    pub(crate) fn header_retry_after(&self) -> Option<Duration> {
        let text = |name| self.headers().get(name)?.to_str().ok();
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
        if self.used_up {
            return ErrorKind::LmRejected;
        }
        LmError::kind_of_status(Some(self.status.as_u16()))
    }

    fn retry_after(&self) -> Option<Duration> {
        self.header_retry_after().or(self.inferred_retry_after)
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
        let mut answer = Response::new(Bytes::new());
        for (name, value) in headers {
            answer
                .headers_mut()
                .insert(*name, value.parse().expect("a header"));
        }
        BadStatus {
            status: StatusCode::TOO_MANY_REQUESTS,
            answer,
            inferred_retry_after: None,
            used_up: false,
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
    fn a_retryable_status_is_marked_retryable() {
        let mut bad = answer(&[]);
        assert_eq!(bad.kind(), ErrorKind::LmUnavailable);
        bad.status = StatusCode::UNAUTHORIZED;
        assert_eq!(bad.kind(), ErrorKind::LmRejected);
    }
}
