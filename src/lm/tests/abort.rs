//! The requests that ask a provider to abort LM calls which were ended before their end.

use std::sync::Mutex;

use ::http::{HeaderMap, Method};
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    super::abort::{LIMIT, UnfinishedLmCall, openai_background, sglang},
    *,
};
use crate::{
    call::{
        Cost, LmCall, Usage,
        record::{AttemptRecord, CallRecord, LateAnswer, Totals},
    },
    layers::HedgeLayer,
};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// What a server saw: a request, or that the connection of an answer was closed.
#[derive(Debug, PartialEq)]
enum Seen {
    Request(Method, String, Option<String>, Value),
    Closed,
}

impl Seen {
    fn of(request: &LmRequest) -> Self {
        let key = request.headers().get("authorization");
        Self::Request(
            request.method().clone(),
            request.uri().to_string(),
            key.map(|key| key.to_str().expect("text").to_owned()),
            serde_json::from_slice(request.body()).unwrap_or_default(),
        )
    }
}

/// What is dropped with the body of an answer.
struct Connection(mpsc::UnboundedSender<Seen>);

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Closed);
    }
}

/// An LM that streams these events and then nothing more; what else it is asked for, `other` answers.
fn streaming(
    events: impl Into<String>,
    other: u16,
) -> (Lm, Arc<AtomicU32>, mpsc::UnboundedReceiver<Seen>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let events: String = events.into();
    let (lm, sent) = lm(move |_, request: LmRequest| {
        let is_call = request.uri().path().ends_with("/completions")
            || request.uri().path().ends_with("/responses");
        let events = events.clone();
        let answer = match is_call {
            true => {
                let connection = Connection(sender.clone());
                let first = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from(events)))]);
                let body = first.chain(stream::pending().map(move |frame| {
                    let _ = &connection;
                    frame
                }));
                Response::builder()
                    .header("content-type", "text/event-stream")
                    .header("x-request-id", "req-7")
                    .body(LmBody::new(StreamBody::new(body)))
            }
            false => {
                let _ = sender.send(Seen::of(&request));
                Response::builder()
                    .status(other)
                    .body(LmBody::new(Pieces::after([])))
            }
        };
        std::future::ready(answer)
    });
    (lm, sent, seen)
}

