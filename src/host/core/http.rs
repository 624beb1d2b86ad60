//! HTTP requests of programs: LM calls through the stack of their LM, all others with the limits of
//! their call alone.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt};

use super::{
    call::{Abort, CallState},
    counters::UnderWay,
    exchange::{CallOf, Event, Failure, Head, Opening, Sink},
};
use crate::{
    call::{
        Cancel, Deadline,
        record::{AttemptRecord, CallRecord},
    },
    lm::{
        Asked, CallOver, CallSpan, ExchangeNumber, Lm, LmClient, LmConfigError, LmFailure,
        LmFailureKind, LmHandle, LmLog, LmRequest, LmResponse, Placeholder, ReadTimeout, mark_keys,
    },
};

/// Which LM a request belongs to: the numbers of those that it may, the likeliest first, and the
/// model that is asked, in DSPy's words.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Route(pub(crate) Vec<i64>, pub(crate) String);

/// What a program sends.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// `None` for a request that is no LM call.
    pub(crate) route: Option<Route>,
    /// How long the program waits for the next byte.
    pub(crate) timeout: Option<Duration>,
    pub(crate) request: LmRequest,
}

/// What carries requests that belong to no LM of the host; made when the first such request comes.
#[derive(Debug, Default)]
pub(crate) struct Unnamed(std::sync::OnceLock<(Arc<LmHandle>, LmClient)>);

impl Unnamed {
    fn get(&self) -> Result<&(Arc<LmHandle>, LmClient), String> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let make = || {
            Ok((
                Arc::new(LmHandle::of_no_lm()?),
                LmClient::new(Some(CONNECT))?,
            ))
        };
        let made = make().map_err(|error: LmConfigError| error.to_string())?;
        Ok(self.0.get_or_init(|| made))
    }
}

/// As DSPy's and the providers' own clients wait for a connection at most.
const CONNECT: Duration = Duration::from_secs(10);

impl Opening<'_> {
    /// Sends a program's request on its way; `None` if its call may not send one any more.
    pub(crate) fn http(
        self,
        outgoing: Outgoing,
        find: impl Fn(i64) -> Option<Arc<LmHandle>>,
        call: CallOf,
    ) -> Result<Option<Abort>, String> {
        let Outgoing {
            route,
            timeout,
            mut request,
        } = outgoing;
        if let Some(limit) = timeout {
            request.extensions_mut().insert(ReadTimeout(limit));
        }
        let Some(Route(lms, model)) = route else {
            return self.other_request(request, timeout, call);
        };
        let lm = match lm_of(&request, &lms, self.call.is_some(), find)? {
            Some(lm) => lm,
            None => self.inbox.unnamed.get()?.0.clone(),
        };
        if !model.is_empty() && !lm.is_named(&model) {
            request.extensions_mut().insert(Asked(model.into()));
        }
        self.lm_call(lm, request, call)
    }

    fn lm_call(
        self,
        lm: Arc<LmHandle>,
        mut request: LmRequest,
        call: CallOf,
    ) -> Result<Option<Abort>, String> {
        let totals = &self.inbox.lm_counters;
        let attempt = match &self.call {
            Some(call) => call.spending().attempt().clone(),
            // Code that belongs to no call, such as a thread without its scope.
            None => AttemptRecord::new(CallRecord::keeping(0), 0, Some(totals.clone())),
        };
        request.extensions_mut().insert(LmLog::of(attempt));
        request.extensions_mut().insert(ExchangeNumber(self.number));
        let deadline = self.insert(call, &mut request);
        let under_way = UnderWay::new(self.inbox.clone());
        let call = self.call.clone();
        self.start(|sink| async move {
            let sent = lm.send(request).await;
            let end = match sent {
                // Pauses are limited by the exchange, see `ReadTimeout`.
                Ok(response) => read(response, &sink, None).await,
                Err(failure) => Event::Failed(Failure::Lm(failure)),
            };
            drop(under_way);
            told_unless_over(end, deadline, call.as_deref()).await
        })
    }

    /// A request that is no LM call has the deadline of its call, and ends with it.
    fn other_request(
        self,
        mut request: LmRequest,
        timeout: Option<Duration>,
        call: CallOf,
    ) -> Result<Option<Abort>, String> {
        let client = self.inbox.unnamed.get()?.1.clone();
        let deadline = self.insert(call, &mut request);
        self.inbox.counters.http_requests.add(1);
        let call = self.call.clone();
        self.start(|sink| async move {
            let end = fetch(client, request, timeout, &sink);
            let end = match deadline {
                None => end.await,
                Some(at) => match tokio::time::timeout_at(at.instant(), end).await {
                    Ok(end) => end,
                    Err(_) => late("its call's deadline passed"),
                },
            };
            told_unless_over(end, deadline, call.as_deref()).await
        })
    }

    /// Puts what layers are to know of the call into the request's extensions.
    fn insert(&self, call: CallOf, request: &mut LmRequest) -> Option<Deadline> {
        let CallOf {
            mut context,
            tenant,
            span,
        } = call;
        let extensions = request.extensions_mut();
        extensions.insert(CallSpan(span));
        // A cancel drops the exchange as a whole, and nothing is said of it; what is about to leave
        // asks the call itself.
        context.cancel = Cancel::none();
        if let Some(call) = &self.call {
            extensions.insert(CallOver(call.clone()));
        }
        // From here on it counts the attempts at the LM call.
        context.attempt = 0;
        let deadline = context.deadline;
        extensions.insert(context);
        if let Some(tenant) = tenant {
            extensions.insert(tenant);
        }
        deadline
    }
}

