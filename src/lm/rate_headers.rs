//! The headers in which a provider tells how much of its rate limits is left.
//!
//! | headers | of | reset |
//! |---|---|---|
//! | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | [OpenAI](https://platform.openai.com/docs/guides/rate-limits), Azure, Groq, xAI and others | the time until then: `6m0s`, `12ms`, or seconds |
//! | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` | [Anthropic](https://docs.anthropic.com/en/api/rate-limits) | an instant of RFC 3339 |

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// The limits that each provider tells, as its headers name them.
const KINDS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];
/// A longer wait is no rate limit's.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is left of one rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RateLeft {
    pub(super) remaining: Option<u64>,
    /// The time until it is whole again.
    pub(super) reset: Option<Duration>,
}

impl RateLeft {
    /// That of the limit of tokens.
    pub(super) fn of_tokens(headers: &HeaderMap) -> Self {
        Self::of(headers, "tokens")
    }

    fn of(headers: &HeaderMap, kind: &str) -> Self {
        let text = |part: &str| {
            let openai = headers.get(format!("x-ratelimit-{part}-{kind}"));
            let header =
                openai.or_else(|| headers.get(format!("anthropic-ratelimit-{kind}-{part}")));
            header.and_then(|value| value.to_str().ok()).map(str::trim)
        };
        Self {
            // Azure has -1 for a limit that it does not tell.
            remaining: text("remaining").and_then(|remaining| remaining.parse().ok()),
            reset: text("reset").and_then(reset),
        }
    }
}

/// The time until the limits that are used up are whole again; `None` if the headers tell of none.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let limits = KINDS.iter().map(|kind| RateLeft::of(headers, kind));
    let used_up = limits.filter(|left| left.remaining == Some(0));
    used_up.filter_map(|left| left.reset).max()
}

/// The time until an instant, or a time as Go writes it, or seconds.
fn reset(text: &str) -> Option<Duration> {
    let time = match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => match humantime::parse_rfc3339(text) {
            // An instant that has passed asks for no wait.
            Ok(at) => at.duration_since(SystemTime::now()).unwrap_or_default(),
            Err(_) => humantime::parse_duration(text).ok()?,
        },
    };
    (time <= LONGEST).then_some(time)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        let headers = headers.iter();
        headers
            .map(|(name, text)| (name.parse().expect("a name"), value(text)))
            .collect()
    }

    #[test]
    fn each_form_of_a_reset_is_read() {
        let millis = |n| Some(Duration::from_millis(n));
        for (text, time) in [
            ("6m0s", millis(360_000)),
            ("1m26.4s", millis(86_400)),
            ("7.66s", millis(7660)),
            ("12ms", millis(12)),
            ("1h2m3s", millis(3_723_000)),
            ("59", millis(59_000)),
            ("0.5", millis(500)),
            ("0s", millis(0)),
            ("1999-12-31T23:59:59Z", millis(0)),
            ("-1", None),
            ("NaN", None),
            ("1741305600000", None),
            ("2999-12-31T23:59:59Z", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(reset(text), time, "{text}");
        }
        let soon = SystemTime::now() + Duration::from_secs(60);
        let wait = reset(&humantime::format_rfc3339(soon).to_string()).expect("a time");
        assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(50));
    }

    #[test]
    fn the_wait_is_that_of_the_limits_that_are_used_up() {
        let seconds = |n| Some(Duration::from_secs(n));
        for (told, expected) in [
            (vec![], None),
            (
                vec![
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "2s"),
                    ("x-ratelimit-remaining-tokens", "7"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                seconds(2),
            ),
            (
                vec![
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "2s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                seconds(360),
            ),
            (
                vec![
                    ("x-ratelimit-remaining-tokens", "-1"),
                    ("x-ratelimit-reset-tokens", "0"),
                ],
                None,
            ),
            (
                vec![
                    ("anthropic-ratelimit-output-tokens-remaining", "0"),
                    (
                        "anthropic-ratelimit-output-tokens-reset",
                        "1999-12-31T23:59:59Z",
                    ),
                ],
                seconds(0),
            ),
            (vec![("x-ratelimit-remaining-tokens", "0")], None),
            (vec![("x-ratelimit-reset-tokens", "9s")], None),
        ] {
            assert_eq!(wait(&headers(&told)), expected, "{told:?}");
        }
    }
}
