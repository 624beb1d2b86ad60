//! The reader of the token counts in a provider's answer, as the answer passes by.
//!
//! All dialects put them into an object under the key `usage` (`usageMetadata` for Gemini), in a
//! whole answer and in the events of a stream. Within a text of the model the quotes around the
//! word would be escaped, so the key is found without parsing the rest. Where there are several,
//! as in Anthropic's streams, the last count of each sort holds.
//!
//! Whether cached and reasoning tokens are within the counts or beside them is the dialect's choice.
//! Here they are always within, as the GenAI conventions of OpenTelemetry have it:
//!
//! | dialect | prompt | completion |
//! |---|---|---|
//! | OpenAI's chat completions | `prompt_tokens` | `completion_tokens` |
//! | OpenAI's responses | `input_tokens` | `output_tokens` |
//! | Anthropic's messages | `input_tokens` + `cache_read_input_tokens` + `cache_creation_input_tokens` | `output_tokens` |
//! | Bedrock's Converse | `inputTokens` + `cacheReadInputTokens` + `cacheWriteInputTokens` | `outputTokens` |
//! | Cohere's chat, in `tokens`, else in `billed_units` | `input_tokens` | `output_tokens` |
//! | Gemini | `promptTokenCount` + `toolUsePromptTokenCount` | `candidatesTokenCount` + `thoughtsTokenCount` |
//! | xAI's chat completions, by their total | `prompt_tokens` | `completion_tokens` + `reasoning_tokens` |

use std::task::Poll;

use memchr::memmem;
use serde_json::{Deserializer, Map, Value};

const KEY: &[u8] = b"\"usage";
/// A usage object is a few hundred bytes long.
const MOST: usize = 8 * 1024;

/// The counts, as far as they are known, each as the provider has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsageCounts {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    /// Tokens of the prompt that `prompt` leaves out: read from a cache, written to one, of tools.
    beside_prompt: [Option<u64>; 3],
    /// Tokens of reasoning that `completion` leaves out.
    beside_completion: Option<u64>,
    /// Read from a cache, and within `prompt`.
    cached: Option<u64>,
    /// Written to a cache, and within `prompt`.
    cache_write: Option<u64>,
    /// Of reasoning, and within `completion` unless the total says otherwise.
    reasoning: Option<u64>,
    /// Some are of audio, which has rates of its own.
    audio: bool,
}

impl UsageCounts {
    /// All tokens of the prompt.
    pub(super) fn prompt(&self) -> Option<u64> {
        let beside = self.beside_prompt.iter().flatten();
        beside.fold(self.prompt, |sum, more| sum?.checked_add(*more))
    }

    /// All tokens of the answer.
    pub(super) fn completion(&self) -> Option<u64> {
        let reasoning = self.reasoning.filter(|reasoning| {
            let counted = self.prompt.zip(self.completion).zip(self.total);
            counted.is_some_and(|((prompt, completion), total)| {
                total.checked_sub(prompt + completion) == Some(*reasoning)
            })
        });
        let beside = self.beside_completion.or(reasoning);
        self.completion?.checked_add(beside.unwrap_or_default())
    }

    /// The provider's total, or else the sum of the two others.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
            .or_else(|| self.prompt()?.checked_add(self.completion()?))
    }

    /// Tokens that the provider's total has beyond those of the prompt, as far as it counted these.
    pub(super) fn rest(&self) -> Option<u64> {
        self.total()?.checked_sub(self.prompt().unwrap_or_default())
    }

    /// Tokens of the prompt that were read from a cache.
    pub(super) fn cached(&self) -> Option<u64> {
        self.cached.or(self.beside_prompt[0])
    }

    /// Tokens of the prompt that were written to a cache.
    pub(super) fn cache_write(&self) -> Option<u64> {
        self.cache_write.or(self.beside_prompt[1])
    }

    /// Tokens of the answer that are reasoning.
    pub(super) fn reasoning(&self) -> Option<u64> {
        self.reasoning.or(self.beside_completion)
    }

    /// Whether some of the tokens are of audio.
    pub(super) const fn has_audio(&self) -> bool {
        self.audio
    }

    fn update(&mut self, usage: &Map<String, Value>) {
        // Cohere's. What it bills leaves out tokens of its own, which DSPy counts.
        for nested in ["billed_units", "tokens"] {
            if let Some(Value::Object(counts)) = usage.get(nested) {
                self.update(counts);
            }
        }
        let first = |names: &[&str]| names.iter().find_map(|name| count(usage.get(*name)?));
        let set = |field: &mut Option<u64>, found: Option<u64>| *field = found.or(*field);
        let within = first(&["prompt_tokens", "promptTokenCount"]);
        set(
            &mut self.prompt,
            within.or_else(|| first(&["input_tokens", "inputTokens"])),
        );
        let completion = [
            "completion_tokens",
            "output_tokens",
            "candidatesTokenCount",
            "outputTokens",
        ];
        set(&mut self.completion, first(&completion));
        let total = ["total_tokens", "totalTokenCount", "totalTokens"];
        set(&mut self.total, first(&total));

        let read = first(&["cache_read_input_tokens", "cacheReadInputTokens"]);
        let written = first(&["cache_creation_input_tokens", "cacheWriteInputTokens"]);
        // A gateway may have Anthropic's names beside OpenAI's count, which has them within.
        let (read_within, written_within) = match within {
            Some(_) => (read, written),
            None => {
                set(&mut self.beside_prompt[0], read);
                set(&mut self.beside_prompt[1], written);
                (None, None)
            }
        };
        set(
            &mut self.beside_prompt[2],
            first(&["toolUsePromptTokenCount"]),
        );
        set(&mut self.beside_completion, first(&["thoughtsTokenCount"]));

        let detail = |groups: [&str; 2], names: &[&str]| {
            let groups = groups
                .iter()
                .find_map(|group| usage.get(*group)?.as_object());
            groups.and_then(|group| names.iter().find_map(|name| count(group.get(*name)?)))
        };
        let prompt = ["prompt_tokens_details", "input_tokens_details"];
        let cached = detail(prompt, &["cached_tokens"]).or(read_within);
        let other_names = ["prompt_cache_hit_tokens", "cachedContentTokenCount"];
        set(&mut self.cached, cached.or_else(|| first(&other_names)));
        let write = detail(prompt, &["cache_write_tokens", "cache_creation_tokens"]);
        set(&mut self.cache_write, write.or(written_within));
        let completion = ["completion_tokens_details", "output_tokens_details"];
        let reasoning = detail(completion, &["reasoning_tokens", "thinking_tokens"]);
        set(&mut self.reasoning, reasoning);
        let audio = [prompt, completion].map(|groups| detail(groups, &["audio_tokens"]));
        self.audio |= audio.into_iter().flatten().any(|count| count > 0);
        let modalities = ["promptTokensDetails", "candidatesTokensDetails"];
        let modalities = modalities
            .iter()
            .filter_map(|name| usage.get(*name)?.as_array());
        self.audio |= modalities.flatten().any(|part| part["modality"] == "AUDIO");
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
            let Some(at) = memmem::find(&self.text[read..], KEY) else {
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
    match rest.first() {
        None => return Poll::Pending,
        Some(b'{') => {}
        // Null, in each event of a stream until the last.
        Some(_) => return Poll::Ready(None),
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
mod tests;
