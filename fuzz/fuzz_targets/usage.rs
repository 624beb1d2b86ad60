//! A fuzz target: arbitrary bytes are an LM's answer, cut into arbitrary pieces. The reader of token
//! counts does not panic, and its result does not depend on the cuts. The answer is one JSON document or
//! a stream of events.
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
    // The sum of the counts does not overflow.
    let _ = reader.counts.total();
    reader.counts
}
