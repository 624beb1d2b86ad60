//! What is held back, and when it comes.

use super::{
    super::field_text::is_space,
    reference::{write_chat, write_json, write_xml},
    *,
};

/// What has been emitted after each piece.
fn emitted(format: Format, pieces: &[&str]) -> Vec<String> {
    let mut reader = Reader::new(format, &text_fields(&["answer"]));
    let after = |piece: &&str| {
        reader.push(piece);
        reader.sums.get("answer").cloned().unwrap_or_default()
    };
    pieces.iter().map(after).collect()
}

#[test]
fn brackets_in_prose_come_at_once() {
    let pieces = ["[[ ## answer ## ]]\na ", "[", "[", " ## b"];
    assert_eq!(
        emitted(Format::Chat, &pieces),
        ["a", "a [", "a [[", "a [[ ## b"]
    );
}

#[test]
fn what_may_become_a_header_is_held_until_it_is_none() {
    let pieces = ["[[ ## answer ## ]]\na", "\n [", "[ ## b", " ##", "x"];
    assert_eq!(
        emitted(Format::Chat, &pieces),
        ["a", "a", "a", "a", "a\n [[ ## b ##x"]
    );
    let pieces = ["[[ ## answer ## ]]\n[", "1]"];
    assert_eq!(emitted(Format::Chat, &pieces), ["", "[1]"]);
}

#[test]
fn an_escape_is_held_until_it_is_whole() {
    let pieces = [
        "{\"answer\": \"a",
        "\\",
        "u00e",
        "9",
        "\\ud83d",
        "\\ude0",
        "0",
        "\\ud83d",
        "b",
    ];
    let expected = [
        "a",
        "a",
        "a",
        "aé",
        "aé",
        "aé",
        "aé😀",
        "aé😀",
        "aé😀\u{fffd}b",
    ];
    assert_eq!(emitted(Format::Json, &pieces), expected);
}

#[test]
fn a_reference_is_held_until_it_is_whole() {
    let pieces = ["<answer>a", "&l", "t;", "<![CDATA[b", "]", "]", "]", "x"];
    let expected = ["a", "a", "a<", "a<b", "a<b", "a<b", "a<b]", "a<b]]]x"];
    assert_eq!(emitted(Format::Xml, &pieces), expected);
}

/// Checks that after each prefix for which `is_certain` says so nothing is held back: no more comes
/// if the text ends there, by `end`.
fn check(format: Format, text: &str, end: &str, is_certain: impl Fn(&str) -> bool) {
    let fields = text_fields(&["reasoning", "answer"]);
    let mut reader = Reader::new(format, &fields);
    for (at, char) in text.char_indices() {
        let prefix = &text[..at + char.len_utf8()];
        reader.push(&text[at..prefix.len()]);
        if !is_space(char) && is_certain(prefix) {
            assert_eq!(
                reader.sums,
                sums(format, &fields, [prefix, end]),
                "after {prefix:?}"
            );
        }
    }
}

/// Whether the end of the text may be in a header.
fn may_be_in_header(text: &str) -> bool {
    let breaks = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";
    let line = text
        .rsplit(|char| breaks.contains(char))
        .next()
        .unwrap_or_default();
    let line = line.trim_start_matches(is_space);
    let Some(rest) = line.strip_prefix("[[ ## ") else {
        return "[[ ## ".starts_with(line);
    };
    let end = rest.trim_start_matches(|char: char| char == '_' || char.is_alphanumeric());
    " ## ]]".starts_with(end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_more_is_held_than_space_and_what_may_be_a_marker(
        reasoning in hostile_text(),
        answer in hostile_text(),
    ) {
        let fields = [("reasoning", reasoning), ("answer", answer)];
        check(Format::Chat, &write_chat(&fields), "", |text| !may_be_in_header(text));
        check(Format::Json, &write_json(&fields, &[]), "", |text| {
            // No escape of a pair of surrogates has begun.
            !text.chars().rev().take(12).any(|char| char == '\\')
        });
        check(Format::Xml, &write_xml(&fields), "</answer>", |text| {
            let markup = text.rsplit(['>', ';']).next().unwrap_or_default();
            !markup.contains(['<', '&'])
        });
    }
}
