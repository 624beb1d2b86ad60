//! [`LmProvider`], and the key and the address that an LM has by it.
//!
//! Where a provider is, and which variables hold its key, is known to the libraries that DSPy calls
//! it by. Python's side asks them when a program is loaded, see `lm_address.py`.

use http::Uri;
use serde::Deserialize;

use super::{
    config_error::LmConfigError,
    credential::Credential,
    key::{Origin, SecretKey, problem_of},
    key_variable::is_variable,
    model::{Lm, LmKey},
    model_name::split,
};

/// The provider of an LM, as DSPy and its libraries know it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct LmProvider {
    /// Where a request of the LM goes; `None` while that is not known.
    pub(crate) url: Option<String>,
    /// The environment variables that may hold the key, the first of them first.
    pub(crate) variables: Vec<String>,
    /// Whether its library finds credentials of its own where there is no key, as those of a cloud.
    pub(crate) has_credentials: bool,
}

impl LmProvider {
    /// The provider of an LM without Python: it has the variable that nearly all have.
    pub(super) fn by_name(lm: &Lm) -> Self {
        let name = split(&lm.model).0.to_ascii_uppercase();
        Self {
            variables: vec![format!("{name}_API_KEY")],
            ..Self::default()
        }
    }
}

#[cfg(feature = "_host")]
impl Lm {
    /// What Python's side builds the LM from. The key is not among it: Python has a placeholder.
    pub(crate) fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "model": self.model,
            "base_url": self.base_url,
            "options": self.options,
            // Else it is that of one of the provider's variables.
            "has_key": !matches!(self.key, LmKey::ProvidersOwn),
        })
    }
}

/// Checks what needs no provider: the options, the base URL, and a key that the LM was given.
pub(super) fn check(lm: &Lm) -> Result<(), LmConfigError> {
    check_options(lm)?;
    own_origin(lm)?;
    match lm.key {
        LmKey::ProvidersOwn => Ok(()),
        _ => key(lm, &LmProvider::default(), None).map(drop),
    }
}

/// Warns of an address that is allowed and mostly a mistake.
fn warn_of_address(lm: &Lm, key: Option<&SecretKey>, origin: Option<&Origin>) {
    let (Some(origin), Some(_)) = (origin, &lm.base_url) else {
        return;
    };
    if key.is_some() && origin.is_plain() && !origin.is_nearby() {
        tracing::warn!(
            target: "tower_dspy",
            model = lm.model,
            address = origin.as_str(),
            "the LM's key and prompts are sent unencrypted: give `Lm::base_url` with `https`",
        );
    }
    let has_port = |url: &String| url.parse::<Uri>().is_ok_and(|uri| uri.port().is_some());
    if origin.is_local() && !lm.base_url.as_ref().is_some_and(has_port) {
        tracing::warn!(
            target: "tower_dspy",
            model = lm.model,
            address = origin.as_str(),
            "the LM's address on this machine has no port: most servers need one in `Lm::base_url`",
        );
    }
}

/// The key of an LM and where it may go.
///
/// # Errors
/// If there is no key and the provider wants one.
pub(super) fn credential(lm: &Lm, provider: &LmProvider) -> Result<Credential, LmConfigError> {
    let mut origin = own_origin(lm)?;
    if origin.is_none()
        && let Some(url) = &provider.url
    {
        origin = Some(origin_of(url)?);
    }
    let key = key(lm, provider, origin.as_ref())?;
    warn_of_address(lm, key.as_ref(), origin.as_ref());
    Ok(Credential {
        key,
        origin,
        is_token: false,
    })
}

/// What the paths of requests end in, which a base URL is to leave to them, for providers whose servers
/// have them at the end of any base URL.
const ENDS: [(&str, &[&str]); 6] = [
    ("anthropic", &["/messages"]),
    (
        "openai",
        &[
            "/chat/completions",
            "/completions",
            "/responses",
            "/embeddings",
        ],
    ),
    ("hosted_vllm", &["/chat/completions", "/completions"]),
    ("litellm_proxy", &["/chat/completions", "/completions"]),
    ("lm_studio", &["/chat/completions", "/completions"]),
    ("openai_like", &["/chat/completions", "/completions"]),
];

