//! One HTTP exchange between a program and its LM, carried by Rust.
//!
//! Python's side is `transport.py`, which says what an event is. The exchange runs on the host's
//! LM runtime; its events come back through the inbox for code on the loop, and through a channel
//! for code on a thread, which waits without the GIL.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyTuple},
};
use serde_json::Value;
use tokio::{runtime::Handle, time::Instant};
use tracing::Span;

use super::{
    call::{Abort, CallState},
    convert,
    counters::UnderWay,
    inbox::Inbox,
    listeners::Listeners,
    tool::{self, Offered},
};
use crate::{
    CallContext, Cancel, Deadline, Tenant,
    lm::{CallSpan, LmFailure, LmFailureKind, LmHandle, LmLog, LmRequest, LmResponse},
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
    fn describe(&self) -> (&'static str, String) {
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
    status: u16,
    headers: HeaderMap,
}

impl Event {
    pub(super) const fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Full(..) | Self::End | Self::Value(_) | Self::Failed(_) | Self::Cancelled
        )
    }

    pub(super) fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        let head = |head: &Head| -> Vec<(String, String)> {
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = head.headers.iter();
            headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect()
        };
        match self {
            Self::Full(parts, body) => {
                ("full", parts.status, head(&parts), PyBytes::new(py, &body)).into_pyobject(py)
            }
            Self::Head(parts) => ("head", parts.status, head(&parts)).into_pyobject(py),
            Self::Chunk(bytes) => ("chunk", PyBytes::new(py, &bytes)).into_pyobject(py),
            Self::End => ("end",).into_pyobject(py),
            Self::Value(value) => ("value", convert::to_python(py, &value)?).into_pyobject(py),
            Self::Failed(failure) => {
                let (kind, message) = failure.describe();
                ("failed", kind, message).into_pyobject(py)
            }
            Self::Cancelled => ("cancelled",).into_pyobject(py),
        }
    }
}

/// Where the events of an exchange go.
#[derive(Clone)]
enum Sink {
    Loop(Arc<Inbox>, u64),
    Thread(mpsc::Sender<Event>),
}

impl Sink {
    /// Nobody may be there to hear it any more, and then it is not needed.
    fn send(&self, event: Event) {
        match self {
            Self::Loop(inbox, id) => inbox.deliver(*id, event),
            Self::Thread(sender) => {
                let _ = sender.send(event);
            }
        }
    }
}

/// The port's side of one exchange.
#[pyclass(frozen)]
pub(super) struct Exchange {
    id: u64,
    listeners: Arc<Listeners>,
    call: Option<Arc<CallState>>,
    abort: Abort,
    events: Option<Mutex<mpsc::Receiver<Event>>>,
}

#[pymethods]
impl Exchange {
    /// The next event, for code on a thread.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Some(events) = &self.events else {
            return Err(PyValueError::new_err(
                "an exchange of the loop's delivers its events",
            ));
        };
        let event = py.detach(|| {
            let events = events.lock().unwrap_or_else(PoisonError::into_inner);
            // The sender, which is the exchange's alone, goes without a word only when that was
            // aborted.
            events.recv().unwrap_or(Event::Cancelled)
        });
        event.into_python(py)
    }

    /// Nobody reads on: the connection closes.
    fn abort(&self) {
        self.listeners.remove(self.id);
        self.abort.now();
        if let Some(call) = &self.call {
            call.exchange_ended(self.id);
        }
    }
}

/// What an exchange needs of the port that opens it.
pub(super) struct Opening<'a> {
    pub(super) inbox: &'a Arc<Inbox>,
    pub(super) listeners: &'a Arc<Listeners>,
    pub(super) call: Option<Arc<CallState>>,
    pub(super) deliver: Option<Py<PyAny>>,
}

/// What an LM is to know of the call that it is called for.
pub(super) struct CallOf {
    pub(super) context: CallContext,
    pub(super) tenant: Option<Tenant>,
    pub(super) span: Span,
}