fn event(id: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"{id}\",\"model\":\"x\",\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\
         \"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// Reads the first piece of the answer and drops the rest.
async fn cut(lm: &LmHandle, request: LmRequest) {
    let mut body = lm.send(request).await.expect("a head").into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
}

fn ask() -> LmRequest {
    request(URL, "x", true)
}

fn sglang_abort(id: &str) -> Seen {
    Seen::Request(
        Method::POST,
        "http://lm/abort_request".to_owned(),
        Some(format!("Bearer {KEY}")),
        json!({ "rid": id }),
    )
}

/// Whether nothing more was seen, once all tasks had their turn.
async fn is_quiet(seen: &mut mpsc::UnboundedReceiver<Seen>) -> bool {
    sleep(SECOND).await;
    !matches!(seen.try_recv(), Ok(Seen::Request(..)))
}

/// How many requests to abort were accepted, and how many failed.
#[derive(Default)]
struct AbortTotals(Mutex<[u32; 2]>);

impl Totals for AbortTotals {
    fn lm_call_begun(&self, _: &LmCall) {}

    fn lm_call_ended(&self, _: &LmCall) {}

    fn counted_by_dspy(&self, _: &LmCall, _: Usage, _: Cost) {}

    fn answered_too_late(&self, _: LateAnswer<'_>) {}

    fn abort_ended(&self, lm: (&str, &str), is_accepted: bool) {
        assert_eq!(lm, ("openai", "x"));
        self.0.lock().expect("no panic")[usize::from(!is_accepted)] += 1;
    }
}

fn with_totals(mut request: LmRequest) -> (LmRequest, Arc<AbortTotals>) {
    let totals = Arc::<AbortTotals>::default();
    let record = AttemptRecord::new(CallRecord::keeping(9), 0, Some(totals.clone()));
    request.extensions_mut().insert(LmLog(record));
    (request, totals)
}

fn counted(totals: &AbortTotals) -> [u32; 2] {
    *totals.0.lock().expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_sent_with_the_key_once_the_connection_is_closed() {
    let (lm, _, mut seen) = streaming(event(ID, "null"), 200);
    let (request, totals) = with_totals(ask());
    cut(&connect(&lm.abort(sglang)), request).await;
    assert_eq!(seen.recv().await, Some(Seen::Closed));
    assert_eq!(seen.recv().await, Some(sglang_abort(ID)));
    assert!(is_quiet(&mut seen).await);
    assert_eq!(counted(&totals), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn no_abort_is_sent_for_what_has_ended_or_was_not_sent() {
    // The reason of the end came.
    let (lm, _, mut seen) = streaming(event(ID, "\"stop\""), 200);
    cut(&connect(&lm.abort(sglang)), ask()).await;
    assert!(is_quiet(&mut seen).await);

    let aborts = Arc::new(AtomicU32::new(0));
    let count = aborts.clone();
    let hook = move |_: &UnfinishedLmCall| {
        count.fetch_add(1, Ordering::Relaxed);
        None
    };
    // The whole answer; an error; no connection; nothing sent.
    for status in [200, 503, 0] {
        let (lm, _) = self::lm(move |_, _| {
            let answer: Result<_, BoxError> = match status {
                0 => Err(LmFailure::new(LmFailureKind::Connect, "down").into()),
                status => {
                    let pieces = Pieces::after([Duration::ZERO]);
                    Ok(Response::builder()
                        .status(status)
                        .body(pieces)
                        .expect("a head"))
                }
            };
            std::future::ready(answer)
        });
        if let Ok(answer) = connect(&lm.abort(hook.clone())).send(ask()).await {
            let _ = text(answer.into_body()).await;
        }
    }
    let (lm, sent, _) = streaming("", 200);
    let mut late = ask();
    late.context_mut().limit(Deadline::within(Duration::ZERO));
    let refused = connect(&lm.abort(hook)).send(late).await;
    assert!(refused.is_err());
    sleep(SECOND).await;
    assert_eq!(sent.load(Ordering::Relaxed), 0);
    assert_eq!(aborts.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_elapsed_limit_and_a_broken_connection_are_aborted() {
    let (lm, _, mut seen) = streaming(event(ID, "null"), 200);
    let lm = lm.limits(LmLimits::new().with_idle(SECOND)).abort(sglang);
    let answer = connect(&lm).send(ask()).await.expect("a head");
    // Kept: it is the limit that closes the connection.
    let mut body = answer.into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
    drop(body);
    assert_eq!(seen.recv().await, Some(Seen::Closed));
    assert_eq!(seen.recv().await, Some(sglang_abort(ID)));

    let hooked = Arc::new(Mutex::new(Vec::new()));
    let ids = hooked.clone();
    let (lm, _) = self::lm(|_, _| {
        let pieces = [
            Ok::<_, BoxError>(Frame::data(Bytes::from(event(ID, "null")))),
            Err("it broke".into()),
        ];
        let answer = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(answer.body(StreamBody::new(stream::iter(pieces))))
    });
    let lm = connect(&lm.abort(move |call| {
        ids.lock().expect("no panic").push(call.response_id.clone());
        None
    }));
    let answer = lm.send(ask()).await.expect("a head");
    text(answer.into_body()).await.expect_err("it broke");
    sleep(SECOND).await;
    assert_eq!(*hooked.lock().expect("no panic"), [Some(ID.into())]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_aborted_by_itself() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let ends = calls.clone();
    let (lm, _) = lm(|n, _| async move {
        sleep(if n == 0 { 60 * SECOND } else { SECOND }).await;
        Ok::<_, BoxError>(Response::new(Pieces::after([])))
    });
    let lm = lm.layer(HedgeLayer::after(2 * SECOND)).abort(move |call| {
        let ids = (call.response_id.clone(), call.request_id.clone());
        ends.lock().expect("no panic").push(ids);
        None
    });
    let answer = connect(&lm).send(ask()).await.expect("an answer");
    text(answer.into_body()).await.expect("a body");
    sleep(SECOND).await;
    // The loser's: it had told no id.
    assert_eq!(*calls.lock().expect("no panic"), [(None, None)]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_is_refused_or_late_or_panics_is_counted_as_failed() {
    let (lm, _, _seen) = streaming(event(ID, "null"), 404);
    let (request, totals) = with_totals(ask());
    cut(&connect(&lm.clone().abort(sglang)), request).await;
    sleep(SECOND).await;
    assert_eq!(counted(&totals), [0, 1]);

    let (request, totals) = with_totals(ask());
    let panics = |_: &UnfinishedLmCall| -> Option<LmRequest> { panic!("a hook") };
    cut(&connect(&lm.abort(panics)), request).await;
    sleep(SECOND).await;
    assert_eq!(counted(&totals), [0, 1]);

    let (lm, _) = self::lm(|_, request: LmRequest| async move {
        if request.uri().path() == "/abort_request" {
            std::future::pending::<()>().await;
        }
        let pieces = [Ok::<_, BoxError>(Frame::data(Bytes::from(event(
            ID, "null",
        ))))];
        let body = stream::iter(pieces).chain(stream::pending());
        let answer = Response::builder().header("content-type", "text/event-stream");
        answer.body(StreamBody::new(body))
    });
    let (request, totals) = with_totals(ask());
    cut(&connect(&lm.abort(sglang)), request).await;
    sleep(LIMIT - SECOND).await;
    assert_eq!(counted(&totals), [0, 0]);
    sleep(2 * SECOND).await;
    assert_eq!(counted(&totals), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_key_goes_to_its_own_address_alone() {
    let (lm, _, mut seen) = streaming(event(ID, "null"), 200);
    let elsewhere = |_: &UnfinishedLmCall| {
        let request = ::http::Request::post("http://elsewhere/stop");
        request.body(Bytes::new()).ok()
    };
    cut(&connect(&lm.clone().abort(elsewhere)), ask()).await;
    assert_eq!(seen.recv().await, Some(Seen::Closed));
    let Some(Seen::Request(_, url, key, _)) = seen.recv().await else {
        panic!("no request");
    };
    assert_eq!((&*url, key), ("http://elsewhere/stop", None));

    // A request that would take it there is not sent.
    let (request, totals) = with_totals(ask());
    let with_key = move |call: &UnfinishedLmCall| {
        let mut request = elsewhere(call)?;
        *request.headers_mut() = call.request.headers().clone();
        Some(request)
    };
    cut(&connect(&lm.abort(with_key)), request).await;
    assert_eq!(seen.recv().await, Some(Seen::Closed));
    assert!(is_quiet(&mut seen).await);
    assert_eq!(counted(&totals), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_the_placeholder_the_tenant_and_whole_ids() {
    let long = format!("resp_{}", "0".repeat(300));
    for (id, told) in [(&*long, Some(&*long)), (&*"1".repeat(900), None)] {
        let (lm, _, _seen) = streaming(event(id, "null"), 200);
        let (sender, mut calls) = mpsc::unbounded_channel();
        let lm = lm.abort(move |call| {
            sender.send(call.clone()).ok();
            None
        });
        let mut request = ask();
        request.extensions_mut().insert(Tenant::new("acme"));
        cut(&connect(&lm), request).await;
        let call: UnfinishedLmCall = calls.recv().await.expect("it was called");
        assert_eq!(call.response_id.as_deref(), told);
        assert_eq!(call.request_id.as_deref(), Some("req-7"));
        let tenant = call.request.extensions().get::<Tenant>();
        assert_eq!(tenant.map(Tenant::name), Some("acme"));
        let shown: &HeaderMap = call.request.headers();
        assert_eq!(shown["authorization"], format!("Bearer {PLACEHOLDER}"));
        assert!(!format!("{call:?}").contains("ping"), "{call:?}");
    }
}

#[test]
fn a_short_id_is_not_sent_to_sglang_as_it_may_begin_others() {
    let mut call = UnfinishedLmCall::new(request("http://lm/prefix/v1", "x", true));
    for id in [None, Some(""), Some("1"), Some(&ID[1..])] {
        call.response_id = id.map(Into::into);
        assert!(sglang(&call).is_none(), "{id:?}");
    }
    call.response_id = Some(ID.into());
    let request = sglang(&call).expect("a request");
    assert_eq!(request.uri(), "http://lm/prefix/abort_request");
}

#[test]
fn only_background_responses_are_cancelled() {
    let call = |url: &str, body: Value, id: &str| {
        let request = ::http::Request::post(url).body(body.to_string().into());
        let mut call = UnfinishedLmCall::new(request.expect("a request"));
        call.response_id = Some(id.into());
        openai_background(&call)
    };
    let background = json!({"background": true, "stream": true});
    let cancel = call("http://lm/v1/responses", background.clone(), "resp_1");
    assert_eq!(
        cancel.expect("a request").uri(),
        "http://lm/v1/responses/resp_1/cancel"
    );
    let azure = "https://a.openai.azure.com/openai/responses?api-version=preview";
    let cancel = call(azure, background.clone(), "resp_1");
    assert_eq!(
        cancel.expect("a request").uri(),
        "https://a.openai.azure.com/openai/responses/resp_1/cancel?api-version=preview"
    );
    for (url, body, id) in [
        ("http://lm/v1/responses", json!({"stream": true}), "resp_1"),
        (
            "http://lm/v1/chat/completions",
            background.clone(),
            "resp_1",
        ),
        ("http://lm/v1/responses", background, "../models"),
    ] {
        assert!(call(url, body, id).is_none(), "{url} {id}");
    }
}

#[test]
fn an_answer_that_is_dropped_outside_of_a_runtime_is_aborted() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (lm, _, mut seen) = streaming(event(ID, "null"), 200);
    let lm = lm.abort(sglang);
    let body = runtime.block_on(async {
        let mut body = connect(&lm).send(ask()).await.expect("a head").into_body();
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        body
    });
    drop(body);
    assert_eq!(seen.blocking_recv(), Some(Seen::Closed));
    assert_eq!(seen.blocking_recv(), Some(sglang_abort(ID)));
}
