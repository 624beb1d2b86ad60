//! HTTP requests of programs: LM calls through the stack of their LM, all others with the limits of
//! their call alone.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use tokio::task::AbortHandle;

use super::{
    call_state::CallState,
    call_totals::CallTotals,
    counters::HostCounters,
    event::Event,
    exchange::{NewExchange, in_time},
    host_core::HostCore,
    http_response::{fetch, late, read},
    lm_candidates::{LmCandidates, lm_of},
};
use crate::{
    call::{
        Budget, CallContext, Cancel, Deadline, Price, TraceContext,
        record::{AttemptRecord, CallRecord},
    },
    error::Classify,
    lm::{
        AskedModel, CallOver, CallSpan, EmbeddingRequest, ExchangeNumber, ListPrice, LmClient,
        LmHandle, LmLog, LmRequest, MemberLimit, ReadTimeout, RequestTrace, mark_keys,
    },
};

/// The limit of a connection, as DSPy's and the providers' own clients have it.
const CONNECT: Duration = Duration::from_secs(10);

/// A request of a program.
#[derive(Debug)]
pub(crate) struct ProgramRequest {
    /// `None` for a request that is no LM call.
    pub(crate) lms: Option<LmCandidates>,
    /// How long the program waits for the next byte.
    pub(crate) timeout: Option<Duration>,
    /// How long a member of an LM that is made of several may take until its first content.
    pub(crate) first_content: Option<Duration>,
    pub(crate) request: LmRequest,
}

/// The LM and the client of requests that belong to no LM of a host; made at the first of them. A
/// failure is not kept: the next request tries again.
fn no_lm() -> Result<&'static (Arc<LmHandle>, LmClient), String> {
    static NO_LM: OnceLock<(Arc<LmHandle>, LmClient)> = OnceLock::new();
    if let Some(made) = NO_LM.get() {
        return Ok(made);
    }
    let lm = LmHandle::of_no_lm().map_err(|error| error.to_string())?;
    let client = LmClient::new(Some(CONNECT)).map_err(|error| error.to_string())?;
    Ok(NO_LM.get_or_init(|| (Arc::new(lm), client)))
}

/// A limit that Python gave in seconds; `None` if no duration holds it.
pub(crate) fn time_limit(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|limit| Duration::try_from_secs_f64(limit).ok())
}

/// Sends a program's request, with the LMs that `find` returns by number; `None` if its call may
/// not send one any more.
pub(crate) fn send(
    core: &HostCore,
    exchange: NewExchange,
    program: ProgramRequest,
    find: impl Fn(i64) -> Option<Arc<LmHandle>>,
) -> Result<Option<AbortHandle>, String> {
    let ProgramRequest {
        lms,
        timeout,
        first_content,
        mut request,
    } = program;
    let counters = &core.counters;
    add_extensions(&mut request, exchange.call.as_ref(), core.budget.as_ref());
    let Some(LmCandidates(lms, model, price, is_embedding)) = lms else {
        return send_other(counters, exchange, request, timeout);
    };
    if let Some(limit) = timeout {
        request.extensions_mut().insert(ReadTimeout(limit));
    }
    if let Some(limit) = first_content {
        request.extensions_mut().insert(MemberLimit(limit));
    }
    if let Some(price) = price.and_then(|tiers| Price::of_tiers(&tiers)) {
        request.extensions_mut().insert(ListPrice(Arc::new(price)));
    }
    if is_embedding {
        request.extensions_mut().insert(EmbeddingRequest);
    }
    take_trace(&mut request);
    let lm = match lm_of(&request, &lms, exchange.call.is_some(), find)? {
        Some(lm) => lm,
        None => no_lm()?.0.clone(),
    };
    if !model.is_empty() && !lm.is_named(&model) {
        request.extensions_mut().insert(AskedModel(model.into()));
    }
    send_lm_call(counters, exchange, lm, request)
}