/// The LM of a request: the one whose placeholder it has; else the likeliest of `lms`. `None` if
/// there is none, and the request brings its own key.
///
/// # Errors
/// If the placeholder's LM is gone, or, for a request of a call, is not one of `lms`: a client that
/// a module keeps for all programs would have one tenant pay for another.
fn lm_of(
    request: &LmRequest,
    lms: &[i64],
    of_call: bool,
    find: impl Fn(i64) -> Option<Arc<LmHandle>>,
) -> Result<Option<Arc<LmHandle>>, String> {
    let first = || lms.iter().find_map(|lm| find(*lm));
    match Placeholder::in_request(request) {
        None => Ok(first()),
        Some(Placeholder::Of(lm)) if of_call && !lms.contains(&lm) => {
            Err("the request has the placeholder of an LM that is none of its program's".into())
        }
        Some(Placeholder::Of(lm)) => match find(lm) {
            Some(lm) => Ok(Some(lm)),
            None => {
                Err("the LM of this request is gone: the host has forgotten its program".into())
            }
        },
        Some(Placeholder::Any) => {
            let there = lms.iter().filter_map(|lm| find(*lm));
            let at_address = there.into_iter().find(|lm| lm.is_at(request.uri()));
            match at_address.or_else(first) {
                Some(lm) => Ok(Some(lm)),
                None => Err(
                    "the request has a placeholder for a key, and its program was loaded \
                             without an LM of the host's: give it one by `.lm(..)`"
                        .into(),
                ),
            }
        }
    }
}

/// The LM that a program brought along, taken over, and whether the host has its key from now on.
/// Where it has none, as only DSPy knows the provider's address or key, Python keeps what it has.
pub(crate) fn adopt(
    model: String,
    base_url: Option<String>,
    key: Option<String>,
) -> Result<(LmHandle, bool), String> {
    let mut lm = Lm::new(model);
    if let Some(base_url) = base_url {
        lm = lm.base_url(base_url);
    }
    if let Some(key) = key {
        lm = lm.key(key);
    }
    match lm.connect() {
        Ok(handle) => {
            let keyed = lm.is_keyed() && handle.has_key();
            Ok((handle, keyed))
        }
        Err(LmConfigError::NoAddress { .. }) => {
            let handle = LmHandle::of_no_lm().map_err(|error| error.to_string())?;
            Ok((handle, false))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The parts of a program's request as a request of Rust's.
pub(crate) fn request(
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
        // Python's strings of headers are Latin-1.
        let value = value
            .chars()
            .map(u8::try_from)
            .collect::<Result<Vec<_>, _>>();
        let value = value.map_err(|_| format!("the header `{name}` is not Latin-1"))?;
        let value = HeaderValue::from_bytes(&value).map_err(|error| error.to_string())?;
        sent.headers_mut().append(name, value);
    }
    // The key of a program's own comes through the layers, which may log what is not sensitive.
    mark_keys(sent.headers_mut());
    Ok(sent)
}

/// Cancelled, or past its own deadline, a call is about to be signalled, which says all there is to
/// say: an error before that would let a program that catches exceptions go on for a moment.
async fn told_unless_over(
    end: Event,
    deadline: Option<Deadline>,
    call: Option<&CallState>,
) -> Event {
    let over = || deadline.is_some_and(Deadline::is_past) || call.is_some_and(CallState::is_over);
    if matches!(&end, Event::Failed(_)) && over() {
        std::future::pending::<()>().await;
    }
    end
}

/// Sends a request that is no LM call.
async fn fetch(
    client: LmClient,
    request: LmRequest,
    limit: Option<Duration>,
    sink: &Sink,
) -> Event {
    let answer = in_time(limit, async {
        let mut client = client;
        client.ready().await?.call(request).await
    });
    match answer.await {
        Some(Ok(response)) => read(response, sink, limit).await,
        Some(Err(error)) => failed(&error),
        None => late("no answer came in time"),
    }
}

async fn in_time<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) => timeout(limit, work).await.ok(),
    }
}

fn failed(error: &BoxError) -> Event {
    Event::Failed(Failure::Lm(LmFailure::of(&**error)))
}

fn late(message: &str) -> Event {
    let failure = LmFailure::new(LmFailureKind::IdleTimeout, message);
    Event::Failed(Failure::Lm(failure))
}

/// The longest answer that is held as a whole.
const LONGEST: usize = 64 << 20;

/// Kinds of answers that come piece by piece.
const STREAMED: [&[u8]; 4] = [
    b"text/event-stream",
    b"application/vnd.amazon.eventstream",
    b"application/x-ndjson",
    b"application/stream+json",
];

/// Reads the answer, with at most `limit` between two pieces; returns its last event.
async fn read(response: LmResponse, sink: &Sink, limit: Option<Duration>) -> Event {
    let (parts, mut body) = response.into_parts();
    // All others are read as a whole: one event, one crossing.
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let streamed = kind.is_some_and(|kind| STREAMED.iter().any(|start| kind.starts_with(start)));
    let mut head = Some(Head {
        status: parts.status.as_u16(),
        headers: parts.headers,
    });
    let mut whole = BytesMut::new();
    if streamed && let Some(head) = head.take() {
        sink.send(Event::Head(head));
    }
    loop {
        let Some(frame) = in_time(limit, body.frame()).await else {
            return late("the answer paused for too long");
        };
        let data = match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => break,
            Some(Ok(Ok(data))) => data,
            Some(Ok(Err(_trailers))) => continue,
            // The handle's bodies fail with a boxed `LmFailure`.
            Some(Err(error)) => match error.downcast::<LmFailure>() {
                Ok(failure) => return Event::Failed(Failure::Lm(*failure)),
                Err(other) => return failed(&other),
            },
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
