//! The messages between the pool and its processes, workers and zygotes. Python's side of the
//! frames is `frames.py`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::numbers::{LoadId, WorkerId, WorkerTarget};
use crate::{
    call::CallId,
    host::core::{
        call_state::BudgetLeft,
        event::Event,
        fault::Fault,
        http::{self, ProgramRequest},
        lm_candidates::LmCandidates,
        log,
    },
    lm::LmProvider,
};

/// A message to a worker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToWorker<'a> {
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
        /// Whether the reader of the call's stream chose fields, and which; `None` without a reader.
        stream: Option<(bool, &'a [(String, String)])>,
        /// W3C's headers of its trace.
        trace: Option<BTreeMap<String, String>>,
        /// What is left of its budgets.
        budget: Option<BudgetLeft>,
    },
    Cancel {
        call: u64,
        /// A limit of time ends it.
        timed_out: bool,
    },
    /// The bytes or the value of the event are the tail.
    Event {
        exchange: u64,
        /// Its parts, as exchange.py names them, but for the tail.
        event: Value,
    },
    /// What is left of a call's budgets, after the end of each of its exchanges.
    Budget {
        call: u64,
        budget: BudgetLeft,
    },
    /// The answer to `AdoptLm` and to `ResolveLm`.
    Lm {
        lm: i64,
        /// Whether the host has its key.
        keyed: bool,
        error: Option<String>,
    },
    Stop {
        grace: f64,
    },
}

impl ToWorker<'_> {
    /// An event of an exchange, and its tail.
    pub(super) fn event(exchange: u64, event: Event) -> (Self, Bytes) {
        let (event, tail) = match event {
            Event::Full(head, body) => (json!(["full", head.status, head.headers]), body),
            Event::Head(head) => (json!(["head", head.status, head.headers]), Bytes::new()),
            Event::Chunk(bytes) => (json!(["chunk"]), bytes),
            Event::End => (json!(["end"]), Bytes::new()),
            Event::Value(value) => (json!(["value"]), value.to_string().into()),
            Event::Failed(kind, message) => (json!(["failed", kind, message]), Bytes::new()),
        };
        (Self::Event { exchange, event }, tail)
    }
}

/// A message from a worker. It has no `Debug`, as it may hold a key.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWorker {
    /// It can load programs; the parts of DSPy that are patched only in part.
    Ready {
        weaker: Vec<String>,
    },
    /// It cannot import DSPy.
    Unusable {
        fault: Fault,
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
    /// A thread was given up, and whether another took its place.
    GaveUp {
        replaced: bool,
    },
    /// A thread that was given up has ended.
    CameBack,
    Log(LogRecord),
    /// The description of the program is the tail.
    Loaded {
        load: LoadId,
        target: WorkerTarget,
    },
    NotLoaded {
        load: LoadId,
        fault: Fault,
    },
    AdoptLm(OwnLm),
    /// What is known of the provider of an LM that is being loaded.
    ResolveLm {
        lm: i64,
        provider: LmProvider,
    },
    /// The body is the tail.
    Open(HttpRequest),
    /// The arguments are the tail.
    CallTool {
        exchange: u64,
        tool: usize,
        call: Option<u64>,
        /// W3C's headers of the span that it is called in.
        trace: BTreeMap<String, String>,
    },
    /// Waits for the reader of the call's stream.
    AwaitReader {
        exchange: u64,
        call: Option<u64>,
    },
    /// The program has read these bytes of the chunks of an answer.
    Read {
        exchange: u64,
        bytes: usize,
    },
    /// Its last event is waited for.
    Stop {
        exchange: u64,
    },
    Abort {
        exchange: u64,
    },
    Call {
        call: u64,
        report: CallReport,
    },
}

