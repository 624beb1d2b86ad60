//! Requests that ask a provider to stop an LM call whose connection was closed before the end of its
//! answer.
//!
//! A closed connection does not stop each server: OpenAI's background responses go on by design, and
//! model servers have missed disconnects. The hook of [`Lm::abort`](crate::Lm::abort) makes such a
//! request. It is sent with the key of the LM call, once the connection of that call is closed, on the
//! runtime that carried it, past the layers of the LM, and within [`LIMIT`]; no call waits for it. At
//! most 64 are sent at once for an LM, and the others wait for them within that limit. What is under
//! way when the process ends is lost, as the shutdown of a host does not wait for it either.
//!
//! It is made for each attempt at an LM call that was sent and whose answer was not read to its end:
//! the call was cancelled or elapsed, lost a hedge, or its connection failed. A request that no
//! connection had taken is not aborted. An answer that has told the reason of its end is over.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tower::ServiceExt;

use super::{
    LmLog, LmRequest,
    answer_labels::LabelReader,
    content::BodyFormat,
    credential::Credential,
    http::LmHttp,
    key::{Origin, is_key_header},
    lm_log::request_id,
};
use crate::{error::LmFailure, request::Tenant};

/// The time that a provider has to answer a request of the hook.
pub const LIMIT: Duration = Duration::from_secs(5);

/// How many requests of a hook are sent at once.
pub(super) const AT_ONCE: usize = 64;
/// The longest id of an answer that is read, in bytes.
const LONGEST_ID: usize = 512;
/// The length of the ids that SGLang makes.
const SGLANG_ID: usize = 32;

/// A function that makes the request of an abort.
type AbortRequest = dyn Fn(&UnfinishedLmCall) -> Option<LmRequest> + Send + Sync;

/// The hook of an LM, which its clones share.
pub(super) struct AbortHook {
    request: Box<AbortRequest>,
    permits: Semaphore,
}

impl AbortHook {
    /// A hook that makes its requests by this function.
    pub(super) fn new(
        request: impl Fn(&UnfinishedLmCall) -> Option<LmRequest> + Send + Sync + 'static,
    ) -> Self {
        Self {
            request: Box::new(request),
            permits: Semaphore::new(AT_ONCE),
        }
    }
}

/// An LM call that was ended before the end of its answer.
#[derive(Clone)]
#[non_exhaustive]
pub struct UnfinishedLmCall {
    /// The request, with a [placeholder](super::PLACEHOLDER) in the place of the key. Of its
    /// extensions it has the [`Tenant`].
    pub request: LmRequest,
    /// The id of the answer: `id`, or `responseId` of Gemini, of its first piece. `None` if no such
    /// piece had come, as before the end of an answer that is not streamed.
    pub response_id: Option<Arc<str>>,
    /// The provider's id of the request: `x-request-id` and its like among the headers of the answer.
    pub request_id: Option<Arc<str>>,
}

impl UnfinishedLmCall {
    /// A call of this request whose answer had told no id yet, as a test of a hook makes one; set the
    /// ids.
    #[must_use]
    pub const fn new(request: LmRequest) -> Self {
        Self {
            request,
            response_id: None,
            request_id: None,
        }
    }
}

/// Leaves out the body, which is the prompt.
impl fmt::Debug for UnfinishedLmCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnfinishedLmCall")
            .field("response_id", &self.response_id)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

/// Aborts a streamed request of an [SGLang](https://docs.sglang.ai) server: `POST /abort_request` with
/// the `rid` that the server gave it, which is the id of the answer.
///
/// The server takes a `rid` for the beginning of an id, so only an id of the length that it makes (32
/// characters) is sent. The address is that of the LM call up to its `/v1`. A server that was started
/// with `--admin-api-key` refuses the LM's key there.
///
/// ```
/// use tower_dspy::{Lm, lm::abort};
///
/// let lm = Lm::new("openai/my-model")
///     .base_url("http://127.0.0.1:30000/v1")
///     .abort(abort::sglang);
/// ```
#[must_use]
pub fn sglang(call: &UnfinishedLmCall) -> Option<LmRequest> {
    let id = call.response_id.as_deref()?;
    if id.len() < SGLANG_ID {
        return None;
    }
    let path = call.request.uri().path();
    let base = path.rfind("/v1/").map_or("", |at| &path[..at]);
    let uri = with_path(call.request.uri(), &format!("{base}/abort_request"))?;
    post(uri, &json!({ "rid": id }))
}

/// Cancels a streamed [background response](https://platform.openai.com/docs/guides/background) of
/// OpenAI's responses API, or Azure's: `POST /v1/responses/{id}/cancel`. Other requests are left alone,
/// as only a request with `"background": true` can be cancelled.
///
/// ```
/// use tower_dspy::{Lm, lm::abort};
///
/// let lm = Lm::new("openai/gpt-5-mini")
///     .option("model_type", "responses")
///     .option("background", true)
///     .abort(abort::openai_background);
/// ```
#[must_use]
pub fn openai_background(call: &UnfinishedLmCall) -> Option<LmRequest> {
    let id = call.response_id.as_deref()?;
    let uri = call.request.uri();
    let base = uri.path().strip_suffix('/').unwrap_or(uri.path());
    if !base.ends_with("/responses") || id.contains(['/', '?', '#', '%']) {
        return None;
    }
    let body: Value = serde_json::from_slice(call.request.body()).ok()?;
    if body.get("background") != Some(&Value::Bool(true)) {
        return None;
    }
    post(with_path(uri, &format!("{base}/{id}/cancel"))?, &json!({}))
}

