//! A fuzz target: an arbitrary text is an LM's answer in any format, cut into arbitrary pieces. The
//! parser of fields does not panic, and its result does not depend on the cuts.
//!
//! Run with: cargo +nightly fuzz run fields -- -max_total_time=60
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/stream/fields/mod.rs"]
mod fields;

use fields::{FieldParser, Format, OutputField};

fuzz_target!(|input: (u8, &str, Vec<u8>)| {
    let (format, text, cuts) = input;
    let format = match format % 4 {
        0 => Format::Chat,
        1 => Format::Json,
        2 => Format::Xml,
        _ => Format::Raw,
    };
    let whole = texts(format, &[text]);
    let mut pieces = Vec::new();
    let mut rest = text;
    for cut in cuts {
        let length = usize::from(cut);
        let at = rest
            .char_indices()
            .nth(length)
            .map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(texts(format, &pieces), whole);
    let mut buffer = [0; 4];
    let chars: Vec<_> = text
        .chars()
        .map(|char| char.encode_utf8(&mut buffer).to_owned())
        .collect();
    let chars: Vec<_> = chars.iter().map(String::as_str).collect();
    assert_eq!(texts(format, &chars), whole);
});

/// The concatenated text of each field.
fn texts(format: Format, pieces: &[&str]) -> BTreeMap<String, String> {
    let fields = [
        ("a", true, true),
        ("answer", true, true),
        ("n", false, true),
        ("b", true, false),
    ];
    let fields = fields
        .map(|(name, is_text, is_wanted)| OutputField::from((name.to_owned(), is_text, is_wanted)));
    let mut parser = FieldParser::new(format, fields.to_vec());
    let mut texts = BTreeMap::<String, String>::new();
    let mut emit = |name: &std::sync::Arc<str>, delta: &str| {
        assert!(!delta.is_empty());
        texts.entry(name.to_string()).or_default().push_str(delta);
    };
    pieces
        .iter()
        .for_each(|piece| parser.push(piece, &mut emit));
    parser.finish(&mut emit);
    texts
}
