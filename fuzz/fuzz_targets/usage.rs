//! Any bytes as an LM's answer, cut into pieces anywhere: the reader of token counts never panics, and
//! what it reads does not depend on where the answer is cut. Answers are whole or streams of events.
//!
//! Run with: cargo +nightly fuzz run usage -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/lm/usage.rs"]
mod usage;

use usage::{UsageCounts, UsageReader};

fuzz_target!(|input: (&[u8], Vec<u8>)| {
    let (answer, cuts) = input;
    let whole = read(&[answer]);
    let mut pieces = Vec::new();
    let mut rest = answer;
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len().min(cut.into()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(read(&pieces), whole);
});

fn read(pieces: &[&[u8]]) -> UsageCounts {
    let mut reader = UsageReader::default();
    for piece in pieces {
        reader.read(piece);
    }
    // The sum of two counts is no overflow.
    let _ = reader.counts.total();
    reader.counts
}
