//! [`Lm`]: an LM by name, with its key, its limits and its layers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use serde_json::{Map, Value};
use tower::{BoxError, Layer, Service};

use super::{
    abort::{AbortHook, UnfinishedLmCall},
    client::LmClient,
    config_error::LmConfigError,
    group::LmGroup,
    http::{LmHttp, LmRequest, erase},
    limits::LmLimits,
    variable_name::is_variable_name,
};
use crate::{call::Price, request::Tenant};

/// An LM by name, with where it is, with whose key, and what its calls go through.
///
/// ```
/// use tower_dspy::Lm;
///
/// let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
/// let local = Lm::new("openai/my-model").base_url("http://127.0.0.1:8000/v1").key("unused");
/// // Keys are never shown.
/// assert!(!format!("{local:?}").contains("unused"));
/// ```
///
/// Clones, and all programs that are loaded with one LM, share its connections.
///
/// [`fallback`](Self::fallback) and [`hedge`](Self::hedge) make one LM of several.
#[derive(Clone)]
pub struct Lm {
    pub(super) model: String,
    pub(super) base_url: Option<String>,
    pub(super) key: LmKey,
    pub(super) options: Map<String, Value>,
    pub(super) limits: LmLimits,
    pub(super) layers: Vec<LmLayer>,
    pub(super) trace_propagation: bool,
    pub(super) abort: Option<Arc<AbortHook>>,
    /// `Some` if it is made of several; what is set is theirs then.
    pub(super) group: Option<LmGroup<Self>>,
    pub(super) price: Option<Arc<Price>>,
    http: Option<LmHttp>,
    /// Made when it is first needed; the clones share its connections.
    client: Arc<OnceLock<LmClient>>,
}

#[derive(Clone)]
pub(super) enum LmKey {
    /// The provider's usual variable.
    ProvidersOwn,
    Env(String),
    Given(String),
    /// Asked for with each request.
    By(Arc<TenantKey>),
    /// Asked for with each request, and sent as a bearer token.
    Token(Arc<TenantKey>),
}

/// A function that returns the key of a tenant.
pub(super) type TenantKey = dyn Fn(Option<&Tenant>) -> Option<String> + Send + Sync;

/// A layer without its type.
type LmLayer = Arc<dyn Fn(LmHttp) -> LmHttp + Send + Sync>;

