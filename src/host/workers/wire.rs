//! Frames on the socket to a worker: what each side says. Python's side is `frames.py`.
//!
//! A frame is its length, the length of its header, the header (JSON) and a tail of raw bytes.
//! Values of the user's travel in the tail, so that one which cannot be read is that call's
//! failure and nobody else's.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::codec::LengthDelimitedCodec;

use crate::host::core::{event::Event, fault::Fault, lm_candidates::LmCandidates};

/// No frame is longer: an answer of an LM, which is bounded itself, and its head fit in.
const LONGEST: usize = 80 << 20;
/// The most that a call's inputs may be: the head of their frame is short.
pub(super) const MOST_INPUTS: usize = LONGEST - 4096;

pub(super) fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(LONGEST)
        .new_codec()
}

/// What a host says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker<'a> {
    Hello(Hello<'a>),
    Load {
        load: u64,
        spec: &'a Value,
    },
    /// By the worker's own number.
    Unload {
        target: u64,
    },
    /// The inputs are the tail.
    Start {
        call: u64,
        target: u64,
        remaining: Option<f64>,
        /// The name of the LM that the caller asked for.
        lm: Option<&'a str>,
    },
    Cancel {
        call: u64,
    },
    Event {
        exchange: u64,
        #[serde(flatten)]
        event: EventHeader,
    },
    /// What became of an LM that a program brought along.
    Adopted {
        lm: i64,
        /// Whether the host has its key from now on.
        keyed: bool,
        error: Option<String>,
    },
    Stop {
        grace: f64,
    },
}

/// What a worker needs to become one.
#[derive(Debug, Serialize)]
pub(super) struct Hello<'a> {
    /// It is to fork workers, rather than be one.
    pub(super) zygote: bool,
    pub(super) bootstrap: &'a str,
    pub(super) modules: serde_json::Map<String, Value>,
    pub(super) python_path: &'a [std::path::PathBuf],
    pub(super) sync_threads: usize,
    /// In bytes, of each worker.
    pub(super) memory_limit: Option<u64>,
    pub(super) parent: u32,
}

#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum EventHeader {
    Full {
        status: u16,
        headers: Vec<(String, String)>,
    },
    Head {
        status: u16,
        headers: Vec<(String, String)>,
    },
    Chunk,
    End,
    /// What a tool answered is the tail.
    Value,
    Failed {
        kind: &'static str,
        message: String,
    },
}

impl EventHeader {
    /// An event and its tail; `None` for one that a worker notices itself.
    pub(super) fn of(event: Event) -> Option<(Self, Bytes)> {
        Some(match event {
            Event::Full(head, body) => {
                let (status, headers) = (head.status, head.headers());
                (Self::Full { status, headers }, body)
            }
            Event::Head(head) => {
                let (status, headers) = (head.status, head.headers());
                (Self::Head { status, headers }, Bytes::new())
            }
            Event::Chunk(bytes) => (Self::Chunk, bytes),
            Event::End => (Self::End, Bytes::new()),
            // A map of strings to JSON is always JSON.
            Event::Value(value) => (Self::Value, value.to_string().into()),
            Event::Failed(failure) => {
                let (kind, message) = failure.describe();
                (Self::Failed { kind, message }, Bytes::new())
            }
            #[cfg(feature = "python")]
            Event::Cancelled => return None,
        })
    }
}

/// The frame without its own length, which the codec puts before it.
pub(super) fn frame(what: &impl Serialize, tail: &[u8]) -> serde_json::Result<Bytes> {
    let header = serde_json::to_vec(what)?;
    let mut frame = BytesMut::with_capacity(4 + header.len() + tail.len());
    // Longer ones do not pass the codec.
    frame.put_u32(u32::try_from(header.len()).unwrap_or(u32::MAX));
    frame.put_slice(&header);
    frame.put_slice(tail);
    Ok(frame.freeze())
}

