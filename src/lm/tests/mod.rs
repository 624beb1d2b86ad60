//! The stack as a whole: limits under paused time, and the wire against a real server.

mod abort;
mod abort_limit;
mod budgets;
mod charges;
mod compose;
mod content;
mod departure;
mod encoding;
mod error_body;
mod keys;
mod limits;
mod member_limit;
mod proxy;
mod recorded;
mod stack;
mod time_left;
mod tls;
mod token_rate;
mod trace;
mod wire;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::http::Response;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{
    net::TcpSocket,
    time::{Sleep, sleep},
};
use tower::{BoxError, service_fn};

use super::*;
use crate::{
    call::{Carrier, Deadline, LmOutcome},
    error::{Classify, ErrorKind},
    layers::{Backoff, RetryLayer},
    request::Tenant,
};

const URL: &str = "http://lm/v1";
const KEY: &str = "very-secret-key";
const SECOND: Duration = Duration::from_secs(1);

/// An LM whose nth request, from 0 on, `answer` answers; and how many came.
fn lm<R, B, E>(
    answer: impl Fn(u32, LmRequest) -> R + Clone + Send + Sync + 'static,
) -> (Lm, Arc<AtomicU32>)
where
    R: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    E: Into<BoxError> + 'static,
{
    let sent = Arc::new(AtomicU32::new(0));
    let count = sent.clone();
    let service = service_fn(move |request| answer(count.fetch_add(1, Ordering::Relaxed), request));
    (lm_at(URL).http(service), sent)
}

/// An LM with a key at this address.
fn lm_at(base: &str) -> Lm {
    Lm::new("openai/x").base_url(base).key(KEY)
}

/// Where nobody listens, for as long as the socket is held: bound, and given to nobody else.
fn nowhere() -> (TcpSocket, String) {
    let bound = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    bound.bind(any).expect("a port");
    let base = format!("http://{}/v1", bound.local_addr().expect("an address"));
    (bound, base)
}

fn connect(lm: &Lm) -> LmHandle {
    lm.connect().expect("it is complete")
}

/// As many retries, each at once.
fn retries(retries: u32) -> RetryLayer {
    RetryLayer::new(retries).with_backoff(Backoff::fixed(Duration::ZERO))
}

/// A request in OpenAI's dialect, as Python's side makes them.
fn request(base: &str, model: &str, stream: bool) -> LmRequest {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "ping"}],
        "stream": stream,
        "stream_options": if stream { json!({"include_usage": true}) } else { json!(null) },
    });
    ::http::Request::post(format!("{base}/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {PLACEHOLDER}"))
        .body(body.to_string().into())
        .expect("a request")
}

fn with_log(mut request: LmRequest) -> (LmRequest, LmLog) {
    let log = LmLog::default();
    request.extensions_mut().insert(log.clone());
    (request, log)
}

fn outcomes(log: &LmLog) -> Vec<LmOutcome> {
    log.calls().iter().map(|call| call.outcome).collect()
}

/// The whole text of a body.
async fn text(body: LmBody) -> Result<String, LmFailure> {
    match body.collect().await {
        Ok(body) => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Err(error) => Err(LmFailure::of(&*error)),
    }
}

/// Neither form of the error shows the key.
fn shows_no_key(error: &LmFailure) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(KEY), "{shown}");
}

/// A body that sends a piece after each of these waits.
struct Pieces {
    waits: Vec<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    fn after(waits: impl IntoIterator<Item = Duration>) -> Self {
        let mut waits: Vec<_> = waits.into_iter().collect();
        waits.reverse();
        Self { waits, sleep: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(&wait) = self.waits.last() else {
            return Poll::Ready(None);
        };
        let timer = self.sleep.get_or_insert_with(|| Box::pin(sleep(wait)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.sleep = None;
        self.waits.pop();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}
