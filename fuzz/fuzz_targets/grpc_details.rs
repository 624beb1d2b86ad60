//! A fuzz target: arbitrary bytes are the details of a gRPC status, and a `google.protobuf.Struct`.
//! Reading them does not panic, and a struct that is read and written again is the same JSON.
//!
//! Run with: cargo +nightly fuzz run grpc_details -- -max_total_time=60
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::Struct;
use tower_dspy::proto::{from_struct, read_status_bytes, to_struct};

fuzz_target!(|bytes: &[u8]| {
    read_status_bytes(bytes);
    if let Ok(read) = Struct::decode(bytes)
        && let Ok(json) = from_struct(read)
    {
        let written = to_struct(&json).expect("what we read, we write");
        assert_eq!(from_struct(written).expect("what we write, we read"), json);
    }
});
