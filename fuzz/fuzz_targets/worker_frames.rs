//! Any bytes as the frames of a worker: decoded or refused, never a panic.
//!
//! Run with: cargo +nightly fuzz run worker_frames -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_dspy::decode_worker_bytes;

fuzz_target!(|bytes: &[u8]| {
    // Each frame has a length and the length of its header, of four bytes each.
    assert!(decode_worker_bytes(bytes) <= bytes.len() / 8);
});
