//! The parsers against the values of DSPy, hostile texts and each cut.

mod corpus;
mod latency;
mod properties;
mod reference;
mod selection;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{FieldParser, Format, OutputField};

/// The text of each field, added up.
type Sums = BTreeMap<String, String>;

/// Wanted text fields.
fn text_fields(names: &[&str]) -> Vec<OutputField> {
    let field = |name: &&str| OutputField::from((name.to_string(), true, true));
    names.iter().map(field).collect()
}

/// A parser and what it has emitted.
struct Reader {
    parser: FieldParser,
    sums: Sums,
}

impl Reader {
    fn new(format: Format, fields: &[OutputField]) -> Self {
        Self {
            parser: FieldParser::new(format, fields.to_vec()),
            sums: Sums::new(),
        }
    }

    fn push(&mut self, piece: &str) {
        let sums = &mut self.sums;
        self.parser.push(piece, &mut |name, delta| {
            assert!(!delta.is_empty());
            sums.entry(name.to_string()).or_default().push_str(delta);
        });
    }

    fn finish(mut self) -> Sums {
        let sums = &mut self.sums;
        self.parser.finish(&mut |name, delta| {
            assert!(!delta.is_empty());
            sums.entry(name.to_string()).or_default().push_str(delta);
        });
        self.sums
    }
}

fn sums<'a>(
    format: Format,
    fields: &[OutputField],
    pieces: impl IntoIterator<Item = &'a str>,
) -> Sums {
    let mut reader = Reader::new(format, fields);
    pieces.into_iter().for_each(|piece| reader.push(piece));
    reader.finish()
}

/// The text in pieces of these lengths, in chars, over and over.
fn cut<'a>(text: &'a str, lengths: &[usize]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = *lengths.next().unwrap_or(&usize::MAX);
        let at = rest
            .char_indices()
            .nth(length)
            .map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Lengths of pieces, in chars.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..9_usize, 1..8)
}

/// A text of what the formats give a meaning.
fn hostile_text() -> impl Strategy<Value = String> {
    const PARTS: &[&str] = &[
        "[[ ## answer ## ]]",
        "[[ ## note ## ]]",
        "[[ ## ",
        " ## ]]",
        "[[",
        "]]",
        "[",
        "]",
        " ",
        "#",
        "answer",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\u{2028}",
        "\u{1f}",
        "\u{a0}",
        "é",
        "😀",
        "\"",
        "\\",
        "\\n",
        "\\ud83d",
        "{",
        "}",
        ":",
        ",",
        "<",
        ">",
        "</answer>",
        "<answer>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "&",
        "&lt;",
        ";",
        "/",
        "```json",
    ];
    let part = prop_oneof![
        4 => prop::sample::select(PARTS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z ]{1,6}",
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}
