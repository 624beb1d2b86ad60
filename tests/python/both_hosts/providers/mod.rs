//! Each provider of the table in the docs: one call, one stream, one error and one cancel, at the
//! address and with the credential that DSPy's clients know for it.
//!
//! The keys and the credentials of clouds are those of the environment, so each test is a process.

mod docs;
mod google;
mod others;
mod server;
#[path = "../../../same/harness/server/sigv4.rs"]
mod sigv4;
mod table;

use futures_util::{StreamExt, future::join_all};
use tokio::time::timeout;
use tower::ServiceExt;
use tower_dspy::{
    DspyService, Error, Host, Lm, LoadErrorKind, StreamEvent,
    testing::scripted_lm::{Outcome, Reply},
};

use self::{
    google::ServiceAccount,
    others::Hung,
    server::{AWS, Sent, Servers},
    table::{Dialect, PROVIDERS, Provider, key_in},
};
use crate::support::{LIMIT, TestHost, ask, eventually, host, lm_server, own_process_with};

/// The host and the servers, in the process of a test; `None` in the one that started it.
async fn own_process(name: &str) -> Option<Providers> {
    let account = ServiceAccount::start().await;
    let account = account.path();
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", AWS.0.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", AWS.1.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        (
            "AZURE_OPENAI_ENDPOINT",
            "https://mine.openai.azure.com".to_owned(),
        ),
        ("GOOGLE_CLOUD_PROJECT", "a-project".to_owned()),
        (
            "GOOGLE_APPLICATION_CREDENTIALS",
            account.to_string_lossy().into_owned(),
        ),
    ];
    let keys = PROVIDERS.iter().filter_map(|provider| provider.variable);
    variables.extend(keys.map(|variable| (variable, key_in(variable))));
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let name = format!("both_hosts::providers::{name}");
    if own_process_with(&name, &variables).await.is_some() {
        return None;
    }
    let (others, hung) = others::start().await;
    let servers = Servers {
        scripted: lm_server().await.base_url().to_owned(),
        others,
    };
    Some(Providers {
        host: host().await,
        servers,
        hung,
    })
}

struct Providers {
    host: TestHost,
    servers: Servers,
    hung: Hung,
}

/// The program of a provider.
struct Loaded {
    provider: Provider,
    /// The model that its LM is asked for.
    model: String,
    program: DspyService,
    sent: Sent,
}

impl Providers {
    /// The program of each provider.
    async fn load(&self, end: &str, reply: fn() -> Reply) -> Vec<Loaded> {
        let mut loaded = Vec::new();
        for (n, provider) in PROVIDERS.into_iter().enumerate() {
            let model = format!("pv-{n}-{end}");
            let lm = Lm::new(provider.model.replace("{}", &model));
            let model = provider.asked(&model);
            lm_server().await.script(&model, reply());
            let sent = Sent::default();
            let http = server::at(provider, self.servers.clone(), sent.clone());
            let lm = (provider.set)(lm).http(http);
            let program = load(&self.host, lm).await;
            let program = program.unwrap_or_else(|error| panic!("{}: {error}", provider.row));
            loaded.push(Loaded {
                provider,
                model,
                program,
                sent,
            });
        }
        loaded
    }

    /// Waits until the client of a hanging request is gone.
    async fn gone(&self, provider: &Provider, model: &str) {
        if provider.dialect == Dialect::Scripted {
            let gone = |requests: &[tower_dspy::testing::scripted_lm::RequestRecord]| {
                requests
                    .iter()
                    .all(|request| request.outcome == Outcome::ClientGone)
            };
            let seen = lm_server().await.wait_for(model, gone).await;
            seen.unwrap_or_else(|error| panic!("{}: {error}", provider.row));
        } else {
            eventually(provider.row, || self.hung.is(model, "gone")).await;
        }
    }
}

async fn load(host: &Host, lm: Lm) -> Result<DspyService, tower_dspy::LoadError> {
    host.load("question -> answer").lm(lm).await
}

#[tokio::test]
async fn each_provider_is_called_at_its_address_with_its_credential() {
    let name = "each_provider_is_called_at_its_address_with_its_credential";
    let Some(providers) = own_process(name).await else {
        return;
    };
    let loaded = providers.load("call", Reply::echo).await;
    let calls = loaded.into_iter().map(
        |Loaded {
             provider,
             model,
             program,
             sent,
         }| async move {
            let answer = program.oneshot(ask("?")).await;
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", provider.row));
            assert!(answer.get("answer").is_some(), "{answer:?}");
            let calls: Vec<_> = answer.lm_calls.iter().map(|call| &*call.model).collect();
            assert_eq!(calls.len(), 1, "{}", provider.row);
            assert!(calls[0].ends_with(&model), "{}: {calls:?}", provider.row);
            assert!(answer.usage.total_tokens > 0, "{}", provider.row);
            assert_eq!(answer.lm_calls_bypassed, 0);
            let [request] = &sent.requests()[..] else {
                panic!("{}: {sent:?}", provider.row);
            };
            let row = docs::row_of(&provider);
            assert!(row.client.contains(request.client), "{row:?}: {request:?}");
            assert!(
                row.dialect.contains(request.dialect),
                "{row:?}: {request:?}"
            );
            assert!(!request.is_streamed, "{}: {request:?}", provider.row);
        },
    );
    join_all(calls).await;
}

