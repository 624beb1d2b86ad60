//! The messages between the pool and a worker. Python's side is `frames.py`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    handshake::Hello,
    numbers::{LoadId, WorkerTarget},
};
use crate::host::core::{
    event::{Event, ResponseHead},
    lm_candidates::LmCandidates,
};

/// A message to a worker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker<'a> {
    Hello(Hello<'a>),
    Load {
        load: LoadId,
        spec: &'a Value,
    },
    /// By the worker's number of the program.
    Unload {
        target: WorkerTarget,
    },
    /// The inputs are the tail.
    Start {
        call: u64,
        target: WorkerTarget,
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
    /// Whether an LM that a program made itself was taken over.
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

/// An event of an exchange, without its bytes.
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
    /// The answer of a tool is the tail.
    Value,
    Failed {
        kind: &'static str,
        message: String,
    },
}

impl EventHeader {
    /// An event and its tail.
    pub(super) fn of(event: Event) -> (Self, Bytes) {
        match event {
            Event::Full(ResponseHead { status, headers }, body) => {
                (Self::Full { status, headers }, body)
            }
            Event::Head(ResponseHead { status, headers }) => {
                (Self::Head { status, headers }, Bytes::new())
            }
            Event::Chunk(bytes) => (Self::Chunk, bytes),
            Event::End => (Self::End, Bytes::new()),
            // A map of strings to JSON is always JSON.
            Event::Value(value) => (Self::Value, value.to_string().into()),
            Event::Failed(kind, message) => (Self::Failed { kind, message }, Bytes::new()),
        }
    }
}

/// A message from a worker.
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
    /// The description of the program is the tail.
    Loaded {
        load: LoadId,
        target: WorkerTarget,
    },
    NotLoaded {
        load: LoadId,
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
