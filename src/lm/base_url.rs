//! The base URL of an LM: from where it comes, and what is refused in it.

use http::Uri;

use super::{config_error::LmConfigError, key::Origin, model::Lm, model_name::split};

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
pub(super) fn own_origin(lm: &Lm) -> Result<Option<Origin>, LmConfigError> {
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

pub(super) fn origin_of(url: &str) -> Result<Origin, LmConfigError> {
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

/// A URL without what comes before an `@`, and without its query: both may hold a key.
fn shown(url: &str) -> &str {
    let url = url.split('?').next().unwrap_or_default();
    url.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{config_error::LmConfigError, model::Lm},
        own_origin,
    };

    #[test]
    fn the_error_for_an_invalid_url_names_the_invalid_part() {
        let error = |url: &str| {
            let lm = Lm::new("openai/x").key("k").base_url(url);
            own_origin(&lm)
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
            let error = own_origin(&Lm::new(model).key("k").base_url(url)).expect_err("a mistake");
            assert!(matches!(error, LmConfigError::BadUrl { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        for url in [
            "http://localhost:8000",
            "https://host/v1/",
            "https://host/openai/v1",
        ] {
            own_origin(&Lm::new("openai/x").key("k").base_url(url)).expect("it may be right");
        }
    }

    #[test]
    fn a_bad_url_is_shown_without_its_secrets() {
        for url in [
            "https://me:secret@host/v1",
            "host/v1?key=secret",
            "ftp://host",
        ] {
            let error = own_origin(&Lm::new("openai/x").key("k").base_url(url)).expect_err("bad");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
