//! The servers behind the providers' addresses: each request is checked for its address and its
//! credential, and goes on to a server that speaks its dialect.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{
    HeaderValue, Uri,
    header::{HOST, USER_AGENT},
};
use serde_json::Value;
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_dspy::lm::{LmClient, LmRequest, LmResponse};

use super::{
    google, sigv4,
    table::{Auth, Dialect, Provider},
};

/// The key id and the secret of the AWS credentials in the environment.
pub(super) const AWS: (&str, &str) = ("AKIDSAME", "same-secret-access-key");

/// Where the servers of the dialects are.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    /// The base URL of the scripted LM.
    pub(super) scripted: String,
    /// Of the other dialects.
    pub(super) others: String,
}

/// The requests of one LM.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(Arc<Mutex<Vec<SentRequest>>>);

/// What a request shows of the client that made it. The names are those of the docs.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentRequest {
    pub(super) client: &'static str,
    pub(super) dialect: &'static str,
    pub(super) is_streamed: bool,
}

impl Sent {
    pub(super) fn requests(&self) -> Vec<SentRequest> {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests.clone()
    }

    fn note(&self, request: &LmRequest) {
        let path = request.uri().path();
        let agent = request.headers().get(USER_AGENT);
        let is_lm15 = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"lm15"));
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let dialect = match path.rsplit(['/', ':']).next().unwrap_or_default() {
            "completions" => "OpenAI chat",
            "messages" => "Anthropic",
            "generateContent" | "streamGenerateContent" => "Gemini",
            "converse" | "converse-stream" => "Bedrock Converse",
            "chat" => "Cohere chat, v2",
            _ => "unknown",
        };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(SentRequest {
            client: if is_lm15 { "lm15" } else { "litellm" },
            dialect,
            is_streamed: body["stream"] == true
                || path.ends_with("streamGenerateContent")
                || path.ends_with("converse-stream"),
        });
    }
}

/// What the LM of a provider is sent through.
pub(super) fn at(
    provider: Provider,
    servers: Servers,
    sent: Sent,
) -> impl Service<LmRequest, Response = LmResponse, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let client = LmClient::new(None).expect("a client");
    service_fn(move |request: LmRequest| {
        let (client, servers) = (client.clone(), servers.clone());
        sent.note(&request);
        async move {
            check(&provider, &request)?;
            client
                .oneshot(to_server(&provider, &servers, request)?)
                .await
        }
    })
}

fn check(provider: &Provider, request: &LmRequest) -> Result<(), BoxError> {
    let url = request.uri().to_string();
    if !url.starts_with(provider.url) {
        return Err(format!("{}: {url} is not at {}", provider.row, provider.url).into());
    }
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let bearer =
        header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    let (sent, wanted) = match provider.auth {
        Auth::Bearer => (bearer, provider.key()),
        Auth::Header(name) => (header(name), provider.key()),
        Auth::Google => (bearer, google::TOKEN.to_owned()),
        Auth::Signed => return check_signature(request),
        Auth::Keyless => {
            let keyed = ["authorization", "api-key", "x-api-key"];
            let sent = keyed.into_iter().find_map(header);
            return match sent {
                None => Ok(()),
                Some(key) => Err(format!("{}: the key {key} was sent", provider.row).into()),
            };
        }
    };
    if sent != Some(&*wanted) {
        return Err(format!("{}: {sent:?} is not the key {wanted}", provider.row).into());
    }
    Ok(())
}

/// The signature has to be that of these bytes.
fn check_signature(request: &LmRequest) -> Result<(), BoxError> {
    let (mut head, body) = request.clone().into_parts();
    // The client's, which sets it from the URL.
    let host = head.uri.host().unwrap_or_default();
    head.headers.insert(HOST, HeaderValue::try_from(host)?);
    let signature = sigv4::check(&head, &body).ok_or("there is no signature")?;
    match (&signature["valid"], &signature["key"]) {
        (valid, key) if *valid == true && *key == AWS.0 => Ok(()),
        _ => Err(format!("the signature is wrong: {signature}").into()),
    }
}

/// The request as the server of its dialect takes it.
fn to_server(
    provider: &Provider,
    servers: &Servers,
    mut request: http::Request<Bytes>,
) -> Result<LmRequest, BoxError> {
    let path = request.uri().path();
    let url = match provider.dialect {
        Dialect::Scripted => {
            let endings = ["/chat/completions", "/messages"];
            let ending = endings.into_iter().find(|ending| path.ends_with(ending));
            let ending = match (ending, path.find("/models/")) {
                (Some(ending), _) => ending,
                (None, Some(models)) => &path[models..],
                (None, None) => return Err(format!("no dialect has the path {path}").into()),
            };
            format!("{}{ending}", servers.scripted)
        }
        Dialect::Converse | Dialect::Cohere => format!("{}{path}", servers.others),
    };
    *request.uri_mut() = url.parse::<Uri>()?;
    Ok(request)
}
