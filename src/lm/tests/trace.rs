//! The trace of an LM call, in the headers of its requests.

use std::sync::Mutex;

use super::*;
use crate::{call::TraceContext, lm::http::RequestTrace};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The `traceparent` that `lm` sends with a request that was made in the trace.
async fn sent(change: impl FnOnce(Lm) -> Lm, mut request: LmRequest) -> Option<String> {
    let seen: Arc<Mutex<Option<String>>> = Arc::default();
    let log = seen.clone();
    let (lm, _) = lm(move |_, request| {
        let value = request.headers().get(TraceContext::TRACEPARENT);
        *log.lock().expect("a lock") = value.map(|value| value.to_str().expect("text").to_owned());
        std::future::ready(Response::builder().body(http_body_util::Full::default()))
    });
    let trace = TraceContext::parse(PARENT, "").expect("a trace");
    request.extensions_mut().insert(RequestTrace(trace.into()));
    connect(&change(lm)).send(request).await.expect("an answer");
    seen.lock().expect("a lock").take()
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_sent_to_the_lm_only_if_that_is_asked_for() {
    let plain = || request(URL, "x", false);
    assert_eq!(sent(|lm| lm, plain()).await, None);
    let propagated = sent(Lm::trace_propagation, plain()).await;
    assert_eq!(propagated.as_deref(), Some(PARENT));
}
