//! OpenAI's embeddings: a vector for each text, made of its words.
//!
//! Texts that share words have vectors that are close to each other, so that a search by them finds
//! the text that it should.

use bytes::Bytes;
use serde_json::{Value, json};

/// The dimensions of a vector for which the request names none: those of OpenAI's small model.
const DIMENSIONS: u64 = 1536;

/// The texts of a request, which may have one that is no list; none if it has no texts.
pub(super) fn texts(body: &Value) -> Option<Vec<&str>> {
    match &body["input"] {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The answer to a request with this body.
pub(super) fn answer(model: &str, body: &Value) -> Bytes {
    let dimensions = body["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    let texts = texts(body).unwrap_or_default();
    let tokens: usize = texts.iter().map(|text| words(text).count()).sum();
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, dimensions);
        json!({"object": "embedding", "index": index, "embedding": vector})
    });
    let answer = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Bytes::from(answer.to_string())
}

/// A vector of length 1: the sum of a pseudo-random one for each word.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let mut sum = vec![0.0_f32; usize::try_from(dimensions).unwrap_or_default()];
    for word in words(text) {
        // FNV-1a, then xorshift: the same on each machine.
        let mut state = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        }) | 1;
        for value in &mut sum {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *value += (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        sum.iter_mut().for_each(|value| *value /= length);
    }
    sum
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(one: &str, other: &str) -> f32 {
        let (one, other) = (vector(one, 256), vector(other, 256));
        one.iter().zip(&other).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_vector_is_closest_to_that_of_a_text_with_the_same_words() {
        let question = "Where is Rome?";
        assert!((likeness(question, question) - 1.0).abs() < 1e-4);
        let near = likeness(question, "Rome is in Italy.");
        assert!(near > likeness(question, "Bears sleep all winter."));
    }

    #[test]
    fn a_text_without_words_has_a_vector_of_zeros() {
        assert_eq!(vector("?!", 3), [0.0; 3]);
    }
}
