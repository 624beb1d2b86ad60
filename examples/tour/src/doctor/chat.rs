//! A client of OpenAI's chat completions, and of the pages beside them, through the client that
//! programs have.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_dspy::{
    Lm,
    lm::{LmBody, LmHandle, LmRequest, LmResponse, PLACEHOLDER},
};

use crate::stage::Trouble;

/// The most tokens of an answer that is broken off.
pub(super) const LONG: u32 = 2048;
/// How long a page may take.
const PAGE: Duration = Duration::from_secs(5);

/// A client of one model.
pub(super) struct ChatClient {
    lm: LmHandle,
    base_url: String,
}

impl ChatClient {
    pub(super) fn new(lm: &Lm, base_url: &str) -> Result<Self, Trouble> {
        Ok(Self {
            lm: lm.connect()?,
            base_url: base_url.trim_end_matches('/').to_owned(),
        })
    }

    /// Begins an answer that takes long; returns its body. With `to_the_end` the model may not end it
    /// early, which is an option of vLLM, SGLang and llama.cpp.
    pub(super) async fn long(&self, to_the_end: bool) -> Result<LmBody, Trouble> {
        let mut body = json!({
            "model": self.lm.model(),
            "messages": [{
                "role": "user",
                "content": "Write the numbers from 1 to 2000 in words, one a line.",
            }],
            "max_tokens": LONG,
            "stream": true,
        });
        if to_the_end {
            body["ignore_eos"] = true.into();
        }
        Ok(self.ask(&body).await?.into_body())
    }

    /// Asks for an answer of one token.
    pub(super) async fn short(&self) -> Result<(), Trouble> {
        let body = json!({
            "model": self.lm.model(),
            "messages": [{"role": "user", "content": "Say yes."}],
            "max_tokens": 1,
        });
        self.ask(&body).await?.into_body().collect().await?;
        Ok(())
    }

    async fn ask(&self, body: &Value) -> Result<LmResponse, Trouble> {
        let url = format!("{}/chat/completions", self.base_url);
        let request = http::Request::post(url).header("content-type", "application/json");
        let answer = self.send(request, body.to_string().into()).await?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(format!("it answered {}", answer.status()).into()),
        }
    }

    /// The text at `path` beside the API, which begins at `/v1`; `None` if there is none.
    pub(super) async fn get(&self, path: &str) -> Option<String> {
        let root = self.base_url.strip_suffix("/v1").unwrap_or(&self.base_url);
        let read = async {
            let request = http::Request::get(format!("{root}{path}"));
            let answer = self.send(request, Bytes::new()).await.ok()?;
            if !answer.status().is_success() {
                return None;
            }
            let text = answer.into_body().collect().await.ok()?.to_bytes();
            String::from_utf8(text.to_vec()).ok()
        };
        timeout(PAGE, read).await.ok().flatten()
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<LmResponse, Trouble> {
        let request = request.header("authorization", format!("Bearer {PLACEHOLDER}"));
        let request: LmRequest = request.body(body)?;
        Ok(self.lm.send(request).await?)
    }
}