/// The origin of the URL that the LM was given, or that its provider's variable holds.
fn own_origin(lm: &Lm) -> Result<Option<Origin>, LmConfigError> {
    let set = base_url_of_environment(split(&lm.model).0);
    let Some(url) = lm.base_url.as_deref().or(set.as_deref()) else {
        return Ok(None);
    };
    let bad = |problem| LmConfigError::BadUrl {
        url: shown(url).to_owned(),
        problem,
    };
    if url.trim().is_empty() {
        return Err(bad(
            "is empty: leave `Lm::base_url` out for the provider's own address",
        ));
    }
    let origin = origin_of(url)?;
    let uri = url.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    if authority.is_some_and(|at| at.as_str().contains('@')) {
        return Err(bad(
            "holds credentials, which would show up wherever the URL does; take them out, and give \
             the key by `Lm::key` or `Lm::key_env`",
        ));
    }
    if uri.as_ref().and_then(Uri::query).is_some() {
        return Err(bad(
            "has a query, behind which no path can follow; leave it out, and add it to each request \
             by a layer, `Lm::layer`",
        ));
    }
    let provider = split(&lm.model).0;
    let ends = ENDS.iter().find(|(name, _)| *name == provider);
    let path = uri.as_ref().map_or("", Uri::path).trim_end_matches('/');
    if ends.is_some_and(|(_, ends)| ends.iter().any(|end| path.ends_with(end))) {
        return Err(bad(
            "is the address of one kind of request: leave out what follows on the API's root, which \
             mostly ends in `/v1`",
        ));
    }
    Ok(Some(origin))
}

