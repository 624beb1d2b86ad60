//! A fuzz target: arbitrary bytes are a streamed answer, cut into arbitrary pieces. The reader of
//! content does not panic, and its result does not depend on the cuts. The answer is server-sent events
//! or lines of JSON.
//!
//! Run with: cargo +nightly fuzz run sse -- -max_total_time=60
#![no_main]

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../src/lm/content.rs"]
mod content;
#[path = "../../src/lm/event_text.rs"]
mod event_text;
#[path = "../../src/lm/stream_event.rs"]
mod stream_event;

use content::ContentReader;

fuzz_target!(|input: (bool, &[u8], Vec<u8>)| {
    let (events, answer, cuts) = input;
    let kind = if events {
        "text/event-stream"
    } else {
        "application/x-ndjson"
    };
    let whole = read(kind, &[answer]);
    let mut pieces = Vec::new();
    let mut rest = answer;
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len().min(cut.into()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(read(kind, &pieces), whole);
});

/// Whether there was content, the estimated number of its tokens, and the number of empty events after
/// it.
fn read(kind: &'static str, pieces: &[&[u8]]) -> (bool, u64, u32) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let mut reader = ContentReader::of(&headers);
    let found = pieces
        .iter()
        .fold(false, |found, piece| reader.read(piece) | found);
    assert_eq!(found, reader.begun());
    (found, reader.tokens(), reader.empty())
}
