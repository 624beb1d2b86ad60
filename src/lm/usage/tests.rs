//! The counts that are read of each dialect.

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
    (counts.prompt(), counts.completion(), counts.total())
}

/// The tokens read from a cache, written to one, and of reasoning.
fn details(answer: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
    let mut reader = UsageReader::default();
    reader.read(answer.as_bytes());
    let counts = reader.counts;
    (counts.cached(), counts.cache_write(), counts.reasoning())
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
fn cached_tokens_that_anthropic_leaves_out_are_tokens_of_the_prompt() {
    let whole = r#"{"usage":{"input_tokens":5,"cache_creation_input_tokens":100,
        "cache_read_input_tokens":2000,"output_tokens":7}}"#;
    assert_eq!(counts(whole), (Some(2105), Some(7), Some(2112)));
    assert_eq!(details(whole), (Some(2000), Some(100), None));
    let stream = concat!(
        "data: {\"message\":{\"usage\":{\"input_tokens\":5,",
        "\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":2000,",
        "\"cache_creation\":{\"ephemeral_5m_input_tokens\":100},\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15,",
        "\"output_tokens_details\":{\"thinking_tokens\":9}}}\n\n",
    );
    assert_eq!(counts(stream), (Some(2105), Some(15), Some(2120)));
    assert_eq!(details(stream), (Some(2000), Some(100), Some(9)));
}

#[test]
fn the_usage_of_bedrocks_converse_is_read() {
    let whole = r#"{"usage":{"inputTokens":5,"outputTokens":7,"totalTokens":2112,
        "cacheReadInputTokens":2000,"cacheWriteInputTokens":100}}"#;
    assert_eq!(counts(whole), (Some(2105), Some(7), Some(2112)));
    assert_eq!(details(whole), (Some(2000), Some(100), None));
}

#[test]
fn the_usage_of_cohere_is_read() {
    let whole = r#"{"usage":{"billed_units":{"input_tokens":5,"output_tokens":6},
        "tokens":{"input_tokens":71,"output_tokens":8},"cached_tokens":64}}"#;
    assert_eq!(counts(whole), (Some(71), Some(8), Some(79)));
    let billed = r#"{"usage":{"billed_units":{"input_tokens":5,"output_tokens":6}}}"#;
    assert_eq!(counts(billed), (Some(5), Some(6), Some(11)));
    let odd = r#"{"usage":{"tokens":9,"billed_units":null,"prompt_tokens":3}}"#;
    assert_eq!(counts(odd), (Some(3), None, None));
}

#[test]
fn cached_and_reasoning_tokens_within_a_count_are_not_added_to_it() {
    let chat = r#"{"usage":{"prompt_tokens":90,"completion_tokens":12,"total_tokens":102,
        "prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":4},
        "completion_tokens_details":{"reasoning_tokens":8}}}"#;
    assert_eq!(counts(chat), (Some(90), Some(12), Some(102)));
    assert_eq!(details(chat), (Some(30), Some(4), Some(8)));
    let responses = r#"{"response":{"usage":{"input_tokens":90,"output_tokens":12,
        "input_tokens_details":{"cached_tokens":30},
        "output_tokens_details":{"reasoning_tokens":8},"total_tokens":102}}}"#;
    assert_eq!(counts(responses), (Some(90), Some(12), Some(102)));
    assert_eq!(details(responses), (Some(30), None, Some(8)));
    let gateway = r#"{"usage":{"prompt_tokens":90,"completion_tokens":12,
        "cache_read_input_tokens":30,"cache_creation_input_tokens":4}}"#;
    assert_eq!(counts(gateway), (Some(90), Some(12), Some(102)));
    assert_eq!(details(gateway), (Some(30), Some(4), None));
    let deepseek = r#"{"usage":{"prompt_tokens":90,"completion_tokens":12,
        "prompt_cache_hit_tokens":30,"prompt_cache_miss_tokens":60}}"#;
    assert_eq!(details(deepseek), (Some(30), None, None));
}

#[test]
fn reasoning_tokens_beside_the_count_of_an_answer_are_added_to_it() {
    let gemini = r#"{"usageMetadata":{"promptTokenCount":40,"candidatesTokenCount":5,
        "thoughtsTokenCount":7,"toolUsePromptTokenCount":3,"cachedContentTokenCount":20,
        "totalTokenCount":55}}"#;
    assert_eq!(counts(gemini), (Some(43), Some(12), Some(55)));
    assert_eq!(details(gemini), (Some(20), None, Some(7)));
    let xai = r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":22,
        "completion_tokens_details":{"reasoning_tokens":7}}}"#;
    assert_eq!(counts(xai), (Some(10), Some(12), Some(22)));
}

#[test]
fn tokens_of_audio_are_noticed() {
    let has_audio = |answer: &str| {
        let mut reader = UsageReader::default();
        reader.read(answer.as_bytes());
        reader.counts.has_audio()
    };
    for (answer, expected) in [
        (
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"audio_tokens":0}}}"#,
            false,
        ),
        (
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"audio_tokens":3}}}"#,
            true,
        ),
        (
            r#"{"usage":{"completion_tokens_details":{"audio_tokens":3}}}"#,
            true,
        ),
        (
            r#"{"usageMetadata":{"promptTokensDetails":[{"modality":"TEXT","tokenCount":2}]}}"#,
            false,
        ),
        (
            r#"{"usageMetadata":{"promptTokensDetails":[{"modality":"AUDIO","tokenCount":2}]}}"#,
            true,
        ),
    ] {
        assert_eq!(has_audio(answer), expected, "{answer}");
    }
}

#[test]
fn details_that_are_no_counts_are_ignored() {
    let odd = r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":null,
        "completion_tokens_details":[1],"input_tokens_details":{"cached_tokens":-3}}}"#;
    assert_eq!(details(odd), (None, None, None));
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
        let counted = format!(r#"{{"usage": {{"prompt_tokens": {absurd}, "input_tokens": 7}}}}"#);
        // What is no JSON at all is not read.
        let expected = (absurd != "NaN").then_some(7);
        assert_eq!(counts(&counted), (expected, None, None), "{absurd}");
    }
}

#[test]
fn usage_in_the_text_of_the_model_is_ignored() {
    let text = r#"{"content":"{\"usage\": {\"prompt_tokens\": 1}}","type":"usage","usage":null}"#;
    assert_eq!(counts(text), (None, None, None));
    assert_eq!(
        counts(r#"{"usage": {"prompt_tokens": "#),
        (None, None, None)
    );
}
