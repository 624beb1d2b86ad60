//! The body of a provider's error: what it says beyond its status.
//!
//! Some providers tell only there that a quota is used up, how long to wait, or even that the answer
//! is an error at all: gateways that have begun a 200 before they know.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use serde_json::Value;
use tower::BoxError;

use super::{LmBody, LmResponse, redact::Redact};
use crate::error::BadStatus;

/// The most bytes that are read of a body, padding included.
const MOST: usize = 64 * 1024;
/// The length of the beginning of a body, in bytes, that is searched for `"error"`.
const NEAR: usize = 1024;
/// Once this many bytes have come without the beginning of an error, the body is an answer, so that a
/// stream of JSON is passed on. Fewer bytes decide nothing: a body comes in pieces of any length.
const ENOUGH: usize = 64;

/// Codes and types of a quota that is used up. They come with a 429 too, and waiting does not help.
const USED_UP: [&str; 4] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "exceeded_current_quota_error",
    "1113",
];

/// What an error's body says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LmErrorBody {
    /// The status that it says this is.
    pub(super) status: Option<StatusCode>,
    /// After how long another try makes sense.
    pub(super) retry_after: Option<Duration>,
    pub(super) used_up: bool,
}

impl LmErrorBody {
    pub(super) fn of(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        // Google's streams are lists.
        let error = body.get(0).unwrap_or(&body).get("error");
        let error = error.unwrap_or(&Value::Null);
        let text = |name| match error.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let (code, kind) = (text("code"), text("type"));
        let status = StatusCode::from_bytes(code.as_bytes()).ok();
        // `google.rpc.RetryInfo`.
        let details = error.get("details").and_then(Value::as_array);
        let delay = details.and_then(|details| {
            let mut delays = details.iter().filter_map(|detail| detail.get("retryDelay"));
            delays.next()?.as_str()?.strip_suffix('s')?.parse().ok()
        });
        Self {
            status: status.filter(|code| code.is_client_error() || code.is_server_error()),
            retry_after: delay.and_then(|delay| Duration::try_from_secs_f64(delay).ok()),
            used_up: USED_UP.iter().any(|name| [&*code, &*kind].contains(name)),
        }
    }
}

/// The answer, if its body is not an error after all.
///
/// Only JSON is looked into, and it is read to its end only where it begins as an error does: nothing
/// is held back of a stream of events, or of an answer.
pub(super) async fn look(answer: LmResponse, redact: Redact<'_>) -> Result<LmResponse, BadStatus> {
    if !is_json(answer.headers()) {
        return Ok(answer);
    }
    let (head, mut rest) = answer.into_parts();
    let (mut frames, mut error) = (Vec::new(), ErrorReader::of(&head.headers));
    while error.reads_on() && read_on(&mut rest, &mut frames, &mut error).await {}
    if let Some(status) = error.status() {
        return Err(BadStatus::in_body(status, head, &error.text, redact));
    }
    let frames = stream::iter(frames).chain(BodyStream::new(rest));
    let body = LmBody::new(StreamBody::new(frames));
    Ok(LmResponse::from_parts(head, body))
}

/// Reads the body of an answer as long as it may be an error, although its status is that of a success.
#[derive(Debug, Default)]
pub(super) struct ErrorReader {
    text: BytesMut,
    /// How much of it is white space.
    blank: usize,
    /// `None` as long as too little is there to tell.
    begins_as_error: Option<bool>,
}

impl ErrorReader {
    /// A reader of the body below this head.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            begins_as_error: (!is_json(headers)).then_some(false),
            ..Self::default()
        }
    }

    /// Whether the rest of the body matters.
    fn reads_on(&self) -> bool {
        self.begins_as_error.unwrap_or(true) && self.text.len() <= MOST
    }

    /// Reads a piece.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if !self.reads_on() {
            return;
        }
        self.text.extend_from_slice(bytes);
        if self.begins_as_error.is_none() {
            let rest = self.text[self.blank..].trim_ascii_start();
            self.blank = self.text.len() - rest.len();
            let begins_as_error = begins_as_error(rest);
            let tells = begins_as_error || rest.len() >= ENOUGH;
            self.begins_as_error = tells.then_some(begins_as_error);
            if self.begins_as_error == Some(false) {
                self.text = BytesMut::new();
            }
        }
    }

    /// The status that the whole body says this is.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self.begins_as_error {
            Some(true) => LmErrorBody::of(&self.text).status,
            _ => None,
        }
    }
}

/// Reads a frame of the body; false at the end, and where it breaks.
async fn read_on(
    body: &mut LmBody,
    frames: &mut Vec<Result<Frame<Bytes>, BoxError>>,
    error: &mut ErrorReader,
) -> bool {
    let Some(frame) = body.frame().await else {
        return false;
    };
    let ok = frame.is_ok();
    if let Ok(Some(data)) = frame.as_ref().map(Frame::data_ref) {
        // Without a byte it says nothing, and a server may send any number of them.
        if data.is_empty() {
            return ok;
        }
        error.read(data);
    }
    frames.push(frame);
    ok
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"application/json"))
}