#[tokio::test]
async fn each_provider_streams() {
    let Some(providers) = own_process("each_provider_streams").await else {
        return;
    };
    let loaded = providers.load("stream", Reply::echo).await;
    let streams = loaded.into_iter().map(|loaded| async move {
        let Loaded {
            provider,
            program,
            sent,
            ..
        } = loaded;
        let stream = program.streaming().oneshot(ask("?")).await;
        let mut stream = stream.unwrap_or_else(|error| panic!("{}: {error}", provider.row));
        let (mut text, mut answer) = (String::new(), None);
        while let Some(event) = timeout(LIMIT, stream.next())
            .await
            .expect("an event in time")
        {
            match event.unwrap_or_else(|error| panic!("{}: {error}", provider.row)) {
                StreamEvent::Text { delta, .. } => text += &delta,
                StreamEvent::Done(prediction) => answer = prediction.get("answer").cloned(),
                _ => {}
            }
        }
        let answer = answer.unwrap_or_else(|| panic!("{}: no answer", provider.row));
        assert!(
            !text.is_empty() && answer == text,
            "{}: {text}",
            provider.row
        );
        let streamed: Vec<_> = sent.requests().iter().map(|one| one.is_streamed).collect();
        assert_eq!(streamed, [true], "{}", provider.row);
    });
    join_all(streams).await;
}

#[tokio::test]
async fn the_error_of_each_provider_has_its_status() {
    let name = "the_error_of_each_provider_has_its_status";
    let Some(providers) = own_process(name).await else {
        return;
    };
    let loaded = providers.load("error", || Reply::status(503)).await;
    let calls = loaded.into_iter().map(
        |Loaded {
             provider,
             model,
             program,
             sent,
         }| async move {
            let error = program.oneshot(ask("?")).await.expect_err(provider.row);
            let Error::Lm(lm) = &error else {
                panic!("{}: {error:?}", provider.row);
            };
            assert_eq!(lm.status(), Some(503), "{}: {error}", provider.row);
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains(&provider.key()),
                "{}: {shown}",
                provider.row
            );
            // Retries are the host's layers' alone.
            assert_eq!(sent.requests().len(), 1, "{}", provider.row);
            if provider.dialect == Dialect::Scripted {
                let asked = lm_server().await.requests(&model);
                assert_eq!(asked.len(), 1, "{}", provider.row);
            }
        },
    );
    join_all(calls).await;
}

#[tokio::test]
async fn a_cancel_closes_the_connection_to_each_provider() {
    let name = "a_cancel_closes_the_connection_to_each_provider";
    let Some(providers) = own_process(name).await else {
        return;
    };
    let loaded = providers.load("cancel", Reply::hang).await;
    for one in loaded {
        let Loaded {
            provider,
            model,
            program,
            ..
        } = one;
        let call = tokio::spawn(program.clone().oneshot(ask("?")));
        if provider.dialect == Dialect::Scripted {
            let asked = lm_server().await.wait_for(&model, |all| all.len() == 1);
            let asked = asked.await;
            asked.unwrap_or_else(|error| panic!("{}: {error}", provider.row));
        } else {
            eventually(provider.row, || providers.hung.is(&model, "asked")).await;
        }
        call.abort();
        providers.gone(&provider, &model).await;
        eventually(provider.row, || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn the_error_of_a_load_says_what_its_lm_lacks() {
    let name = "both_hosts::providers::the_error_of_a_load_says_what_its_lm_lacks";
    let unset = [
        "MISTRAL_API_KEY",
        "XAI_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "AZURE_API_KEY",
    ];
    if own_process_with(name, &unset.map(|name| (name, "")))
        .await
        .is_some()
    {
        return;
    }
    let host = host().await;
    for (model, said) in [
        ("mistral/x", &["$MISTRAL_API_KEY"][..]),
        ("xai/x", &["$XAI_API_KEY"]),
        (
            "azure/x",
            &["$AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"],
        ),
        ("opnai/x", &["did you mean `openai/x`?"]),
    ] {
        let error = load(&host, Lm::new(model)).await.expect_err(model);
        assert_eq!(error.kind(), LoadErrorKind::Lm, "{error}");
        let error = error.to_string();
        assert!(said.iter().all(|said| error.contains(said)), "{error}");
    }
    let error = load(&host, Lm::new("lm_studio/x").key("k")).await;
    let error = error.expect_err("no address").to_string();
    assert!(error.contains("it has no address"), "{error}");
}