fn origin_of(url: &str) -> Result<Origin, LmConfigError> {
    let uri = url.parse::<Uri>().ok();
    let origin = uri.as_ref().and_then(Origin::of);
    origin.ok_or_else(|| LmConfigError::BadUrl {
        url: shown(url).to_owned(),
        problem: match url.contains("://") {
            true => "is no URL such as `https://host/v1`",
            false => {
                "names no scheme: write `https://` before it, or `http://` for a server of your own"
            }
        },
    })
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

fn key(
    lm: &Lm,
    provider: &LmProvider,
    origin: Option<&Origin>,
) -> Result<Option<SecretKey>, LmConfigError> {
    let usual = &provider.variables;
    let (key, variable) = match &lm.key {
        // DSPy's guide to local LMs has it so.
        LmKey::Given(key) if key.is_empty() => return Ok(None),
        LmKey::Given(key) => (Some(key.clone()), None),
        LmKey::By(_) | LmKey::Token(_) => return Ok(None),
        LmKey::Env(variable) => {
            check_variable(&lm.model, variable)?;
            (std::env::var(variable).ok(), Some(variable))
        }
        LmKey::ProvidersOwn => {
            let mut set = usual.iter().filter_map(|name| std::env::var(name).ok());
            let key = set.find(|key| !key.trim().is_empty());
            // A server of one's own, which is what a base URL mostly is, may want no key.
            let is_own = lm.base_url.is_some() || origin.is_some_and(Origin::is_local);
            if key.is_none() && (usual.is_empty() || is_own || provider.has_credentials) {
                return Ok(None);
            }
            (key, usual.first())
        }
    };
    let is_empty = key.is_some();
    let (key, model) = (key.unwrap_or_default(), lm.model.clone());
    match (SecretKey::new(&key), variable) {
        (Some(key), _) => Ok(Some(key)),
        (None, Some(variable)) if key.trim().is_empty() => Err(LmConfigError::NoKey {
            model,
            variable: variable.clone(),
            is_empty,
        }),
        (None, variable) => Err(LmConfigError::BadKey {
            model,
            variable: variable.cloned(),
            problem: problem_of(&key),
        }),
    }
}

/// Refuses what is no name of a variable, as a key that was given in place of one.
fn check_variable(model: &str, name: &str) -> Result<(), LmConfigError> {
    let refuse = |given: String| {
        Err(LmConfigError::Variable {
            model: model.to_owned(),
            given,
        })
    };
    if let Some(bare) = name.strip_prefix('$')
        && is_variable(bare)
    {
        return refuse(format!("`{name}`: leave out the `$`, `{bare}`"));
    }
    if is_variable(name) {
        return Ok(());
    }
    refuse(
        "something else, which is not shown, as it may be the key: give a key itself by `Lm::key`"
            .to_owned(),
    )
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
        assert_eq!(split("vertex:gemini-x"), ("vertex", "gemini-x"));
        assert_eq!(split("bedrock-chat:a/b:0"), ("bedrock-chat", "a/b:0"));
        assert_eq!(split("openai/ft:x:y"), ("openai", "ft:x:y"));
        assert_eq!(split("ft:gpt:org"), ("openai", "ft:gpt:org"));
    }

    /// What Python's side says of a provider at this address.
    fn provider(url: &str, variables: &[&str]) -> LmProvider {
        LmProvider {
            url: Some(url.to_owned()),
            variables: variables.iter().map(|name| (*name).to_owned()).collect(),
            has_credentials: false,
        }
    }

    fn origin(found: &Credential) -> Option<&str> {
        found.origin.as_ref().map(Origin::as_str)
    }

    #[test]
    fn the_address_of_the_lm_goes_before_that_of_its_provider() {
        let there = provider("https://api.there.example/v1/chat", &[]);
        let lm = Lm::new("there/x").key("k");
        let found = credential(&lm, &there).expect("it is complete");
        assert_eq!(origin(&found), Some("https://api.there.example:443"));
        let lm = lm.base_url("https://gateway.example/v1");
        let found = credential(&lm, &there).expect("it is complete");
        assert_eq!(origin(&found), Some("https://gateway.example:443"));
    }

    #[test]
    fn a_provider_with_credentials_of_its_own_needs_no_key() {
        let lm = Lm::new("cloud/x");
        let mut cloud = provider("https://cloud.example", &["TOWER_DSPY_NO_SUCH_VARIABLE"]);
        let error = credential(&lm, &cloud).expect_err("no key");
        assert!(matches!(error, LmConfigError::NoKey { .. }), "{error}");
        cloud.has_credentials = true;
        assert!(
            credential(&lm, &cloud)
                .expect("it is complete")
                .key
                .is_none()
        );
    }

    #[test]
    fn a_server_on_this_machine_needs_no_key() {
        for url in [
            "http://localhost:8000/v1",
            "http://127.0.0.1:1",
            "http://[::1]:9",
        ] {
            let local = provider(url, &["TOWER_DSPY_NO_SUCH_VARIABLE"]);
            let found = credential(&Lm::new("local/x"), &local).expect("it is complete");
            assert!(found.key.is_none());
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
            let error = check(&lm).expect_err("it is ours").to_string();
            assert!(error.contains(option), "{error}");
        }
        let lm = Lm::new("openai/x")
            .key("k")
            .option("reasoning_effort", "low");
        check(&lm).expect("it is DSPy's");
    }

    #[test]
    fn an_empty_key_variable_counts_as_missing() {
        let lm = Lm::new("ollama_chat/x").key("");
        let found = credential(&lm, &LmProvider::by_name(&lm));
        assert!(found.expect("it is complete").key.is_none());
    }

    #[test]
    fn the_error_for_a_missing_key_names_the_variable() {
        let lm = Lm::new("openai/x").key_env("TOWER_DSPY_NO_SUCH_VARIABLE");
        let error = check(&lm).expect_err("it is not set");
        assert!(
            error.to_string().contains("$TOWER_DSPY_NO_SUCH_VARIABLE"),
            "{error}"
        );
    }

    #[test]
    fn without_python_an_lm_needs_an_address() {
        let lm = Lm::new("mine/x").key("secret");
        let error = lm.connect().expect_err("no address");
        assert!(matches!(error, LmConfigError::NoAddress { .. }), "{error}");
        assert!(error.to_string().contains("$MINE_BASE_URL"), "{error}");
        let lm = lm.base_url("http://127.0.0.1:9/v1");
        lm.connect().expect("an address");
        let found = credential(&lm, &LmProvider::by_name(&lm)).expect("an address");
        assert_eq!(origin(&found), Some("http://127.0.0.1:9"));
    }

    #[test]
    fn the_error_for_an_invalid_url_names_the_invalid_part() {
        let error = |url: &str| {
            let lm = Lm::new("openai/x").key("k").base_url(url);
            check(&lm).expect_err("it has more than it may").to_string()
        };
        let credentials = error("https://me:secret@host/v1");
        assert!(credentials.contains("credentials"), "{credentials}");
        assert!(!credentials.contains("secret"), "{credentials}");
        let query = error("https://host/v1?api-version=secret");
        assert!(query.contains("`https://host/v1` has a query"), "{query}");
        assert!(!query.contains("secret"), "{query}");
    }

    #[test]
    fn an_address_that_is_mostly_a_mistake_is_refused_with_the_remedy() {
        for (model, url, said) in [
            ("openai/x", "", "leave `Lm::base_url` out"),
            (
                "openai/x",
                "localhost:8000/v1",
                "write `https://` before it",
            ),
            (
                "openai/x",
                "http://localhost:8000/v1/chat/completions",
                "leave out what follows on the API's root",
            ),
            (
                "hosted_vllm/x",
                "http://localhost:8000/v1/completions/",
                "leave out what follows",
            ),
            (
                "anthropic/x",
                "https://host/v1/messages",
                "leave out what follows",
            ),
        ] {
            let error = check(&Lm::new(model).key("k").base_url(url)).expect_err("a mistake");
            assert!(matches!(error, LmConfigError::BadUrl { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        for url in [
            "http://localhost:8000",
            "https://host/v1/",
            "https://host/openai/v1",
        ] {
            check(&Lm::new("openai/x").key("k").base_url(url)).expect("it may be right");
        }
    }

    #[test]
    fn a_key_in_place_of_the_name_of_its_variable_is_refused_and_not_shown() {
        for key in [
            "sk-proj-0123456789abcdef",
            "sk_live_0123456789abcdef",
            "a key",
        ] {
            let lm = Lm::new("openai/x").key_env(key);
            let error = check(&lm).expect_err("no name");
            assert!(matches!(error, LmConfigError::Variable { .. }), "{error}");
            assert!(error.to_string().contains("by `Lm::key`"), "{error}");
            assert!(
                !format!("{error} {error:?} {lm:?}").contains(key),
                "{error}"
            );
        }
        let error = check(&Lm::new("openai/x").key_env("$MY_KEY")).expect_err("no name");
        assert!(error.to_string().contains("leave out the `$`"), "{error}");
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_refused_with_the_reason_and_not_shown() {
        for (key, problem) in [
            ("\"secret\"", "quotes around it"),
            ("sec\nret", "a line break within"),
            ("sec ret", "a space within"),
        ] {
            let error = check(&Lm::new("openai/x").key(key)).expect_err("no key");
            assert!(error.to_string().contains(problem), "{error}");
            assert!(!format!("{error:?}").contains("sec"), "{error}");
        }
        // The line break that a file ends with is no part of a key.
        check(&Lm::new("openai/x").key("secret\n")).expect("a key");
    }

    #[test]
    fn a_bad_url_is_shown_without_its_secrets() {
        for url in [
            "https://me:secret@host/v1",
            "host/v1?key=secret",
            "ftp://host",
        ] {
            let error = check(&Lm::new("openai/x").key("k").base_url(url)).expect_err("bad");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
