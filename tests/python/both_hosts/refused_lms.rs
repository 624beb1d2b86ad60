//! LMs that cannot be used: found when a program is loaded, with what to write instead.

use tower::ServiceExt;
use tower_dspy::{Error, Lm, LoadErrorKind};

use crate::support::{ask, host, lm_that_says};

/// What the load of a program with this LM says.
async fn refused(lm: Lm) -> String {
    let host = host().await;
    let load = host.load("question -> answer").lm(lm);
    let error = load.await.expect_err("the LM cannot be used");
    assert_eq!(error.kind(), LoadErrorKind::Lm, "{error}");
    let said = error.to_string();
    // No words of the libraries below, nor of an option that this crate does not have.
    for foreign in [
        "lm15",
        "litellm",
        "api_base",
        "api_key",
        "HostError",
        "OPENAI_API_KEY",
    ] {
        assert!(!said.contains(foreign), "`{foreign}` is in: {said}");
    }
    assert_eq!(format!("{error:?}"), said);
    said
}

fn there(model: &str) -> Lm {
    Lm::new(model).base_url("http://127.0.0.1:1/v1").key("k")
}

#[tokio::test]
async fn a_provider_that_is_misspelt_is_refused_with_what_to_write() {
    for (model, meant) in [
        ("OpenAI/gpt-4o-mini", "did you mean `openai/gpt-4o-mini`?"),
        ("opnai/x", "did you mean `openai/x`?"),
        (" openai/x", "did you mean `openai/x`?"),
        ("Mistral/x", "did you mean `mistral/x`?"),
        ("claude/x", "did you mean `anthropic/x`?"),
        ("google/x", "did you mean `gemini/x`?"),
        ("my-model", "as in `anthropic/my-model`"),
        (
            "nobody/x",
            "A server with OpenAI's API is `openai/nobody/x`",
        ),
        ("", "a non-empty string"),
        ("openai/", "no model id after it"),
    ] {
        let said = refused(Lm::new(model).key("k")).await;
        assert!(said.contains(meant), "{said}");
    }
}

#[tokio::test]
async fn a_model_of_a_server_of_ones_own_is_to_be_written_with_openai() {
    for model in ["my-model", "meta-llama/Llama-3-8B", "opnai/x", "OpenAI/x"] {
        let said = refused(there(model)).await;
        assert!(said.contains(&format!("`openai/{model}`")), "{said}");
    }
    let said = refused(there("OpenAI/x")).await;
    assert!(said.contains("write `openai/x`"), "{said}");
}

#[tokio::test]
async fn a_provider_without_a_key_names_its_own_variable() {
    let said = refused(Lm::new("mistral/x")).await;
    assert!(
        said.contains("$MISTRAL_API_KEY, which is not set"),
        "{said}"
    );
    assert!(said.contains("`Lm::key_env`"), "{said}");
    let host = host().await;
    let load = host.load("question -> answer");
    // It may be a server that wants no key.
    let local = Lm::new("mistral/x").base_url("http://127.0.0.1:1/v1");
    load.lm(local).await.unwrap();
}

#[tokio::test]
async fn an_engine_in_the_process_is_refused_with_the_name_for_a_server() {
    let said = refused(Lm::new("vllm/x").key("k")).await;
    assert!(said.contains("`hosted_vllm/x`"), "{said}");
}

#[tokio::test]
async fn the_advice_for_a_status_names_this_crates_api() {
    let host = host().await;
    for (status, advice) in [
        (401, "`Lm::key_env`"),
        (402, "no credit left"),
        (403, "`Lm::key_env`"),
        (404, "`Lm::base_url`"),
        (429, "`RetryLayer`"),
        (500, "`RetryLayer`"),
    ] {
        let load = host.load("question -> answer");
        let lm = lm_that_says(status, r#"{"error":{"message":"SECRET of the prompt"}}"#);
        let error = load.lm(lm).await.unwrap().oneshot(ask("?")).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Lm(_)), "{error:?}");
        let (said, printed) = (error.to_string(), format!("{error:?}"));
        assert!(said.contains("SECRET of the prompt"), "{said}");
        assert!(!printed.contains("SECRET"), "{printed}");
        for text in [&said, &printed] {
            assert!(text.contains(advice), "{text}");
            assert!(text.contains(&format!("(HTTP {status})")), "{text}");
        }
        for foreign in ["api_key", "lm15", "RouterConfig", "credential came from"] {
            assert!(!said.contains(foreign), "{said}");
        }
    }
}

#[tokio::test]
async fn an_address_at_which_nothing_listens_is_named_by_the_error_out_of_main() {
    let host = host().await;
    let service = host.load("question -> answer").lm(there("openai/x"));
    let error = service.await.unwrap().oneshot(ask("?")).await.unwrap_err();
    let (said, printed) = (error.to_string(), format!("{error:?}"));
    assert!(said.contains("127.0.0.1:1"), "{said}");
    for text in [&said, &printed] {
        assert!(text.contains("check that a server listens"), "{text}");
        assert!(text.contains("`Lm::base_url`"), "{text}");
    }
}
