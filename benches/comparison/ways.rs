//! The ways that are compared, and how each is written.

use std::path::Path;

use serde_json::{Value, json};
use tower_dspy::testing::scripted_lm::ScriptedLm;

use crate::{
    LIMIT, Trouble,
    callers::{GaveUp, no_counts},
    litellm_proxy::LitellmProxy,
    part::PartProcess,
    sidecar::Sidecar,
};

/// One way.
#[derive(Debug)]
pub(crate) struct Way {
    /// Its name in figures. The LM knows it as a model.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    how: How,
}

#[derive(Debug)]
enum How {
    /// In Rust, by `part.rs`.
    Part(&'static str),
    /// By a route of `sidecar.py`.
    Sidecar(&'static str),
    /// The same, with the LiteLLM proxy between DSPy and the LM, by its settings.
    Proxied(&'static str, fn() -> Value),
}

const fn way(name: &'static str, title: &'static str, how: How) -> Way {
    Way { name, title, how }
}

pub(crate) const WAYS: &[Way] = &[
    way(
        "pyo3_into_future",
        "tokio::time::timeout around PyO3, into_future",
        How::Part("pyo3_into_future"),
    ),
    way(
        "pyo3_spawn_blocking",
        "tokio::time::timeout around PyO3, spawn_blocking",
        How::Part("pyo3_spawn_blocking"),
    ),
    way(
        "tower_resilience",
        "tower-resilience's TimeLimiter around PyO3, into_future",
        How::Part("tower_resilience"),
    ),
    way(
        "pyo3_drop_guard",
        "PyO3 with a drop guard of one's own that cancels the task",
        How::Part("pyo3_drop_guard"),
    ),
    way(
        "fastapi_sync",
        "FastAPI sidecar, sync route",
        How::Sidecar("sync"),
    ),
    way(
        "fastapi_async",
        "FastAPI sidecar, async route",
        How::Sidecar("async"),
    ),
    way(
        "fastapi_is_disconnected",
        "FastAPI sidecar, async route that asks is_disconnected",
        How::Sidecar("disconnect"),
    ),
    way(
        "fastapi_asyncio_timeout",
        "FastAPI sidecar, async route with asyncio.timeout",
        How::Sidecar("timeout"),
    ),
    way(
        "litellm_proxy",
        "the same, behind it the LiteLLM proxy",
        How::Proxied("timeout", || json!({})),
    ),
    way(
        "litellm_proxy_cancel_on_disconnect",
        "the same, LiteLLM proxy with cancel_on_disconnect",
        How::Proxied(
            "timeout",
            || json!({ "general_settings": { "cancel_on_disconnect": true } }),
        ),
    ),
    way(
        "litellm_proxy_request_timeout",
        "FastAPI async route, LiteLLM proxy with request_timeout",
        How::Proxied("async", || {
            let limit = LIMIT.as_secs_f64();
            json!({ "litellm_settings": { "request_timeout": limit, "num_retries": 0 } })
        }),
    ),
    way(
        "tower_dspy_embedded",
        "tower-dspy, embedded",
        How::Part("embedded"),
    ),
    way(
        "tower_dspy_embedded_sync",
        "tower-dspy, embedded, sync program",
        How::Part("embedded_sync"),
    ),
    way(
        "tower_dspy_workers",
        "tower-dspy, two worker processes",
        How::Part("workers"),
    ),
];

/// The processes of a way.
pub(crate) enum Running {
    Part(PartProcess),
    Http(Sidecar, Option<LitellmProxy>),
}

impl Way {
    /// Starts its processes, and asks the first question.
    pub(crate) async fn start(&self, lm: &ScriptedLm, venv: &Path) -> Result<Running, Trouble> {
        let (url, model) = (lm.base_url(), self.name);
        Ok(match &self.how {
            How::Part(part) => Running::Part(PartProcess::start(part, url, model, venv).await?),
            How::Sidecar(route) => {
                Running::Http(Sidecar::start(venv, route, url, "none", model).await?, None)
            }
            How::Proxied(route, settings) => {
                let proxy = LitellmProxy::start(venv, url, model, &settings()).await?;
                let (url, key) = (proxy.url(), &proxy.key);
                let sidecar = Sidecar::start(venv, route, &url, key, model).await?;
                Running::Http(sidecar, Some(proxy))
            }
        })
    }
}

impl Running {
    /// Lets the callers ask; returns when each gave up.
    pub(crate) async fn ask(&mut self) -> Result<GaveUp, Trouble> {
        match self {
            Self::Part(part) => part.ask().await,
            Self::Http(sidecar, _) => sidecar.ask().await,
        }
    }

    /// What the way itself can tell of its calls, as `running` and `given_up`.
    pub(crate) async fn counts(&mut self) -> Result<Value, Trouble> {
        match self {
            Self::Part(part) => part.counts().await,
            Self::Http(_, Some(proxy)) => proxy.counts().await,
            Self::Http(_, None) => Ok(no_counts()),
        }
    }

    /// Ends its processes.
    pub(crate) async fn end(self) {
        match self {
            Self::Part(part) => part.end().await,
            Self::Http(sidecar, proxy) => {
                sidecar.end().await;
                if let Some(proxy) = proxy {
                    proxy.end().await;
                }
            }
        }
    }
}
