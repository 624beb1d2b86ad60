//! A fuzz target: arbitrary bytes are the frames that a worker sends. Decoding them does not panic.
//!
//! Run with: cargo +nightly fuzz run worker_frames -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_dspy::decode_worker_bytes;

fuzz_target!(|bytes: &[u8]| {
    // A frame begins with its length and the length of its header, 4 bytes each.
    assert!(decode_worker_bytes(bytes) <= bytes.len() / 8);
});
