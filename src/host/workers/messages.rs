//! The meaning of a worker's frames, by the part of the pool that handles it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    frames,
    numbers::LoadId,
    program_action::LoadAnswer,
    wire::{FromWorker, Secret},
};
use crate::host::core::{
    fault::Fault,
    http::{self, ProgramRequest},
};

/// A message of a worker.
pub(super) enum WorkerMessage {
    /// It can load programs; the parts of DSPy that are patched only in part.
    Up(Vec<String>),
    /// It cannot import DSPy.
    Unusable(Fault),
    Loop(LoopMessage),
    /// A thread was given up, and whether another took its place.
    GaveUp {
        replaced: bool,
    },
    /// A thread that was given up has ended.
    CameBack,
    Log {
        level: u32,
        logger: String,
        message: String,
    },
    Loaded {
        load: LoadId,
        answer: LoadAnswer,
    },
    AdoptLm(OwnLm),
    /// By the worker's number of the exchange, and of the call that it belongs to.
    Open {
        number: u64,
        call: Option<u64>,
        request: ExchangeRequest,
    },
    Abort {
        number: u64,
    },
    Call(u64, CallMessage),
}

/// An LM that a program made itself.
pub(super) struct OwnLm {
    /// The worker's number of it.
    pub(super) lm: i64,
    pub(super) model: String,
    pub(super) base_url: Option<String>,
    pub(super) key: Option<Secret>,
}

/// A message about the worker's loop.
pub(super) enum LoopMessage {
    Beat,
    /// The loop is late, but Python code runs.
    Pulse,
    /// Python code blocks the loop; the innermost frame comes first.
    Blocked {
        frames: Vec<String>,
        program: Option<String>,
        call: Option<u64>,
    },
}

/// What an exchange is to carry, or why it cannot.
pub(super) enum ExchangeRequest {
    Http(Result<Box<ProgramRequest>, String>),
    Tool {
        tool: usize,
        arguments: Result<Map<String, Value>, String>,
    },
}

/// A message about a call.
pub(super) enum CallMessage {
    /// It has its outcome; `is_last` says that all its work has ended.
    Outcome {
        outcome: Result<Value, Fault>,
        is_last: bool,
    },
    /// All its work has ended; the names of the tasks that it left behind.
    Settled(Option<Vec<String>>),
    Abandoned,
    Cancelled,
    Partial(Value),
    Stepped {
        exchange: Option<u64>,
        counts: Option<(u64, u64, u64)>,
    },
    Bypassed(String),
}

impl WorkerMessage {
    /// Reads a message and its tail. `None` for a partial answer that is not JSON.
    pub(super) fn read(message: FromWorker, tail: &Bytes) -> Option<Self> {
        Some(match message {
            FromWorker::Ready { weaker } => Self::Up(weaker),
            FromWorker::Unusable { fault } => Self::Unusable(Fault::read(&fault)),
            FromWorker::Beat => Self::Loop(LoopMessage::Beat),
            FromWorker::Pulse => Self::Loop(LoopMessage::Pulse),
            FromWorker::Blocked {
                frames,
                program,
                call,
            } => Self::Loop(LoopMessage::Blocked {
                frames,
                program,
                call,
            }),
            FromWorker::GaveUp { replaced } => Self::GaveUp { replaced },
            FromWorker::CameBack => Self::CameBack,
            FromWorker::Log {
                level,
                logger,
                message,
            } => Self::Log {
                level,
                logger,
                message,
            },
            FromWorker::Loaded { load, target } => Self::Loaded {
                load,
                answer: Ok((target, frames::value(tail))),
            },
            FromWorker::NotLoaded { load, fault } => Self::Loaded {
                load,
                answer: Err(Fault::read(&fault)),
            },
            FromWorker::AdoptLm {
                lm,
                model,
                base_url,
                key,
            } => Self::AdoptLm(OwnLm {
                lm,
                model,
                base_url,
                key,
            }),
            FromWorker::Open {
                exchange: number,
                route,
                timeout,
                call,
                method,
                url,
                headers,
            } => {
                let request = http::request(&method, &url, headers, tail.clone());
                let timeout = timeout.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
                let outgoing = request.map(|request| ProgramRequest {
                    lms: route,
                    timeout,
                    request,
                });
                let request = ExchangeRequest::Http(outgoing.map(Box::new));
                Self::Open {
                    number,
                    call,
                    request,
                }
            }
            FromWorker::CallTool {
                exchange: number,
                tool,
                call,
            } => {
                let arguments = match frames::value(tail) {
                    Ok(Value::Object(arguments)) => Ok(arguments),
                    Ok(_) => Err("the arguments of a tool are no object".to_owned()),
                    Err(fault) => Err(fault.message),
                };
                Self::Open {
                    number,
                    call,
                    request: ExchangeRequest::Tool { tool, arguments },
                }
            }
            FromWorker::Abort { exchange: number } => Self::Abort { number },
            FromWorker::Done { call } => Self::outcome(call, frames::value(tail), false),
            FromWorker::Failed { call, fault } => {
                Self::outcome(call, Err(Fault::read(&fault)), false)
            }
            FromWorker::Finished { call } => Self::outcome(call, frames::value(tail), true),
            FromWorker::Settled { call, strays } => Self::Call(call, CallMessage::Settled(strays)),
            FromWorker::Abandoned { call } => Self::Call(call, CallMessage::Abandoned),
            FromWorker::Cancelled { call } => Self::Call(call, CallMessage::Cancelled),
            FromWorker::Partial { call } => {
                Self::Call(call, CallMessage::Partial(frames::value(tail).ok()?))
            }
            FromWorker::Stepped {
                call,
                exchange,
                counts,
            } => Self::Call(call, CallMessage::Stepped { exchange, counts }),
            FromWorker::Bypassed { call, lm } => Self::Call(call, CallMessage::Bypassed(lm)),
        })
    }

    const fn outcome(call: u64, outcome: Result<Value, Fault>, is_last: bool) -> Self {
        Self::Call(call, CallMessage::Outcome { outcome, is_last })
    }

    /// Whether the message shows that calls make progress. A heartbeat and a log record do not: a
    /// worker also sends them while no call does.
    pub(super) const fn is_crossing(&self) -> bool {
        !matches!(self, Self::Loop(_) | Self::Log { .. })
    }
}

/// Decodes the bytes that a worker sends, as far as they are messages; returns how many. For the
/// fuzz target `worker_frames`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn decode_worker_bytes(bytes: &[u8]) -> usize {
    use tokio_util::codec::Decoder;

    let (mut codec, mut bytes) = (frames::codec(), bytes.into());
    let mut messages = 0;
    while let Ok(Some(frame)) = codec.decode(&mut bytes) {
        let Ok((message, tail)) = frames::decode(frame.freeze()) else {
            break;
        };
        messages += usize::from(WorkerMessage::read(message, &tail).is_some());
    }
    messages
}
