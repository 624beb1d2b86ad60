//! One exchange between a program and an LM, another server or a tool, carried by Rust.
//!
//! Python's side is `exchange.py`, which says what an event is, and `host_tools.py` for tools. The exchange runs on the host's
//! LM runtime; its events come back through the inbox for code on the loop, and through a channel
//! for code on a thread of this process. How a port hands them to Python is the port's affair.

#[cfg(feature = "python")]
use std::sync::mpsc;
use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use tracing::Span;

use super::{
    call::{Abort, CallState},
    inbox::Inbox,
    running::Running,
    tool::{self, Offered},
};
use crate::{
    call::CallContext,
    host::ToolCall,
    lm::{LmFailure, LmFailureKind},
    request::Tenant,
};

/// What Python hears of an exchange.
#[derive(Debug)]
pub(crate) enum Event {
    /// The whole answer.
    Full(Head, Bytes),
    /// The start of an answer that comes in pieces.
    Head(Head),
    Chunk(Bytes),
    End,
    /// What a tool answered.
    Value(Value),
    Failed(Failure),
    /// For code on a thread: it was aborted.
    #[cfg(feature = "python")]
    Cancelled,
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum Failure {
    Lm(LmFailure),
    Body(String),
    Tool(String),
    /// A layer of the user's, or a key function.
    Panicked,
}

impl Failure {
    /// The kind of error that DSPy is to see, in the words of `patches/lm15.py` and `patches/httpx.py`, and its message.
    pub(crate) fn describe(&self) -> (&'static str, String) {
        let failure = match self {
            Self::Lm(failure) => failure,
            Self::Body(message) => return ("protocol", message.clone()),
            Self::Tool(message) => return ("tool", message.clone()),
            Self::Panicked => {
                let message =
                    "the LM call failed: a layer of the LM, or its key function, panicked";
                return ("other", message.into());
            }
        };
        let kind = match failure.kind() {
            LmFailureKind::Connect => "connect",
            LmFailureKind::ConnectTimeout => "connect_timeout",
            LmFailureKind::FirstByteTimeout
            | LmFailureKind::IdleTimeout
            | LmFailureKind::TotalTimeout
            | LmFailureKind::Deadline => "read_timeout",
            LmFailureKind::Read => "read",
            LmFailureKind::Protocol => "protocol",
            _ => "other",
        };
        (kind, failure.to_string())
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// The headers as text, as DSPy wants them: Latin-1, which keeps each byte.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    }
}

impl Event {
    pub(crate) const fn is_last(&self) -> bool {
        !matches!(self, Self::Head(_) | Self::Chunk(_))
    }
}

/// Where the events of an exchange go.
#[derive(Clone)]
pub(crate) enum Sink {
    Loop(Arc<Inbox>, u64),
    #[cfg(feature = "python")]
    Thread(mpsc::Sender<Event>),
}

impl Sink {
    /// Nobody may be there to hear it any more, and then it is not needed.
    pub(crate) fn send(&self, event: Event) {
        match self {
            Self::Loop(inbox, id) => inbox.deliver(*id, event),
            #[cfg(feature = "python")]
            Self::Thread(sender) => {
                let _ = sender.send(event);
            }
        }
    }
}

/// What an exchange needs of the port that opens it.
pub(crate) struct Opening<'a> {
    pub(crate) inbox: &'a Arc<Inbox>,
    pub(crate) call: Option<Arc<CallState>>,
    /// Its number, and where its events go: before the start has returned, even.
    pub(crate) id: u64,
    /// Its number on Python's side.
    pub(crate) number: u64,
    pub(crate) sink: Sink,
}

/// The call's context, for the LM, the server or the tool that it asks.
pub(crate) struct CallOf {
    pub(crate) context: CallContext,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) span: Span,
}

impl CallOf {
    /// Of a call, or of code that belongs to none.
    pub(crate) fn of(call: Option<&Running>) -> Self {
        match call {
            Some(call) => Self {
                context: call.context.clone(),
                tenant: call.route.tenant.clone(),
                span: call.span.clone(),
            },
            None => Self {
                context: CallContext::new(),
                tenant: None,
                span: Span::none(),
            },
        }
    }

    /// The call of a tool with these arguments.
    pub(crate) fn into_tool(self, arguments: Map<String, Value>) -> ToolCall {
        let mut asked = ToolCall::new(arguments);
        (asked.context, asked.tenant) = (self.context, self.tenant);
        asked
    }
}

impl Opening<'_> {
    /// Calls a tool of the user's; `None` if the call may not any more.
    pub(crate) fn tool_call(
        self,
        tool: Arc<Offered>,
        call: ToolCall,
    ) -> Result<Option<Abort>, String> {
        self.start(|_| tool::run(tool, call))
    }

    /// Starts `work` on the host's runtime, unless the call is over. Its output is the last event.
    pub(crate) fn start<W>(self, work: impl FnOnce(Sink) -> W) -> Result<Option<Abort>, String>
    where
        W: Future<Output = Event> + Send + 'static,
    {
        let Self { id, sink, .. } = self;
        let runtime = super::runtime::handle()?;
        let call = self.call.clone();
        let start = || {
            // Whoever waits is told of a panic too: else it would wait for ever.
            let work = AssertUnwindSafe(work(sink.clone())).catch_unwind();
            let task = runtime.spawn(async move {
                let end = work.await;
                sink.send(end.unwrap_or(Event::Failed(Failure::Panicked)));
                if let Some(call) = call {
                    call.exchange_ended(id);
                }
            });
            Abort::new(task.abort_handle())
        };
        Ok(match &self.call {
            Some(call) => call.begin_exchange(id, start),
            None => Some(start()),
        })
    }
}