/// What a worker says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    Ready {
        weaker: Vec<String>,
    },
    Unusable {
        fault: Value,
    },
    Beat,
    /// Its loop is late, but Python code runs.
    Pulse,
    /// Python code blocks the loop; the innermost frame comes first.
    Blocked {
        frames: Vec<String>,
        program: Option<String>,
        call: Option<u64>,
    },
    /// A thread was given up.
    GaveUp {
        replaced: bool,
    },
    CameBack,
    Log {
        level: u32,
        logger: String,
        message: String,
    },
    /// What is known of the program is the tail.
    Loaded {
        load: u64,
        target: u64,
    },
    NotLoaded {
        load: u64,
        fault: Value,
    },
    AdoptLm {
        lm: i64,
        model: String,
        base_url: Option<String>,
        key: Option<Secret>,
    },
    /// The body is the tail.
    Open {
        exchange: u64,
        /// `None` for a request that is no LM call.
        route: Option<LmCandidates>,
        /// In seconds, for the next byte.
        timeout: Option<f64>,
        call: Option<u64>,
        method: String,
        url: String,
        headers: Vec<(String, String)>,
    },
    /// The arguments are the tail.
    CallTool {
        exchange: u64,
        tool: usize,
        call: Option<u64>,
    },
    Abort {
        exchange: u64,
    },
    /// The outcome is the tail, and work goes on.
    Done {
        call: u64,
    },
    /// The outcome is the tail, and nothing goes on.
    Finished {
        call: u64,
    },
    Failed {
        call: u64,
        fault: Value,
    },
    Settled {
        call: u64,
        strays: Option<Vec<String>>,
    },
    Abandoned {
        call: u64,
    },
    Cancelled {
        call: u64,
    },
    /// The fields are the tail.
    Partial {
        call: u64,
    },
    Stepped {
        call: u64,
        exchange: Option<u64>,
        counts: Option<(u64, u64, u64)>,
    },
    Bypassed {
        call: u64,
        lm: String,
    },
}

/// A key that no `Debug` prints.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads a frame that the codec has taken the length off.
pub(super) fn read<T: DeserializeOwned>(mut frame: Bytes) -> Result<(T, Bytes), String> {
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

/// A value of the user's, from a tail.
pub(super) fn value(tail: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(tail)
        .map_err(|error| Fault::new("ValueError", format!("the value is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(header: &str, tail: &[u8]) -> Bytes {
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        [&length[..], header.as_bytes(), tail].concat().into()
    }

    #[test]
    fn what_a_worker_says_is_read_with_its_tail() {
        let (said, tail) = read(frame(r#"{"beat":null}"#, b"")).unwrap();
        assert!(matches!(said, FromWorker::Beat));
        assert!(tail.is_empty());
        let (said, tail) = read(frame(r#"{"done":{"call":7}}"#, b"[1]")).unwrap();
        assert!(matches!(said, FromWorker::Done { call: 7 }));
        assert_eq!(value(&tail), Ok(json!([1])));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let short = frame("{}", b"").slice(..3);
        let cut = frame(r#"{"beat":null}"#, b"").slice(..8);
        for wrong in [short, cut, frame("{}", b""), frame(r#"{"hm":1}"#, b"")] {
            assert!(read::<FromWorker>(wrong).is_err());
        }
    }

    #[test]
    fn a_host_names_what_it_says() {
        let said = ToWorker::Event {
            exchange: 3,
            event: EventHeader::Chunk,
        };
        let written = super::frame(&said, b"abc").unwrap();
        let header = r#"{"event":{"exchange":3,"what":"chunk"}}"#;
        assert_eq!(written, frame(header, b"abc"));
    }

    #[test]
    fn a_key_is_not_printed() {
        let said = r#"{"adopt_lm":{"lm":-1,"model":"m","base_url":null,"key":"sk-1"}}"#;
        let (said, _) = read::<FromWorker>(frame(said, b"")).unwrap();
        assert!(!format!("{said:?}").contains("sk-1"));
    }
}