/// Whether an object that is called `error` comes soon. In a text of the model the quotes would be
/// escaped.
fn begins_as_error(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let text = &text[..text.len().min(NEAR)];
    let name = b"\"error\"";
    let found = text.windows(name.len()).position(|part| part == name);
    let after = found.and_then(|at| {
        text[at + name.len()..]
            .trim_ascii_start()
            .strip_prefix(b":")
    });
    after.is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
}

/// Reads bytes as the body of an error, and takes keys out of them. For the fuzz target `error_bodies`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn read_error_bytes(bytes: &[u8]) {
    let is_error = |status: StatusCode| status.is_client_error() || status.is_server_error();
    assert!(LmErrorBody::of(bytes).status.is_none_or(is_error));
    let mut reader = ErrorReader::default();
    for piece in bytes.chunks(7) {
        reader.read(piece);
    }
    assert!(reader.status().is_none_or(is_error));
    let redact = Redact::new(None);
    let once = redact.body(bytes, MOST);
    assert!(once.len() <= MOST);
    // What was taken out is out.
    assert_eq!(redact.body(&once, MOST), once);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> LmErrorBody {
        LmErrorBody::of(body.as_bytes())
    }

    #[test]
    fn an_exhausted_quota_is_distinguished_from_a_rate_limit() {
        for body in [
            r#"{"error":{"code":"insufficient_quota","type":"insufficient_quota"}}"#,
            r#"{"error":{"code":null,"type":"insufficient_quota"}}"#,
            r#"{"error":{"code":"billing_hard_limit_reached","message":"m"}}"#,
        ] {
            assert!(read(body).used_up, "{body}");
        }
        for body in [
            r#"{"error":{"code":"rate_limit_exceeded","message":"insufficient_quota"}}"#,
            r#"{"error":"insufficient_quota"}"#,
            "insufficient_quota",
            "",
        ] {
            assert_eq!(read(body), LmErrorBody::default(), "{body}");
        }
    }

    #[test]
    fn the_retry_delay_of_google_is_read() {
        let body = |delay: &str| {
            format!(
                r#"{{"error":{{"code":429,"details":[{{"@type":"x/google.rpc.Help"}},
                    {{"@type":"x/google.rpc.RetryInfo","retryDelay":"{delay}"}}]}}}}"#
            )
        };
        for (delay, seconds) in [("34s", Some(34.0)), ("0.5s", Some(0.5)), ("0s", Some(0.0))] {
            let expected = seconds.map(Duration::from_secs_f64);
            assert_eq!(read(&body(delay)).retry_after, expected);
            assert_eq!(read(&format!("[{}]", body(delay))).retry_after, expected);
        }
        for nonsense in ["34", "s", "-1s", "NaNs", "1e300s", ""] {
            assert_eq!(read(&body(nonsense)).retry_after, None, "{nonsense}");
        }
    }

    #[test]
    fn only_an_error_status_is_read_from_a_body() {
        for (code, status) in [
            ("429", Some(429)),
            ("\"402\"", Some(402)),
            ("200", None),
            ("1305", None),
            ("4e2", None),
            ("-429", None),
        ] {
            let body = format!(r#"{{"error":{{"code":{code}}}}}"#);
            let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
            assert_eq!(read(&body).status, status, "{code}");
        }
    }

    #[test]
    fn an_error_is_recognised_however_its_body_is_cut() {
        let body = br#" {"error":{"code":429,"message":"slow down"}}"#;
        for length in 1..body.len() {
            let mut reader = ErrorReader::default();
            for piece in body.chunks(length) {
                assert!(reader.reads_on());
                reader.read(piece);
            }
            assert_eq!(
                reader.status(),
                Some(StatusCode::TOO_MANY_REQUESTS),
                "{length}"
            );
        }
    }

    #[test]
    fn an_answer_is_read_no_further_than_it_takes_to_tell() {
        let mut reader = ErrorReader::default();
        reader.read(br#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":"#);
        assert!(!reader.reads_on());
        assert_eq!(reader.status(), None);
    }

    #[test]
    fn only_an_error_object_near_the_beginning_counts() {
        for (text, is) in [
            (r#"{"error":{"code":429}}"#, true),
            ("\n  \n{ \"id\": 1, \"error\" : {", true),
            (r#"{"error":null,"output":[]}"#, false),
            (r#"{"content":"{\"error\":{\"code\":429}}"}"#, false),
            (r#"{"error":"a text"}"#, false),
            ("", false),
        ] {
            assert_eq!(begins_as_error(text.as_bytes()), is, "{text}");
        }
        let far = format!("{}\"error\":{{", " x".repeat(NEAR));
        assert!(!begins_as_error(far.as_bytes()));
    }
}
