//! [`Redact`]: the filter that keeps keys, and whole bodies, out of messages.

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::key::SecretKey;
use crate::error::messages;

/// The most characters of a message that come from elsewhere.
const MOST: usize = 500;
/// What stands where a key was.
const GONE: &str = "[redacted]";
/// What looks like the beginning of a key: those of the providers, and what keys follow on.
const SIGNS: [&str; 8] = [
    "sk-",
    "sk_",
    "gsk_",
    "xai-",
    "AIza",
    "bearer ",
    "api-key: ",
    "key=",
];
/// Fewer characters after a sign are no key.
const SHORTEST: usize = 8;

/// Redacts the key that it knows, and whatever looks like one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redact<'a> {
    key: Option<&'a SecretKey>,
}

impl<'a> Redact<'a> {
    pub(super) const fn new(key: Option<&'a SecretKey>) -> Self {
        Self { key }
    }

    /// `text` without keys, cut after 500 characters.
    pub(super) fn text(&self, text: &str) -> String {
        // Cut last: half a key is not recognised.
        let text = self.whole(text);
        match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }

    /// A provider's error without keys, of at most `most` bytes: it is to be parsed. What is no
    /// UTF-8 in it is replaced, as a key may stand beside it.
    pub(super) fn body(&self, body: &[u8], most: usize) -> Bytes {
        let mut text = self.whole(&String::from_utf8_lossy(body));
        // Cut last: half a key is not recognised.
        let mut end = most.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.into()
    }

    /// The headers of a provider's error without keys.
    pub(super) fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let said = String::from_utf8_lossy(value.as_bytes());
            let shown = self.whole(&said);
            if shown != said {
                // What is left of a header, with ASCII put in, is a header.
                *value = HeaderValue::try_from(shown).unwrap_or(HeaderValue::from_static(GONE));
            }
        }
    }

    fn whole(&self, text: &str) -> String {
        match self.key {
            // Less than this is a stand-in such as "x", and would be found everywhere.
            Some(key) if key.expose().len() >= 4 => {
                let text = text.replace(key.expose(), GONE);
                look_alikes(&text.replace(&key.in_query(), GONE))
            }
            _ => look_alikes(text),
        }
    }

    /// What `error` and its sources say, without keys.
    pub(super) fn error(&self, error: &(dyn Error + 'static)) -> String {
        self.text(&messages(error))
    }
}

/// A text of a program, without what looks like a key.
#[cfg(feature = "_host")]
pub(crate) fn without_keys(text: &str) -> String {
    look_alikes(text)
}

/// Replaces what follows on each sign of a key, and the sign if it is part of the key.
fn look_alikes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        let sign = SIGNS.iter().find(|sign| {
            let whole_word = sign.ends_with([' ', '=']) || !inside_word;
            whole_word
                && rest
                    .get(..sign.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(sign))
        });
        if let Some(sign) = sign {
            let tail = &rest[sign.len()..];
            let length = tail.find(|c| !in_key(c)).unwrap_or(tail.len());
            if length >= SHORTEST {
                if sign.ends_with([' ', '=']) {
                    out.push_str(&rest[..sign.len()]);
                }
                out.push_str(GONE);
                rest = &tail[length..];
                inside_word = true;
                continue;
            }
        }
        out.push(first);
        inside_word = first.is_alphanumeric();
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// Stars too: providers repeat a wrong key with its middle hidden.
fn in_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~+/*%".contains(c)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static KEY: LazyLock<Option<SecretKey>> = LazyLock::new(|| SecretKey::new("my/secret+1"));

    fn redact() -> Redact<'static> {
        Redact::new(KEY.as_ref())
    }

    #[test]
    fn the_key_is_redacted_plain_and_escaped() {
        let said = redact().text("no such key: my/secret+1 (?k=my%2Fsecret%2B1)");
        assert_eq!(said, "no such key: [redacted] (?k=[redacted])");
    }

    #[test]
    fn text_that_looks_like_a_key_is_redacted_too() {
        for (text, shown) in [
            ("wrong key: sk-proj-abc***def.", "wrong key: [redacted]"),
            (
                "Authorization: Bearer abcdefghij",
                "Authorization: Bearer [redacted]",
            ),
            (
                "/v1?key=AIzaSyABCDEFGH&alt=sse",
                "/v1?key=[redacted]&alt=sse",
            ),
            ("x-api-key: abcdefghij;", "x-api-key: [redacted];"),
            (
                "a task-manager risk-averse disk-intensive",
                "a task-manager risk-averse disk-intensive",
            ),
            ("bearer of news", "bearer of news"),
        ] {
            assert_eq!(redact().text(text), shown);
        }
    }

    #[test]
    fn a_key_is_redacted_in_a_body_that_is_binary_or_too_long() {
        let body = [b"\xff no such key: my/secret+1 ".as_slice(), &[0xfc]].concat();
        let shown = redact().body(&body, 1000);
        assert_eq!(shown, "\u{fffd} no such key: [redacted] \u{fffd}");
        // The key lies across the end.
        let shown = redact().body("no such key: my/secret+1".as_bytes(), 18);
        assert_eq!(shown, "no such key: [reda");
        assert_eq!(redact().body("ü".as_bytes(), 1), "");
    }

    #[test]
    fn the_key_is_redacted_in_the_headers_of_an_error() {
        let mut headers = HeaderMap::new();
        let said = HeaderValue::from_static("Bearer error=\"no such key: my/secret+1\"");
        headers.insert("www-authenticate", said);
        headers.insert("retry-after", HeaderValue::from_static("7"));
        redact().headers(&mut headers);
        assert_eq!(
            headers["www-authenticate"],
            "Bearer error=\"no such key: [redacted]\""
        );
        assert_eq!(headers["retry-after"], "7");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ü".repeat(600);
        let said = redact().text(&text);
        assert_eq!(said, format!("{}...", "ü".repeat(500)));
    }

    #[test]
    fn a_short_dummy_key_is_not_redacted() {
        let key = SecretKey::new("x");
        assert_eq!(Redact::new(key.as_ref()).text("xxx"), "xxx");
    }
}
