//! The known providers: where they are, and which variable holds their key.

use http::Uri;

use super::{
    config_error::LmConfigError,
    credential::Credential,
    key::{Origin, SecretKey},
    model::{Lm, LmKey},
    model_name::split,
};

/// A provider of LMs, by the name that DSPy has for it.
struct Provider {
    name: &'static str,
    /// `None` if it is elsewhere for each customer.
    url: Option<&'static str>,
    /// Tried in this order; none for a server of one's own, which wants no key.
    variables: &'static [&'static str],
}

const fn at(name: &'static str, url: &'static str, variables: &'static [&'static str]) -> Provider {
    let url = Some(url);
    Provider {
        name,
        url,
        variables,
    }
}

/// Those that DSPy's own client speaks to, and the commonest that litellm does.
const PROVIDERS: [Provider; 16] = [
    at("openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"]),
    at(
        "anthropic",
        "https://api.anthropic.com/v1",
        &["ANTHROPIC_API_KEY"],
    ),
    at(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    ),
    at("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"]),
    at(
        "openrouter",
        "https://openrouter.ai/api/v1",
        &["OPENROUTER_API_KEY"],
    ),
    at(
        "deepseek",
        "https://api.deepseek.com",
        &["DEEPSEEK_API_KEY"],
    ),
    at("xai", "https://api.x.ai/v1", &["XAI_API_KEY"]),
    at(
        "moonshot",
        "https://api.moonshot.ai/v1",
        &["MOONSHOTAI_API_KEY", "MOONSHOT_API_KEY"],
    ),
    at("ollama", "http://localhost:11434/v1", &[]),
    at("ollama_chat", "http://localhost:11434/v1", &[]),
    at("hosted_vllm", "http://localhost:8000/v1", &[]),
    at("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"]),
    at(
        "together_ai",
        "https://api.together.ai/v1",
        &[
            "TOGETHERAI_API_KEY",
            "TOGETHER_API_KEY",
            "TOGETHER_AI_API_KEY",
        ],
    ),
    at(
        "fireworks_ai",
        "https://api.fireworks.ai/inference/v1",
        &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"],
    ),
    at(
        "perplexity",
        "https://api.perplexity.ai",
        &["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"],
    ),
    Provider {
        name: "azure",
        url: None,
        variables: &["AZURE_OPENAI_API_KEY"],
    },
];

/// The variables that hold keys of providers.
#[cfg(feature = "workers")]
pub(crate) fn key_variables() -> impl Iterator<Item = &'static str> {
    PROVIDERS
        .iter()
        .flat_map(|provider| provider.variables.iter().copied())
}

/// Beginnings of the names of those whose requests DSPy's side signs, with credentials of their
/// cloud that it finds itself, unless they are given a key.
const SIGNED: [&str; 3] = ["bedrock", "vertex", "sagemaker"];

impl Lm {
    /// Whether Python has a placeholder for the key. Credentials of a cloud are looked for where
    /// there is none.
    pub(crate) fn is_keyed(&self) -> bool {
        let provider = split(&self.model).0.to_ascii_lowercase();
        let is_signed = SIGNED.iter().any(|signed| provider.starts_with(signed));
        !(is_signed && matches!(self.key, LmKey::ProvidersOwn))
    }

    /// What Python's side builds the LM from. The key is not among it: Python has a placeholder.
    #[cfg(feature = "_host")]
    pub(crate) fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "model": self.model,
            "base_url": self.base_url,
            "options": self.options,
            "keyed": self.is_keyed(),
        })
    }
}

/// The key of an LM and where it may go.
pub(super) fn credential(lm: &Lm) -> Result<Credential, LmConfigError> {
    check_options(lm)?;
    let (name, _) = split(&lm.model);
    let is_known = |known: &&Provider| known.name.eq_ignore_ascii_case(name);
    let known = PROVIDERS.iter().find(is_known);
    let set = base_url_of_environment(name);
    let url = lm.base_url.as_deref().or(set.as_deref());
    let Some(url) = url.or(known.and_then(|known| known.url)) else {
        return match lm.is_keyed() {
            false => Ok(Credential::default()),
            true => Err(LmConfigError::NoAddress {
                provider: name.into(),
            }),
        };
    };
    let bad = |problem| LmConfigError::BadUrl {
        url: shown(url).to_owned(),
        problem,
    };
    let uri = url.parse::<Uri>().ok();
    let origin = uri.as_ref().and_then(Origin::of);
    let (Some(uri), Some(origin)) = (uri, origin) else {
        return Err(bad("is no URL such as `https://host/v1`"));
    };
    if uri.authority().is_some_and(|at| at.as_str().contains('@')) {
        return Err(bad(
            "holds credentials, which would show up wherever the URL does; take them out, and give \
             the key by `Lm::key` or `Lm::key_env`",
        ));
    }
    if uri.query().is_some() {
        return Err(bad(
            "has a query, behind which no path can follow; leave it out, and add it to each request \
             by a layer, `Lm::layer`",
        ));
    }
    let key = key(lm, known.map_or(&[], |known| known.variables))?;
    let origin = Some(origin);
    Ok(Credential { key, origin })
}

/// What DSPy, and with it litellm, takes for the provider's address where none is given.
fn base_url_of_environment(provider: &str) -> Option<String> {
    let prefix = provider.to_ascii_uppercase();
    let variables = ["API_BASE", "BASE_URL"].map(|name| format!("{prefix}_{name}"));
    let mut set = variables.iter().filter_map(|name| std::env::var(name).ok());
    set.find(|url| !url.is_empty())
}

fn check_options(lm: &Lm) -> Result<(), LmConfigError> {
    for option in lm.options.keys() {
        if let Some(instead) = instead_of(option) {
            return Err(LmConfigError::Option {
                model: lm.model.clone(),
                option: option.clone(),
                instead,
            });
        }
    }
    Ok(())
}

