//! The codec of the frames between the pool and a process. Python's side is `frames.py`.
//!
//! A frame is its length, the length of its header, the header (JSON) and a tail of raw bytes.
//! Values of the user's travel in the tail, so that a value which cannot be read fails its own
//! call only.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use crate::host::core::fault::Fault;

/// No frame is longer: an answer of an LM, which is bounded itself, and its head fit in.
const LONGEST: usize = 80 << 20;
/// The most that a call's inputs may be: the head of their frame is short.
pub(super) const MOST_INPUTS: usize = LONGEST - 4096;

pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(LONGEST)
        .new_codec()
}

/// Encodes a frame.
pub(super) fn encode(message: &impl Serialize, tail: &[u8]) -> io::Result<Bytes> {
    let header = serde_json::to_vec(message)?;
    let length = 4 + header.len() + tail.len();
    if length > LONGEST {
        return Err(io::Error::other(format!("it has {length} bytes")));
    }
    let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.put_u32(size(length)?);
    frame.put_u32(size(header.len())?);
    frame.put_slice(&header);
    frame.put_slice(tail);
    Ok(frame.freeze())
}

/// Decodes a frame without its own length, which the codec has removed.
pub(super) fn decode<T: DeserializeOwned>(mut frame: Bytes) -> Result<(T, Bytes), String> {
    if frame.len() < 4 {
        return Err("a frame without a header".into());
    }
    let length = frame.get_u32() as usize;
    if frame.len() < length {
        return Err("a frame that is shorter than its header".into());
    }
    let header = frame.split_to(length);
    let header = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    Ok((header, frame))
}

/// Decodes a value of the user's, from a tail.
pub(super) fn value<T: DeserializeOwned>(tail: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(tail)
        .map_err(|error| Fault::new("ValueError", format!("the value is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::{
        core::event::Event,
        workers::wire::{CallReport, FromWorker, ToWorker},
    };

    fn frame(header: &str, tail: &[u8]) -> Bytes {
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        [&length[..], header.as_bytes(), tail].concat().into()
    }

    #[test]
    fn a_message_is_decoded_with_its_tail() {
        let (message, tail) = decode(frame(r#"{"beat":null}"#, b"")).unwrap();
        assert!(matches!(message, FromWorker::Beat));
        assert!(tail.is_empty());
        let done = r#"{"call":{"call":7,"report":{"done":true}}}"#;
        let (message, tail) = decode(frame(done, b"[1]")).unwrap();
        let FromWorker::Call { call, report } = message else {
            panic!("another message");
        };
        assert!(call == 7 && matches!(report, CallReport::Done(true)));
        assert_eq!(value(&tail), Ok(json!([1])));
    }

    #[test]
    fn a_malformed_frame_is_refused() {
        let short = frame("{}", b"").slice(..3);
        let cut = frame(r#"{"beat":null}"#, b"").slice(..8);
        for wrong in [short, cut, frame("{}", b""), frame(r#"{"hm":1}"#, b"")] {
            assert!(decode::<FromWorker>(wrong).is_err());
        }
    }

    #[test]
    fn a_message_to_a_worker_is_encoded_with_its_name() {
        let event = Event::Chunk(Bytes::from_static(b"abc"));
        let (message, tail) = ToWorker::event(3, event);
        let written = encode(&message, &tail).unwrap();
        let header = r#"{"event":{"exchange":3,"event":["chunk"]}}"#;
        assert_eq!(written[4..], frame(header, b"abc"));
    }

    #[test]
    fn the_value_of_an_event_is_the_tail() {
        let (message, tail) = ToWorker::event(3, Event::Value(json!({"a": ["é"]})));
        let written = encode(&message, &tail).unwrap();
        let header = r#"{"event":{"exchange":3,"event":["value"]}}"#;
        assert_eq!(written[4..], frame(header, r#"{"a":["é"]}"#.as_bytes()));
    }
}
