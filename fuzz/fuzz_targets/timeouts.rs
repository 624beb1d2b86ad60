//! Any bytes as the value of a timeout's header: read or refused, never a panic; and what is read,
//! written and read again is never less.
//!
//! Run with: cargo +nightly fuzz run timeouts -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_dspy::deadline::{GrpcTimeout, RequestTimeout};

fuzz_target!(|value: &[u8]| {
    match GrpcTimeout::from_bytes(value) {
        Ok(read) => {
            assert!((2..=9).contains(&value.len()));
            let again: GrpcTimeout = read.to_string().parse().expect("what we write, we read");
            assert!(again >= read);
        }
        Err(refused) => check(&refused.to_string()),
    }
    match RequestTimeout::from_bytes(value) {
        // What we write ends at 999,999,999,999 ms; what we read, a thousand times later.
        Ok(read) => {
            let again: RequestTimeout = read.to_string().parse().expect("what we write, we read");
            let most: RequestTimeout = "999999999999ms".parse().expect("the largest of all");
            assert!(again >= read.min(most));
        }
        Err(refused) => check(&refused.to_string()),
    }
});

/// A refusal goes into a header and into logs: short, and nothing raw.
fn check(message: &str) {
    assert!(message.len() < 400);
    assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}
