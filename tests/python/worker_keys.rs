//! Keys of LMs, which stay in the host's process and are never in a worker.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{Host, Lm, PredictRequest, testing::scripted_lm::Reply};

use crate::{
    support::{ask, call, lm, lm_server, own_process_with, venv},
    workers::{stop, workers},
};

/// What the only worker finds of these in its memory, its environment and its arguments.
async fn look_for<const N: usize>(host: &Host, texts: [&str; N]) -> serde_json::Value {
    let looks = host.function("memory:holds", None).await.unwrap();
    // Or it would find what it was asked for.
    let halves = texts.map(|text| text.split_at(text.len() / 2));
    let halves = json!({"halves": halves.to_vec()});
    looks.call(halves).await.unwrap()
}

/// The worker's own look at its memory: a key that was there once would most likely be there still.
#[tokio::test]
async fn no_key_is_ever_in_a_workers_memory_environment_or_arguments() {
    // Put together here, so that nothing but a leak can hold them.
    let [given, of_tenant] = ["given", "tenant"].map(|what| format!("sk-{what}-{}", 6 * 7 * 1009));
    let server = lm_server().await;
    server.script("w-keys", Reply::echo());
    let host = workers(1).await.start().await.expect("a worker");
    let by_tenant = of_tenant.clone();
    let lms = [
        ("given", lm("w-keys").await.key(&given)),
        (
            "tenants",
            lm("w-keys")
                .await
                .key_with(move |_| Some(by_tenant.clone())),
        ),
    ];
    let qa = host.load("question -> answer").lms(lms).await.unwrap();
    for name in ["given", "tenants"] {
        let request = ask("a question that is remembered").with_lm(name);
        qa.clone().oneshot(request).await.unwrap();
    }
    // A provider's refusal, too, which may repeat the key.
    server.script("w-keys", Reply::status(401));
    qa.oneshot(ask("?")).await.unwrap_err();
    let sent: Vec<_> = server.requests("w-keys");
    let sent: Vec<_> = sent.iter().map(|sent| sent.authorization()).collect();
    let bearers = [&given, &of_tenant, &given].map(|key| format!("Bearer {key}"));
    assert_eq!(sent, bearers.each_ref().map(|key| Some(&**key)));

    // The last is there for sure: the search is worth something.
    let found = look_for(&host, [&given, &of_tenant, tower_dspy::lm::PLACEHOLDER]).await;
    assert_eq!(found["in_memory"][0], 0, "{found}");
    assert_eq!(found["in_memory"][1], 0, "{found}");
    assert!(found["in_memory"][2].as_u64() > Some(0), "{found}");
    assert_eq!(found["shown"], json!([0, 0, 0]), "{found}");
    stop(host).await;
}

#[tokio::test]
async fn a_workers_environment_has_no_providers_key_unless_it_is_passed() {
    let name = "worker_keys::a_workers_environment_has_no_providers_key_unless_it_is_passed";
    let env = [
        ("OPENAI_API_KEY", "sk-of-openai"),
        ("XAI_API_KEY", "xai-passed"),
    ];
    if own_process_with(name, &env).await.is_some() {
        return;
    }
    let host = workers(1)
        .await
        .pass_key("XAI_API_KEY")
        .start()
        .await
        .unwrap();
    let model = "w-env";
    lm_server().await.script(model, Reply::echo());
    // The key is the one of the variable all the same.
    let lm = Lm::new(format!("openai/{model}")).base_url(lm_server().await.base_url());
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    let sent = lm_server().await.requests(model);
    assert_eq!(sent[0].authorization(), Some("Bearer sk-of-openai"));
    let found = look_for(&host, ["sk-of-openai", "xai-passed"]).await;
    assert_eq!(found["in_memory"][0], 0, "{found}");
    assert_eq!(found["shown"][0], 0, "{found}");
    assert!(found["shown"][1].as_u64() > Some(0), "{found}");
    stop(host).await;
}

/// The environment of the only worker.
async fn environment(host: &Host) -> serde_json::Value {
    let source = "import os\nasync def environ():\n    return dict(os.environ)";
    let environ = host.function("environ", Some(source)).await.unwrap();
    environ.call(json!({})).await.unwrap()
}

