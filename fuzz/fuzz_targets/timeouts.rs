//! A fuzz target: arbitrary bytes are the value of a timeout's header. Reading it does not panic, and a
//! timeout that is read, written and read again is not shorter.
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
        // The largest timeout that is written is 999,999,999,999 ms; larger ones are read.
        Ok(read) => {
            let again: RequestTimeout = read.to_string().parse().expect("what we write, we read");
            let max: RequestTimeout = "999999999999ms".parse().expect("the largest of all");
            assert!(again >= read.min(max));
        }
        Err(refused) => check(&refused.to_string()),
    }
});

/// A refusal is put into headers and logs: it is short, and has only printable ASCII characters.
fn check(message: &str) {
    assert!(message.len() < 400);
    assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}
