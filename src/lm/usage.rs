//! The reader of the token counts in a provider's answer, as the answer passes by.
//!
//! All dialects put them into an object under the key `usage` (`usageMetadata` for Gemini), in a
//! whole answer and in the events of a stream. Within a text of the model the quotes around the
//! word would be escaped, so the key is found without parsing the rest. Where there are several,
//! as in Anthropic's streams, the last count of each sort holds.

use std::task::Poll;

use serde_json::{Deserializer, Map, Value};

const KEY: &[u8] = b"\"usage";
/// A usage object is a few hundred bytes long.
const MOST: usize = 8 * 1024;

/// The three counts, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsageCounts {
    pub(super) prompt: Option<u64>,
    pub(super) completion: Option<u64>,
    total: Option<u64>,
}

impl UsageCounts {
    /// The provider's total, or else the sum of the two others.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
            .or_else(|| self.prompt?.checked_add(self.completion?))
    }

    fn update(&mut self, usage: &Map<String, Value>) {
        let count = |names: &[&str]| names.iter().find_map(|name| count(usage.get(*name)?));
        let prompt = count(&["prompt_tokens", "input_tokens", "promptTokenCount"]);
        let completion = count(&["completion_tokens", "output_tokens", "candidatesTokenCount"]);
        let total = count(&["total_tokens", "totalTokenCount"]);
        self.prompt = prompt.or(self.prompt);
        self.completion = completion.or(self.completion);
        self.total = total.or(self.total);
    }
}

/// A count of tokens; some write it as a fraction. `None` for what no answer can have cost: added up,
/// it would hide all others.
fn count(value: &Value) -> Option<u64> {
    const MOST: u64 = 1 << 53;
    let whole = value.as_u64().or_else(|| {
        let count = value.as_f64().filter(|count| *count >= 0.0)?;
        Some(count as u64)
    });
    whole.filter(|count| *count <= MOST)
}

/// Reads an answer piece by piece, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct UsageReader {
    /// What has come and may be the beginning of a usage object, or of its key.
    text: Vec<u8>,
    pub(super) counts: UsageCounts,
}

impl UsageReader {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let mut read = 0;
        let keep = loop {
            let mut windows = self.text[read..].windows(KEY.len());
            let Some(at) = windows.position(|part| part == KEY) else {
                // The end may be the beginning of a key.
                break read.max(self.text.len().saturating_sub(KEY.len() - 1));
            };
            read += at;
            let object = &self.text[read + KEY.len()..];
            match object_in(&object[..object.len().min(MOST)]) {
                Poll::Pending if object.len() < MOST => break read,
                Poll::Ready(Some((usage, length))) => {
                    self.counts.update(&usage);
                    read += KEY.len() + length;
                }
                _ => read += KEY.len(),
            }
        };
        self.text.drain(..keep);
    }
}

/// The object after the key, and where it ends; `None` if there is none. Pending if the text ends
/// before that is known.
fn object_in(text: &[u8]) -> Poll<Option<(Map<String, Value>, usize)>> {
    let name = text.iter().take_while(|byte| byte.is_ascii_alphabetic());
    let mut rest = &text[name.count()..];
    for mark in b"\":" {
        match rest.split_first() {
            None => return Poll::Pending,
            Some((byte, after)) if byte == mark => rest = after.trim_ascii_start(),
            // A text that is the word, or begins with it.
            Some(_) => return Poll::Ready(None),
        }
    }
    let mut objects = Deserializer::from_slice(rest).into_iter::<Map<String, Value>>();
    match objects.next() {
        Some(Ok(object)) => {
            let end = text.len() - rest.len() + objects.byte_offset();
            Poll::Ready(Some((object, end)))
        }
        Some(Err(error)) if !error.is_eof() => Poll::Ready(None),
        _ => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(answer: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
        let mut whole = UsageReader::default();
        whole.read(answer.as_bytes());
        let mut bytewise = UsageReader::default();
        for byte in answer.as_bytes() {
            bytewise.read(&[*byte]);
        }
        assert_eq!(whole.counts, bytewise.counts);
        let counts = whole.counts;
        (counts.prompt, counts.completion, counts.total())
    }

    #[test]
    fn the_usage_of_each_dialect_is_read() {
        let openai = r#"{"usage": {"prompt_tokens": 9, "completion_tokens": 12,
            "total_tokens": 21, "prompt_tokens_details": {"cached_tokens": 3}}}"#;
        assert_eq!(counts(openai), (Some(9), Some(12), Some(21)));
        let gemini = r#"{"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":5,
            "totalTokenCount":10,"x":"}"}}"#;
        assert_eq!(counts(gemini), (Some(4), Some(5), Some(10)));
        let anthropic = concat!(
            "data: {\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
            "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n",
        );
        assert_eq!(counts(anthropic), (Some(25), Some(15), Some(40)));
    }

    #[test]
    fn a_token_count_written_as_a_fraction_is_read() {
        let counted = r#"{"usage": {"prompt_tokens": 9.0, "completion_tokens": 1.2e1}}"#;
        assert_eq!(counts(counted), (Some(9), Some(12), Some(21)));
    }

    #[test]
    fn an_impossible_token_count_is_ignored() {
        for absurd in [
            "18446744073709551615",
            "9007199254740993",
            "1e300",
            "-1",
            "-0.5",
            "\"9\"",
            "null",
            "NaN",
        ] {
            let counted =
                format!(r#"{{"usage": {{"prompt_tokens": {absurd}, "input_tokens": 7}}}}"#);
            // What is no JSON at all is not read.
            let expected = (absurd != "NaN").then_some(7);
            assert_eq!(counts(&counted), (expected, None, None), "{absurd}");
        }
    }

    #[test]
    fn usage_in_the_text_of_the_model_is_ignored() {
        let text =
            r#"{"content":"{\"usage\": {\"prompt_tokens\": 1}}","type":"usage","usage":null}"#;
        assert_eq!(counts(text), (None, None, None));
        assert_eq!(
            counts(r#"{"usage": {"prompt_tokens": "#),
            (None, None, None)
        );
    }
}