/// A worker's report of a call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallReport {
    /// The outcome is the tail. Whether all work of the call has ended.
    Done(bool),
    /// The outcome is a failure. Whether all work of the call has ended.
    Failed(Fault, bool),
    /// All work of the call has ended, after its outcome; the names of the tasks that it left behind.
    Settled(Vec<String>),
    Abandoned,
    Cancelled,
    /// The fields are the tail.
    Partial,
    /// There is a partial answer, after the end of the call.
    LatePartial,
    /// An LM's answer, by an exchange, with its tokens.
    Stepped(Option<u64>, Option<(u64, u64, u64)>),
    /// By the name of the LM.
    Bypassed(String),
    /// The program calls a tool of its own, by its number and its name.
    ToolBegan(u64, String),
    /// And whether it failed.
    ToolEnded(u64, bool),
    /// More text of this streamed LM call: the tail.
    StreamText(u64),
    /// More thinking of this streamed LM call: the tail.
    StreamThinking(u64),
    /// Another report of the stream: the tail.
    StreamEvent,
}

impl FromWorker {
    /// Whether the message shows that calls make progress. A heartbeat and a log record do not: a
    /// worker also sends them while no call does.
    pub(super) const fn is_progress(&self) -> bool {
        !matches!(
            self,
            Self::Beat | Self::Pulse | Self::Blocked { .. } | Self::Log(_)
        )
    }
}

/// A record of Python's log.
#[derive(Debug, Deserialize)]
pub(super) struct LogRecord {
    level: u32,
    logger: String,
    message: String,
    /// The call whose code made it.
    pub(super) call: Option<u64>,
}

impl LogRecord {
    pub(super) fn forward(&self, call_id: Option<CallId>) {
        log::forward(self.level, &self.logger, &self.message, call_id);
    }
}

/// An LM that a program made itself.
#[derive(Deserialize)]
pub(super) struct OwnLm {
    /// The load of the program.
    pub(super) load: LoadId,
    /// The worker's number of it.
    pub(super) lm: i64,
    pub(super) model: String,
    pub(super) base_url: Option<String>,
    pub(super) key: Option<String>,
}

/// An HTTP request of a program, without its body.
#[derive(Debug, Deserialize)]
pub(super) struct HttpRequest {
    pub(super) exchange: u64,
    pub(super) call: Option<u64>,
    /// `None` for a request that is no LM call.
    route: Option<LmCandidates>,
    /// In seconds, for the next byte.
    timeout: Option<f64>,
    /// In seconds, of a member of an LM that is made of several.
    first_content: Option<f64>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
}

impl HttpRequest {
    pub(super) fn with_body(self, body: Bytes) -> Result<ProgramRequest, String> {
        Ok(ProgramRequest {
            lms: self.route,
            timeout: http::time_limit(self.timeout),
            first_content: http::time_limit(self.first_content),
            request: http::request(&self.method, &self.url, self.headers, body)?,
        })
    }
}

/// A message to a zygote.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToZygote {
    Fork { worker: WorkerId },
    Reap { pid: u32 },
}

/// A message from a zygote.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromZygote {
    Warm {
        weaker: Vec<String>,
    },
    CannotFork {
        reason: String,
    },
    Unusable {
        fault: Fault,
    },
    Forked {
        worker: WorkerId,
        pid: u32,
    },
    NotForked {
        worker: WorkerId,
        reason: String,
    },
    /// By an exit with this status, or by this signal.
    Ended {
        worker: WorkerId,
        exited: bool,
        status: i32,
    },
    Log(LogRecord),
}

/// Decodes the bytes that a worker sends, as far as they are messages; returns how many. For the
/// fuzz target `worker_frames`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn decode_worker_bytes(bytes: &[u8]) -> usize {
    use tokio_util::codec::Decoder;

    use super::frames;

    let (mut codec, mut bytes) = (frames::codec(), bytes.into());
    let mut messages = 0;
    while let Ok(Some(frame)) = codec.decode(&mut bytes) {
        match frames::decode(frame.freeze()) {
            Ok((FromWorker::Open(request), tail)) => drop(request.with_body(tail)),
            Ok((_, tail)) => drop(frames::value::<Value>(&tail)),
            Err(_) => break,
        }
        messages += 1;
    }
    messages
}
