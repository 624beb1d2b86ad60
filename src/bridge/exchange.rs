//! One HTTP exchange between a program and its LM, carried by Rust.
//!
//! Python's side is `transport.py`, which says what an event is. The exchange runs on the host's
//! LM runtime; its events come back through the inbox for code on the loop, and through a channel
//! for code on a thread of this process. How a port hands them to Python is the port's affair.

#[cfg(feature = "python")]
use std::sync::mpsc;
use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::Span;

use super::{
    call::{Abort, CallState},
    counters::UnderWay,
    inbox::Inbox,
    running::Running,
    tool::{self, Offered},
};
use crate::{
    CallContext, Cancel, Deadline, Lm, Tenant,
    lm::{CallOver, CallSpan, LmFailure, LmFailureKind, LmHandle, LmLog, LmRequest, LmResponse},
    service::ToolCall,
    spent::{account::Account, attempt::Attempt},
};

/// What Python hears of an exchange.
#[derive(Debug)]
pub(super) enum Event {
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
pub(super) enum Failure {
    Lm(LmFailure),
    Body(String),
    Tool(String),
    /// A layer of the user's, or a key function.
    Panicked,
}

impl Failure {
    /// The kind of error that DSPy is to see, in the words of `transport.py`, and its message.
    pub(super) fn describe(&self) -> (&'static str, String) {
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
pub(super) struct Head {
    pub(super) status: u16,
    headers: HeaderMap,
}

impl Head {
    /// The headers as text, as DSPy wants them.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    }
}

impl Event {
    pub(super) const fn is_last(&self) -> bool {
        !matches!(self, Self::Head(_) | Self::Chunk(_))
    }
}

/// Where the events of an exchange go.
#[derive(Clone)]
pub(super) enum Sink {
    Loop(Arc<Inbox>, u64),
    #[cfg(feature = "python")]
    Thread(mpsc::Sender<Event>),
}

impl Sink {
    /// Nobody may be there to hear it any more, and then it is not needed.
    fn send(&self, event: Event) {
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
pub(super) struct Opening<'a> {
    pub(super) inbox: &'a Arc<Inbox>,
    pub(super) call: Option<Arc<CallState>>,
    /// Its number, and where its events go: before the start has returned, even.
    pub(super) id: u64,
    pub(super) sink: Sink,
}

/// What an LM is to know of the call that it is called for.
pub(super) struct CallOf {
    pub(super) context: CallContext,
    pub(super) tenant: Option<Tenant>,
    pub(super) span: Span,
}

impl CallOf {
    /// Of a call, or of code that belongs to none.
    pub(super) fn of(call: Option<&Running>) -> Self {
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
    pub(super) fn into_tool(self, arguments: Map<String, Value>) -> ToolCall {
        let mut asked = ToolCall::new(arguments);
        (asked.context, asked.tenant) = (self.context, self.tenant);
        asked
    }
}

impl Opening<'_> {
    /// Sends the request of DSPy's transport on its way; `None` if the call may not call an LM
    /// any more.
    pub(super) fn lm_call(
        self,
        lm: Arc<LmHandle>,
        mut request: LmRequest,
        call: CallOf,
    ) -> Result<Option<Abort>, String> {
        let CallOf {
            mut context,
            tenant,
            span,
        } = call;
        request.extensions_mut().insert(CallSpan(span));
        // A cancel drops the exchange as a whole, and nothing is said of it; what is about to leave
        // asks the call itself.
        context.cancel = Cancel::none();
        if let Some(call) = &self.call {
            request.extensions_mut().insert(CallOver(call.clone()));
        }
        // From here on it counts the attempts at the LM call.
        context.attempt = 0;
        let totals = &self.inbox.lm_counters;
        let attempt = match &self.call {
            Some(call) => call.spending().attempt(totals).cloned(),
            // Code that belongs to no call, such as a thread without its scope.
            None => Some(Attempt::new(
                Account::new(Instant::now(), 0),
                0,
                Some(totals.clone()),
            )),
        };
        let Some(attempt) = attempt else {
            return Ok(None);
        };
        request.extensions_mut().insert(LmLog::of(attempt));
        let deadline = context.deadline;
        request.extensions_mut().insert(context);
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(tenant);
        }
        let under_way = UnderWay::new(self.inbox.clone());
        let call = self.call.clone();
        self.start(|sink| async move {
            let over = || deadline.is_some_and(Deadline::is_past) || is_over(call.as_deref());
            let end = run(lm, request, sink, over).await;
            drop(under_way);
            end
        })
    }

    /// Calls a tool of the user's; `None` if the call may not any more.
    pub(super) fn tool_call(
        self,
        tool: Arc<Offered>,
        call: ToolCall,
    ) -> Result<Option<Abort>, String> {
        self.start(|_| tool::run(tool, call))
    }

    /// Starts `work` on the host's runtime, unless the call is over. Its output is the last event.
    fn start<W>(self, work: impl FnOnce(Sink) -> W) -> Result<Option<Abort>, String>
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

/// The LM that a program brought along, taken over.
pub(super) fn adopt(
    model: String,
    base_url: Option<String>,
    key: Option<String>,
) -> Result<LmHandle, String> {
    let mut lm = Lm::new(model);
    if let Some(base_url) = base_url {
        lm = lm.base_url(base_url);
    }
    if let Some(key) = key {
        lm = lm.key(key);
    }
    lm.connect().map_err(|error| error.to_string())
}

/// The parts of DSPy's `TransportRequest` as a request of Rust's.
pub(super) fn request(
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    body: Bytes,
) -> Result<LmRequest, String> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let mut sent = Request::builder()
        .method(method)
        .uri(url)
        .body(body)
        .map_err(|error| error.to_string())?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
        sent.headers_mut().append(name, value);
    }
    Ok(sent)
}

/// The exchange itself, on the LM runtime.
async fn run(lm: Arc<LmHandle>, request: LmRequest, sink: Sink, over: impl Fn() -> bool) -> Event {
    let end = match lm.send(request).await {
        Ok(response) => read(response, &sink).await,
        Err(failure) => Event::Failed(Failure::Lm(failure)),
    };
    // Cancelled, or past its own deadline, the call is about to be signalled, which says all there
    // is to say: an error now would let a program that catches exceptions go on for a moment.
    if matches!(&end, Event::Failed(_)) && over() {
        std::future::pending::<()>().await;
    }
    end
}

fn is_over(call: Option<&CallState>) -> bool {
    call.is_some_and(CallState::is_over)
}

/// The longest answer that is held as a whole.
const LONGEST: usize = 64 << 20;

/// Reads the answer; returns its last event.
async fn read(response: LmResponse, sink: &Sink) -> Event {
    let (parts, mut body) = response.into_parts();
    let head = Head {
        status: parts.status.as_u16(),
        headers: parts.headers,
    };
    // DSPy reads anything but a stream of events as a whole: one event, one crossing.
    let streamed = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut whole = BytesMut::new();
    let mut head = Some(head);
    if streamed && let Some(head) = head.take() {
        sink.send(Event::Head(head));
    }
    while let Some(frame) = body.frame().await {
        let data = match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_trailers)) => continue,
            // A boxed failure is what the handle's bodies fail with.
            Err(error) => {
                let failure = match error.downcast::<LmFailure>() {
                    Ok(failure) => Failure::Lm(*failure),
                    Err(other) => Failure::Body(other.to_string()),
                };
                return Event::Failed(failure);
            }
        };
        if streamed {
            sink.send(Event::Chunk(data));
        } else if whole.len() + data.len() > LONGEST {
            let failure = format!("the answer is longer than {LONGEST} bytes");
            return Event::Failed(Failure::Body(failure));
        } else {
            whole.extend_from_slice(&data);
        }
    }
    match head {
        Some(head) => Event::Full(head, whole.freeze()),
        None => Event::End,
    }
}