impl Lm {
    /// The LM `model`, as DSPy names it: `provider/model`. See the
    /// [table of providers](crate::lm#providers).
    ///
    /// Unless a key is given, it is that of the provider's usual variable, such as
    /// `OPENAI_API_KEY`. A server with a [base URL](Self::base_url) gets it too, and may do without,
    /// as may one on this machine.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            base_url: None,
            key: LmKey::ProvidersOwn,
            options: Map::new(),
            limits: LmLimits::new(),
            layers: Vec::new(),
            trace_propagation: false,
            abort: None,
            group: None,
            price: None,
            http: None,
            client: Arc::default(),
        }
    }

    /// Where the provider's API is, such as `http://127.0.0.1:8000/v1`. The key is then sent to
    /// this scheme, host and port, and nowhere else. A server with OpenAI's API is mostly at `/v1`, and
    /// what follows on that, such as `/chat/completions`, is added to each request. To a host on another
    /// network by `http`, or to this machine without a port, a load warns.
    ///
    /// Without it the address is that of the provider's variable, such as `OPENAI_BASE_URL` or
    /// `OPENAI_API_BASE`, if one is set, as it is to DSPy; else the address that DSPy's client
    /// has for the provider.
    #[must_use]
    pub fn base_url(self, url: impl Into<String>) -> Self {
        let url = url.into();
        self.set(|lm| lm.base_url = Some(url.clone()))
    }

    /// Takes the key from the environment variable of this name, such as `OPENAI_API_KEY`, when a
    /// program is loaded. The load fails if it is not set, is empty, or holds no key.
    #[must_use]
    pub fn key_env(self, variable: impl Into<String>) -> Self {
        self.with_key(LmKey::Env(variable.into()))
    }

    /// The key itself. An empty key is none: a local server mostly wants none.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with_key(LmKey::Given(key.into()))
    }

    /// Asks `key` for the key of each request, by the tenant that its call
    /// [was made for](crate::PredictRequest::with_tenant), if it was. It has to answer at once, so
    /// keep the keys in memory; a key that it answers anew is used from the next request on. With
    /// `None` nothing is sent, and the LM call fails as
    /// [`Refused`](super::LmFailureKind::Refused).
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_dspy::{Lm, Tenant};
    ///
    /// let keys = HashMap::from([("acme".to_owned(), "acme's key".to_owned())]);
    /// let lm = Lm::new("openai/gpt-4o-mini")
    ///     .key_with(move |tenant: Option<&Tenant>| keys.get(tenant?.name()).cloned());
    /// ```
    #[must_use]
    pub fn key_with(
        self,
        key: impl Fn(Option<&Tenant>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.with_key(LmKey::By(Arc::new(key)))
    }

    fn with_key(self, key: LmKey) -> Self {
        self.set(|lm| lm.key = key.clone())
    }

    /// Asks `token` for an access token with each request, as [`key_with`](Self::key_with) does for
    /// a key. It is sent as `Authorization: Bearer`, in place of the provider's header for a key: so
    /// Azure OpenAI takes a token of Microsoft Entra ID.
    ///
    /// It has to answer at once: get the token elsewhere, and renew it before it expires.
    ///
    /// ```
    /// use std::sync::{Arc, RwLock};
    /// use tower_dspy::Lm;
    ///
    /// let token = Arc::new(RwLock::new("a token of Entra".to_owned())); // another task renews it
    /// let lm = Lm::new("azure/my-deployment")
    ///     .base_url("https://my-resource.openai.azure.com")
    ///     .option("api_version", "2024-10-21")
    ///     .token_with(move |_| token.read().ok().map(|token| token.clone()));
    /// ```
    #[must_use]
    pub fn token_with(
        self,
        token: impl Fn(Option<&Tenant>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.with_key(LmKey::Token(Arc::new(token)))
    }

    /// The sampling temperature.
    #[must_use]
    pub fn temperature(self, temperature: f64) -> Self {
        self.option("temperature", temperature)
    }

    /// The most tokens that an answer may have.
    #[must_use]
    pub fn max_tokens(self, tokens: u32) -> Self {
        self.option("max_tokens", tokens)
    }

    /// An option of `dspy.LM`, such as `reasoning_effort`, `extra_body` or `model_type`; a later one
    /// replaces an earlier one of its name.
    ///
    /// DSPy's `timeout`, in seconds, becomes a limit of each wait for the provider's next byte, beside
    /// those of [`limits`](Self::limits). What is known to [`base_url`](Self::base_url) and to
    /// [`key`](Self::key) is not given here, and retries and DSPy's cache are off in any case:
    /// `api_key`, `api_base`, `base_url`, `model`, `cache`, `num_retries` and engine objects are
    /// refused when a program is loaded.
    ///
    /// ```
    /// use tower_dspy::Lm;
    ///
    /// let lm = Lm::new("openai/gpt-5-mini")
    ///     .option("model_type", "responses")
    ///     .option("reasoning_effort", "low");
    /// ```
    #[must_use]
    pub fn option(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.set(|lm| {
            lm.options.insert(name.clone(), value.clone());
        })
    }

    /// How long a call may take, and its parts.
    #[must_use]
    pub fn limits(self, limits: LmLimits) -> Self {
        self.set(|lm| {
            lm.limits = limits;
            // The limit of connecting is the client's.
            lm.client = Arc::default();
        })
    }

    /// What its tokens cost. Without it the price is that of DSPy's table, for an LM that stands there.
    ///
    /// An LM of your own that costs nothing says so, as one without a price is refused by a
    /// [budget](crate::Budget) of money, and makes the [cost](crate::Cost) of its calls unknown.
    ///
    /// ```
    /// use tower_dspy::{Lm, Price};
    ///
    /// let lm = Lm::new("openai/gpt-4o-mini").price(Price::per_million(0.15, 0.60).with_cached(0.075));
    /// let local = Lm::new("openai/my-model").base_url("http://127.0.0.1:8000/v1")
    ///     .price(Price::per_million(0.0, 0.0));
    /// ```
    #[must_use]
    pub fn price(self, price: Price) -> Self {
        let price = Arc::new(price);
        self.set(|lm| lm.price = Some(price.clone()))
    }

    /// Sends the trace of a call with each of its requests, in the headers `traceparent` and
    /// `tracestate`: to a gateway, or a model server of your own, that is part of the trace. Without it
    /// an LM call of a program has neither, for the ids are no business of a provider's.
    ///
    /// The trace is that of the attempt's span, with the feature `otel`; else the one that the program's
    /// call came with. See [`telemetry`](crate::telemetry).
    #[must_use]
    pub fn trace_propagation(self) -> Self {
        self.set(|lm| lm.trace_propagation = true)
    }

    /// Asks the provider to stop an LM call that is ended before the end of its answer: `hook` makes
    /// the request, of the ids that the provider had told, or none. For servers that go on when the
    /// connection is closed; see [`abort`](super::abort) for when and how it is sent, and for ready
    /// hooks: [`abort::sglang`](super::abort::sglang) and
    /// [`abort::openai_background`](super::abort::openai_background).
    ///
    /// The key of the LM call goes with a request to its own scheme, host and port, in the headers that
    /// it had there, and in place of each [placeholder](super::PLACEHOLDER). A request is sent
    /// once; [`LmTotals`](crate::LmTotals) counts those that the provider accepted (`aborts`) and
    /// those that failed (`aborts_failed`).
    ///
    /// ```
    /// use tower_dspy::{Lm, lm::LmRequest};
    ///
    /// let lm = Lm::new("openai/my-model")
    ///     .base_url("http://127.0.0.1:9000/v1")
    ///     .abort(|call| {
    ///         let id = call.response_id.as_deref()?;
    ///         let request = http::Request::delete(format!("http://127.0.0.1:9000/jobs/{id}"));
    ///         request.body(Default::default()).ok()
    ///     });
    /// ```
    #[must_use]
    pub fn abort(
        self,
        hook: impl Fn(&UnfinishedLmCall) -> Option<LmRequest> + Send + Sync + 'static,
    ) -> Self {
        let hook = Arc::new(AbortHook::new(hook));
        self.set(|lm| lm.abort = Some(hook.clone()))
    }

    /// Wraps the calls in a layer; the first that is given is the outermost.
    ///
    /// The layer's service must be `Clone`: around one that is not, such as tower's `RateLimit`,
    /// put a `BufferLayer`. Each loading of a program makes a service of its own from the layer, so
    /// what is to hold over all of them has to share its state, as `GlobalConcurrencyLimitLayer`
    /// does.
    #[must_use]
    pub fn layer<L, B>(self, layer: L) -> Self
    where
        L: Layer<LmHttp> + Send + Sync + 'static,
        L::Service: Service<LmRequest, Response = Response<B>> + Clone + Send + Sync + 'static,
        <L::Service as Service<LmRequest>>::Error: Into<BoxError>,
        <L::Service as Service<LmRequest>>::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let layer: LmLayer = Arc::new(move |inner| erase(layer.layer(inner)));
        self.set(|lm| lm.layers.push(layer.clone()))
    }

    /// Sends the calls through `service`, in place of an [`LmClient`](super::LmClient) with the
    /// default options.
    ///
    /// It sees the key. A service that follows redirects or retries on its own undoes what this
    /// crate promises about both.
    #[must_use]
    pub fn http<S, B>(self, service: S) -> Self
    where
        S: Service<LmRequest, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let http = erase(service);
        self.set(|lm| lm.http = Some(http.clone()))
    }

    /// Whether the client reports when a connection takes a request.
    pub(super) const fn reports_sending(&self) -> bool {
        self.http.is_none()
    }

    /// What the calls are sent through.
    pub(super) fn innermost(&self) -> Result<LmHttp, LmConfigError> {
        if let Some(http) = &self.http {
            return Ok(http.clone());
        }
        let client = match self.client.get() {
            Some(client) => client.clone(),
            None => {
                let client = LmClient::new(self.limits.connect)?;
                self.client.get_or_init(|| client).clone()
            }
        };
        Ok(erase(client))
    }
}

impl fmt::Debug for Lm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            return f.debug_tuple("Lm").field(group).finish();
        }
        let key = match &self.key {
            LmKey::ProvidersOwn => "the provider's own variable",
            // It may be the key itself, given in place of a name.
            LmKey::Env(variable) if is_variable_name(variable) => variable,
            LmKey::Env(_) => "(no name of a variable)",
            LmKey::Given(_) => "(given)",
            LmKey::By(_) | LmKey::Token(_) => "(of each tenant)",
        };
        f.debug_struct("Lm")
            .field("model", &self.model)
            .field("base_url", &self.base_url)
            .field("key", &key)
            .field("options", &self.options)
            .field("limits", &self.limits)
            .field("layers", &self.layers.len())
            .field("trace_propagation", &self.trace_propagation)
            .field("abort", &self.abort.as_ref().map(|_| "(given)"))
            .field("price", &self.price)
            .field("http", &self.http.as_ref().map(|_| "(given)"))
            .finish()
    }
}