/// What to do instead of giving this option of `dspy.LM`, if it is the host's to give.
fn instead_of(option: &str) -> Option<&'static str> {
    Some(match option {
        "api_key" => "give the key by `Lm::key`, `Lm::key_env` or `Lm::key_with`",
        "api_base" | "base_url" => "give the address by `Lm::base_url`",
        "model" => "give the model to `Lm::new`",
        "num_retries" => "put a `RetryLayer` around the LM by `Lm::layer`",
        "cache" => "a host does not cache what LMs answer; put a caching layer around the LM",
        "async_engine" | "provider" => "it is a Python object, which a host cannot carry",
        _ => return None,
    })
}

fn key(lm: &Lm, usual: &[&str]) -> Result<Option<SecretKey>, LmConfigError> {
    let (key, variable) = match &lm.key {
        // DSPy's guide to local LMs has it so.
        LmKey::Given(key) if key.is_empty() => return Ok(None),
        LmKey::Given(key) => (Some(key.clone()), None),
        LmKey::By(_) => return Ok(None),
        LmKey::Env(variable) => (std::env::var(variable).ok(), Some(variable.as_str())),
        LmKey::ProvidersOwn => {
            let mut set = usual.iter().filter_map(|name| std::env::var(name).ok());
            let key = set.find(|key| !key.trim().is_empty());
            // A server of one's own, which is what a base URL mostly is, may want no key.
            if key.is_none() && (usual.is_empty() || lm.base_url.is_some()) {
                return Ok(None);
            }
            (key, usual.first().copied())
        }
    };
    let (key, model) = (key.unwrap_or_default(), lm.model.clone());
    match (SecretKey::new(&key), variable) {
        (Some(key), _) => Ok(Some(key)),
        (None, Some(variable)) if key.trim().is_empty() => Err(LmConfigError::NoKey {
            model,
            variable: variable.into(),
        }),
        (None, _) => Err(LmConfigError::BadKey { model }),
    }
}

/// A URL without what comes before an `@`, and without its query: both may hold a key.
fn shown(url: &str) -> &str {
    let url = url.split('?').next().unwrap_or_default();
    url.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_names_its_provider() {
        assert_eq!(split("openai/gpt-4o-mini"), ("openai", "gpt-4o-mini"));
        assert_eq!(split("openrouter/a/b"), ("openrouter", "a/b"));
        assert_eq!(split("claude-x"), ("anthropic", "claude-x"));
        assert_eq!(split("gpt-4o"), ("openai", "gpt-4o"));
    }

    #[test]
    fn a_provider_with_cloud_credentials_needs_no_key_and_no_address() {
        for model in ["bedrock/x", "vertex_ai/gemini-pro", "bedrock_converse/x"] {
            let found = credential(&Lm::new(model)).expect("it is complete");
            assert!(found.key.is_none() && found.origin.is_none());
            // A key goes nowhere but to an address that is known.
            let error = credential(&Lm::new(model).key("k")).expect_err("no address");
            assert!(matches!(error, LmConfigError::NoAddress { .. }), "{error}");
        }
    }

    #[test]
    fn options_with_a_method_of_their_own_are_refused_by_name() {
        for option in [
            "api_base",
            "api_key",
            "async_engine",
            "base_url",
            "cache",
            "model",
            "num_retries",
            "provider",
        ] {
            let lm = Lm::new("openai/x").key("k").option(option, "value");
            let error = credential(&lm).expect_err("it is ours").to_string();
            assert!(error.contains(option), "{error}");
        }
        let lm = Lm::new("openai/x")
            .key("k")
            .option("reasoning_effort", "low");
        credential(&lm).expect("it is DSPy's");
    }

    #[test]
    fn an_empty_key_variable_counts_as_missing() {
        let lm = Lm::new("ollama_chat/x").key("");
        assert!(credential(&lm).expect("it is complete").key.is_none());
    }

    #[test]
    fn the_error_for_a_missing_key_names_the_variable() {
        let lm = Lm::new("openai/x").key_env("TOWER_DSPY_NO_SUCH_VARIABLE");
        let error = credential(&lm).expect_err("it is not set");
        assert!(
            error.to_string().contains("$TOWER_DSPY_NO_SUCH_VARIABLE"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_provider_needs_an_address() {
        let lm = Lm::new("mine/x").key("secret");
        assert!(matches!(
            credential(&lm),
            Err(LmConfigError::NoAddress { .. })
        ));
        let found = credential(&lm.base_url("http://127.0.0.1:9/v1")).expect("an address");
        let origin = found.origin.as_ref().map(Origin::as_str);
        assert_eq!(origin, Some("http://127.0.0.1:9"));
    }

    #[test]
    fn the_error_for_an_invalid_url_names_the_invalid_part() {
        let error = |url: &str| {
            let lm = Lm::new("openai/x").key("k").base_url(url);
            credential(&lm)
                .expect_err("it has more than it may")
                .to_string()
        };
        let credentials = error("https://me:secret@host/v1");
        assert!(credentials.contains("credentials"), "{credentials}");
        assert!(!credentials.contains("secret"), "{credentials}");
        let query = error("https://host/v1?api-version=secret");
        assert!(query.contains("`https://host/v1` has a query"), "{query}");
        assert!(!query.contains("secret"), "{query}");
    }

    #[test]
    fn a_bad_url_is_shown_without_its_secrets() {
        for url in [
            "https://me:secret@host/v1",
            "host/v1?key=secret",
            "ftp://host",
        ] {
            let error = credential(&Lm::new("openai/x").key("k").base_url(url)).expect_err("bad");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