impl Opening<'_> {
    /// Sends the request of DSPy's transport on its way; `None` if the call may not call an LM
    /// any more.
    pub(super) fn lm_call(
        self,
        lm: Arc<LmHandle>,
        request: &Bound<'_, PyAny>,
        call: CallOf,
    ) -> PyResult<Option<Exchange>> {
        let mut request = read_request(request)?;
        let CallOf {
            mut context,
            tenant,
            span,
        } = call;
        request.extensions_mut().insert(CallSpan(span));
        // A cancel drops the exchange as a whole, and nothing is said of it.
        context.cancel = Cancel::none();
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
        self.start(|sink| async move {
            let end = run(lm, request, sink, deadline).await;
            drop(under_way);
            end
        })
    }

    /// Calls a tool of the user's; `None` if the call may not any more.
    pub(super) fn tool_call(
        self,
        tool: Arc<Offered>,
        call: ToolCall,
    ) -> PyResult<Option<Exchange>> {
        self.start(|_| tool::run(tool, call))
    }

    /// Starts `work` on the host's runtime, unless the call is over. Its output is the last event.
    fn start<W>(self, work: impl FnOnce(Sink) -> W) -> PyResult<Option<Exchange>>
    where
        W: Future<Output = Event> + Send + 'static,
    {
        let id = self.inbox.next_sequence();
        let (sink, events) = match &self.deliver {
            Some(_) => (Sink::Loop(self.inbox.clone(), id), None),
            None => {
                let (sender, events) = mpsc::channel();
                (Sink::Thread(sender), Some(Mutex::new(events)))
            }
        };
        let runtime: &Handle = super::runtime::handle().map_err(PyValueError::new_err)?;
        let start = || {
            let call = self.call.clone();
            // Whoever waits is told of a panic too: else it would wait for ever.
            let work = AssertUnwindSafe(work(sink.clone())).catch_unwind();
            let sink = sink.clone();
            let task = runtime.spawn(async move {
                let end = work.await;
                sink.send(end.unwrap_or(Event::Failed(Failure::Panicked)));
                if let Some(call) = call {
                    call.exchange_ended(id);
                }
            });
            Abort::new(task.abort_handle())
        };
        // Listening first: an answer may come before `start` has returned.
        if let Some(deliver) = self.deliver {
            self.listeners.add(id, deliver, self.call.clone());
        }
        let abort = match &self.call {
            Some(call) => call.begin_exchange(id, start),
            None => Some(start()),
        };
        let Some(abort) = abort else {
            self.listeners.remove(id);
            return Ok(None);
        };
        Ok(Some(Exchange {
            id,
            listeners: self.listeners.clone(),
            call: self.call,
            abort,
            events,
        }))
    }
}

/// DSPy's `TransportRequest` as a request of Rust's.
fn read_request(request: &Bound<'_, PyAny>) -> PyResult<LmRequest> {
    let invalid = |error: http::Error| PyValueError::new_err(error.to_string());
    let method: String = request.getattr("method")?.extract()?;
    let url: String = request.getattr("url")?.extract()?;
    let headers: Vec<(String, String)> = request.getattr("headers")?.extract()?;
    let body: Vec<u8> = request.getattr("body")?.extract()?;
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mut sent = Request::builder()
        .method(method)
        .uri(url)
        .body(Bytes::from(body))
        .map_err(invalid)?;
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        sent.headers_mut().append(name, value);
    }
    Ok(sent)
}

/// The exchange itself, on the LM runtime.
async fn run(
    lm: Arc<LmHandle>,
    request: LmRequest,
    sink: Sink,
    deadline: Option<Deadline>,
) -> Event {
    let end = match lm.send(request).await {
        Ok(response) => read(response, &sink).await,
        Err(failure) => Event::Failed(Failure::Lm(failure)),
    };
    // Past the call's own deadline it is about to be signalled, which says all there is to say:
    // an error now would let a program that catches exceptions go on for a moment.
    let over = matches!(&end, Event::Failed(_)) && deadline.is_some_and(Deadline::is_past);
    if over {
        std::future::pending::<()>().await;
    }
    end
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
