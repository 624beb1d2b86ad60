//! Whether a request asks for a stream, by its `Accept` header.

use http::{HeaderMap, header};

const EVENT_STREAM: [&str; 2] = ["text", "event-stream"];
const JSON: [&str; 2] = ["application", "json"];

/// Whether the client prefers `text/event-stream` to `application/json`, by the rules of
/// [RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#name-accept): of the ranges that match a type the
/// most specific gives its quality. At the same quality JSON is taken, unless only the event stream is
/// named.
pub(super) fn prefers_event_stream(headers: &HeaderMap) -> bool {
    let (mut stream, mut json) = (Match::default(), Match::default());
    for value in headers.get_all(header::ACCEPT) {
        // What is no text is no media type either.
        let ranges = value.to_str().unwrap_or_default().split(',');
        for (range, quality) in ranges.filter_map(parse) {
            stream.consider(range, EVENT_STREAM, quality);
            json.consider(range, JSON, quality);
        }
    }
    let is_named = stream.specificity > json.specificity;
    stream.quality > json.quality
        || (is_named && stream.quality > 0 && stream.quality == json.quality)
}

/// How well a type is accepted: by default not at all.
#[derive(Default)]
struct Match {
    /// 0: no range matches; then `*/*`, `type/*`, the type itself.
    specificity: u8,
    /// In thousandths.
    quality: u16,
}

impl Match {
    fn consider(&mut self, range: [&str; 2], wanted: [&str; 2], quality: u16) {
        let specificity = match range {
            ["*", "*"] => 1,
            [of, "*"] if of.eq_ignore_ascii_case(wanted[0]) => 2,
            [of, sub]
                if of.eq_ignore_ascii_case(wanted[0]) && sub.eq_ignore_ascii_case(wanted[1]) =>
            {
                3
            }
            _ => return,
        };
        if specificity > self.specificity {
            *self = Self {
                specificity,
                quality,
            };
        } else if specificity == self.specificity {
            self.quality = self.quality.max(quality);
        }
    }
}

/// A media range and its quality in thousandths; `None` if it cannot be read.
fn parse(range: &str) -> Option<([&str; 2], u16)> {
    let mut parts = range.split(';').map(str::trim);
    let (of, sub) = parts.next()?.split_once('/')?;
    let mut quality = 1000;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim_end().eq_ignore_ascii_case("q")
        {
            quality = thousandths(value.trim_start())?;
        }
    }
    Some(([of, sub], quality))
}

/// `0`, `0.5`, `1.000`: at most three digits after the point.
fn thousandths(quality: &str) -> Option<u16> {
    let (whole, part) = quality.split_once('.').unwrap_or((quality, ""));
    let is_short = part.len() <= 3 && part.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "1" if is_short && part.bytes().all(|digit| digit == b'0') => Some(1000),
        "0" if is_short => format!("{part:0<3}").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn prefers(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        prefers_event_stream(&headers)
    }

    #[test]
    fn the_type_of_the_higher_quality_is_taken() {
        for streams in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "application/json;q=0.5, text/event-stream",
            "application/json;q=0.5, text/event-stream;q=0.501",
            "text/event-stream, */*",
            "text/event-stream, application/*",
            "text/*, application/json;q=0.9",
            "text/event-stream;Q=0.1",
            "nonsense, text/event-stream",
        ] {
            assert!(prefers(&[streams]), "{streams}");
        }
        for json in [
            "*/*",
            "application/json",
            "application/json, text/event-stream",
            "text/event-stream;q=0.4, application/json;q=0.5",
            "text/event-stream;q=0",
            "text/event-stream;q=0, text/*, */*;q=0.1",
            "text/event-stream;q=0.5, */*",
            "text/event-stream;q=2",
            "text/event-stream;q=0.1234",
            "text/event-stream;q=",
            "text/html",
            "",
        ] {
            assert!(!prefers(&[json]), "{json}");
        }
        assert!(!prefers(&[]));
        assert!(prefers(&["application/json;q=0.1", "text/event-stream"]));
    }
}