/// The URL with another path, and its own query, which may have the version of an API.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map(|query| format!("?{query}"));
    let path = format!("{path}{}", query.unwrap_or_default());
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn post(uri: Uri, body: &Value) -> Option<LmRequest> {
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/json");
    request.body(Bytes::from(body.to_string())).ok()
}

/// The abort of an attempt, sent when this is dropped unless it was [disarmed](Self::disarm).
#[derive(Default)]
pub(super) struct AbortGuard(Option<Box<Abort>>);

struct Abort {
    hook: Arc<AbortHook>,
    /// A connection took the request.
    is_sent: Arc<AtomicBool>,
    call: UnfinishedLmCall,
    credential: Arc<Credential>,
    http: LmHttp,
    /// That of the attempt: a drop may be anywhere.
    runtime: Handle,
    log: Option<LmLog>,
    names: (Arc<str>, Arc<str>),
    /// From the head of the answer on.
    labels: Option<LabelReader>,
}

impl AbortGuard {
    /// The guard of an attempt that is about to be sent; none without a hook. `request` has no key yet.
    pub(super) fn new(
        hook: Option<&Arc<AbortHook>>,
        request: &LmRequest,
        http: &LmHttp,
        (provider, model): (&str, &str),
        is_sent: &Arc<AtomicBool>,
    ) -> Self {
        let armed = hook.and_then(|hook| {
            let mut own = http::Request::new(request.body().clone());
            *own.method_mut() = request.method().clone();
            *own.uri_mut() = request.uri().clone();
            *own.headers_mut() = request.headers().clone();
            if let Some(tenant) = request.extensions().get::<Tenant>() {
                own.extensions_mut().insert(tenant.clone());
            }
            Some(Box::new(Abort {
                hook: hook.clone(),
                is_sent: is_sent.clone(),
                call: UnfinishedLmCall::new(own),
                credential: Arc::default(),
                http: http.clone(),
                runtime: Handle::try_current().ok()?,
                log: request.extensions().get().cloned(),
                names: (provider.into(), model.into()),
                labels: None,
            }))
        });
        Self(armed)
    }

    /// Gives the key of the attempt.
    pub(super) fn set_credential(&mut self, credential: &Arc<Credential>) {
        if let Some(abort) = &mut self.0 {
            abort.credential = credential.clone();
        }
    }

    /// The head of the answer came; that of an error has ended the work.
    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        if status.as_u16() >= 400 {
            self.disarm();
        }
        if let Some(abort) = &mut self.0 {
            abort.call.request_id = request_id(headers).map(Arc::from);
            let format = BodyFormat::of(headers);
            abort.labels = Some(LabelReader::new(format).with_longest(LONGEST_ID));
        }
    }

    /// Reads a piece of the answer's body.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let labels = self.0.as_mut().and_then(|abort| abort.labels.as_mut());
        if labels.is_some_and(|labels| labels.read(bytes) && labels.labels.finish_reason.is_some())
        {
            self.disarm();
        }
    }

    /// The attempt has failed. A provider that had no request of it has nothing to abort.
    pub(super) fn failed(&mut self, failure: &LmFailure) {
        if failure.kind().is_unsent() {
            self.disarm();
        }
    }

    /// The answer came to its end.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        let Some(mut abort) = self.0.take() else {
            return;
        };
        if !abort.is_sent.load(Ordering::Relaxed) {
            return;
        }
        let id = abort.labels.take().and_then(|labels| labels.labels.id);
        // One of this length may be cut.
        abort.call.response_id = id.filter(|id| id.len() < LONGEST_ID);
        abort.runtime.clone().spawn(abort.run());
    }
}

impl Abort {
    /// Sends the request of the hook, and counts it.
    async fn run(self) {
        let (log, names) = (self.log.clone(), self.names.clone());
        // A task of its own: the hook and the service are the user's, and may panic.
        let sent = match tokio::spawn(self.send()).await {
            Ok(None) => return,
            Ok(Some(sent)) => sent,
            Err(_) => Err("the hook, or the service of the LM, panicked".into()),
        };
        let (provider, model) = (&*names.0, &*names.1);
        if let Some(LmLog(log)) = log {
            log.abort_ended((provider, model), sent.is_ok());
        }
        match sent {
            Ok(()) => tracing::debug!(
                target: "tower_dspy", provider, model,
                "the provider was asked to abort an LM call"
            ),
            Err(error) => tracing::warn!(
                target: "tower_dspy", provider, model, error,
                "the provider was not asked to abort an LM call"
            ),
        }
    }

    /// `None` if the hook makes no request.
    async fn send(self) -> Option<Result<(), String>> {
        let Self {
            hook,
            call,
            credential,
            ..
        } = &self;
        let mut request = (hook.request)(call)?;
        let to = Origin::of(request.uri());
        if to == Origin::of(call.request.uri()) {
            for (name, value) in call.request.headers() {
                if is_key_header(name) && !request.headers().contains_key(name) {
                    request.headers_mut().insert(name.clone(), value.clone());
                }
            }
        }
        if let Err(refused) = credential.put(&mut request) {
            return Some(Err(refused.to_string()));
        }
        let sent = async {
            // It is never closed.
            let _permit = hook.permits.acquire().await;
            self.http.clone().oneshot(request).await
        };
        Some(match timeout(LIMIT, sent).await {
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
            Ok(Err(error)) => Err(credential.failure(&error, to.as_ref()).to_string()),
            Ok(Ok(answer)) if answer.status().as_u16() >= 400 => {
                Err(format!("the provider answered {}", answer.status()))
            }
            Ok(Ok(_)) => Ok(()),
        })
    }
}