#[tokio::test]
async fn a_worker_starts_without_the_keys_that_dspys_own_client_knows() {
    let name = "worker_keys::a_worker_starts_without_the_keys_that_dspys_own_client_knows";
    let code = "from dspy._vendor.lm15.registry import PROVIDERS\n\
                print(*{name for one in PROVIDERS.values() for name in one.env_keys})";
    let mut python = tokio::process::Command::new(venv().await.join("bin/python"));
    let names = python.args(["-c", code]).output().await.expect("an answer");
    let names = String::from_utf8(names.stdout).expect("names");
    let names: Vec<_> = names.split_whitespace().collect();
    assert!(names.len() > 10, "{names:?}");
    let keys: Vec<_> = names.iter().map(|name| (*name, "a-real-key")).collect();
    if own_process_with(name, &keys).await.is_some() {
        return;
    }
    let host = workers(1).await.start().await.unwrap();
    let environment = environment(&host).await;
    for name in names {
        assert_eq!(environment[name], tower_dspy::lm::PLACEHOLDER, "{name}");
    }
    stop(host).await;
}

/// Its provider is none of those whose variables are taken out as a worker starts.
#[tokio::test]
async fn a_load_takes_the_key_that_it_finds_out_of_the_workers_environment() {
    let name = "worker_keys::a_load_takes_the_key_that_it_finds_out_of_the_workers_environment";
    let env = [("NOVITA_API_KEY", "key-of-novita")];
    if own_process_with(name, &env).await.is_some() {
        return;
    }
    let host = workers(1).await.start().await.unwrap();
    assert_eq!(environment(&host).await["NOVITA_API_KEY"], "key-of-novita");
    let model = "w-novita";
    lm_server().await.script(model, Reply::echo());
    let lm = Lm::new(format!("novita/{model}")).base_url(lm_server().await.base_url());
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    let sent = lm_server().await.requests(model);
    assert_eq!(sent[0].authorization(), Some("Bearer key-of-novita"));
    let environment = environment(&host).await;
    assert_eq!(environment["NOVITA_API_KEY"], tower_dspy::lm::PLACEHOLDER);
    stop(host).await;
}

/// A worker has no key of a provider's: what looks for one finds what stands for it.
#[tokio::test]
async fn an_sdk_in_a_worker_finds_a_placeholder_for_the_key() {
    let name = "worker_keys::an_sdk_in_a_worker_finds_a_placeholder_for_the_key";
    let env = [("OPENAI_API_KEY", "sk-of-the-environment")];
    if own_process_with(name, &env).await.is_some() {
        return;
    }
    let (host, server) = (workers(1).await.start().await.unwrap(), lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    let lm = Lm::new("openai/http-usual").base_url(server.base_url());
    let target = "http_requests:asks_with_what_the_environment_has";
    let program = host.load(target).lm(lm).await.unwrap();
    let request = PredictRequest::new(json!({"model": "http-sdk-env"}));
    let answer = program.oneshot(request).await.unwrap();
    assert!(answer.outputs["text"] != serde_json::Value::Null);
    let sent = &server.requests("http-sdk-env")[0];
    assert_eq!(sent.authorization(), Some("Bearer sk-of-the-environment"));
    stop(host).await;
}

#[tokio::test]
async fn a_load_takes_the_variable_that_its_lm_names_out_of_the_workers_environment() {
    let name =
        "worker_keys::a_load_takes_the_variable_that_its_lm_names_out_of_the_workers_environment";
    if own_process_with(name, &[("MY_TEAMS_KEY", "key-of-my-team")])
        .await
        .is_some()
    {
        return;
    }
    let host = workers(1).await.start().await.unwrap();
    let model = "w-key-env";
    lm_server().await.script(model, Reply::echo());
    let lm = Lm::new(format!("openai/{model}"))
        .base_url(lm_server().await.base_url())
        .key_env("MY_TEAMS_KEY");
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    let sent = lm_server().await.requests(model);
    assert_eq!(sent[0].authorization(), Some("Bearer key-of-my-team"));
    let environment = environment(&host).await;
    assert_eq!(environment["MY_TEAMS_KEY"], tower_dspy::lm::PLACEHOLDER);
    stop(host).await;
}