fn send_lm_call(
    counters: &Arc<HostCounters>,
    exchange: NewExchange,
    lm: Arc<LmHandle>,
    mut request: LmRequest,
) -> Result<Option<AbortHandle>, String> {
    let call = exchange.call.clone();
    let attempt = match &call {
        Some(call) => call.attempt.clone(),
        // Code that belongs to no call, such as a thread without its scope.
        None => {
            let totals = CallTotals::of_no_call(counters.clone());
            AttemptRecord::new(CallRecord::keeping(0), 0, Some(totals))
        }
    };
    request.extensions_mut().insert(LmLog(attempt));
    let number = ExchangeNumber(exchange.number);
    request.extensions_mut().insert(number);
    let flow = exchange.flow.clone();
    let under_way = counters.gauge(|stats| &mut stats.in_lm_calls);
    exchange.start(|sink| async move {
        let end = match lm.send(request).await {
            // Pauses are limited by the LM's handle, see `ReadTimeout`.
            Ok(response) => read(response, &sink, &flow, None).await,
            Err(failure) => {
                // An exception of Python's clients has no place for it.
                if let (Some(call), Some(wait)) = (&call, Classify::retry_after(&failure)) {
                    call.attempt.refused_for(wait);
                }
                failure.into()
            }
        };
        drop(under_way);
        unless_over(end, call.as_deref()).await
    })
}

/// Sends a request that is no LM call, with the deadline of its call.
fn send_other(
    counters: &Arc<HostCounters>,
    exchange: NewExchange,
    request: LmRequest,
    timeout: Option<Duration>,
) -> Result<Option<AbortHandle>, String> {
    let client = no_lm()?.1.clone();
    let call = exchange.call.clone();
    let deadline = call.as_ref().and_then(|call| call.context.deadline);
    let flow = exchange.flow.clone();
    counters.lock().http_requests += 1;
    exchange.start(|sink| async move {
        let fetched = fetch(client, request, timeout, &sink, &flow);
        let end = in_time(deadline.map(Deadline::remaining), fetched).await;
        let end = end.unwrap_or_else(|| late("its call's deadline passed"));
        unless_over(end, call.as_deref()).await
    })
}

/// Adds to the request's extensions what layers read of its call; of none, the budget of the host.
fn add_extensions(
    request: &mut LmRequest,
    call: Option<&Arc<CallState>>,
    of_host: Option<&Budget>,
) {
    let extensions = request.extensions_mut();
    let Some(call) = call else {
        if let Some(budget) = of_host {
            let context = extensions.get_or_insert_default::<CallContext>();
            context.add_budget(budget);
        }
        return;
    };
    let mut context = call.context.clone();
    // A cancel drops the exchange as a whole, without an event. A request that is about to leave
    // asks the call itself.
    context.cancel = Cancel::none();
    // From here on it counts the attempts at the LM call.
    context.attempt = 0;
    extensions.insert(context);
    extensions.insert(CallSpan(call.span()));
    let status = call.clone();
    extensions.insert(CallOver(Arc::new(move || status.is_over())));
    if let Some(tenant) = &call.route.tenant {
        extensions.insert(tenant.clone());
    }
}

/// Takes the trace out of what the LM and its layers would send on, without having been asked to. Python
/// writes that of its current span into the headers of LM calls.
fn take_trace(request: &mut LmRequest) {
    let of_python = TraceContext::take_from(request.headers_mut());
    let extensions = request.extensions_mut();
    let context = extensions.get_mut::<CallContext>();
    let of_call = context.and_then(|context| context.trace.take());
    if let Some(trace) = of_python.map(Arc::new).or(of_call) {
        extensions.insert(RequestTrace(trace));
    }
}

/// A request from the parts that Python sends.
pub(crate) fn request(
    method: &str,
    url: &str,
    headers: Vec<(String, String)>,
    body: Bytes,
) -> Result<LmRequest, String> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        // Python's strings of headers are Latin-1.
        let latin1: Result<Vec<_>, _> = value.chars().map(u8::try_from).collect();
        let value = latin1.map_err(|_| format!("the header `{name}` is not Latin-1"))?;
        request = request.header(name, value);
    }
    let mut request = request.body(body).map_err(|error| error.to_string())?;
    // The key of a program's own comes through the layers, which may log what is not sensitive.
    mark_keys(request.headers_mut());
    Ok(request)
}

/// Withholds the failure of a call that is cancelled or past its own deadline. Its cancel follows; an
/// error before that would let a program that catches exceptions go on for a moment.
async fn unless_over(end: Event, call: Option<&CallState>) -> Event {
    let is_over =
        |call: &CallState| call.is_over() || call.context.deadline.is_some_and(Deadline::is_past);
    if matches!(&end, Event::Failed(..)) && call.is_some_and(is_over) {
        std::future::pending::<()>().await;
    }
    end
}
