//! What a doctor reads of an LM: where it is, where its key comes from, and what is doubtful about
//! that. The key itself is never shown.

use std::sync::Arc;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use super::{
    config_error::LmConfigError,
    credential_lookup,
    handle::LmHandle,
    key::{Origin, SecretKey},
    model::{Lm, LmKey},
    proxy,
};

/// How the keys of providers begin, and the names of the providers.
const PREFIXES: [(&str, &[&str]); 7] = [
    ("sk-ant-", &["anthropic"]),
    ("sk-or-", &["openrouter"]),
    ("sk-proj-", &["openai"]),
    ("gsk_", &["groq"]),
    ("xai-", &["xai"]),
    ("hf_", &["huggingface"]),
    ("AIza", &["gemini", "google", "vertex"]),
];

/// Parts of the keys in examples, in lower case.
const PLACEHOLDERS: [&str; 8] = [
    "your-",
    "your_",
    "yourkey",
    "changeme",
    "xxxx",
    "...",
    "<",
    "placeholder",
];

impl Lm {
    /// The LMs that it is made of, or itself.
    pub(crate) fn each(&self) -> Vec<&Self> {
        match &self.group {
            Some(group) => group.members.iter().flat_map(Self::each).collect(),
            None => vec![self],
        }
    }

    /// Its name, as DSPy has it.
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// What is wrong with its settings, as far as that shows without Python.
    pub(crate) fn problem(&self) -> Option<LmConfigError> {
        let checked = credential_lookup::check(self).and_then(|()| proxy::any().map(drop));
        checked.err()
    }

    /// Whether both have the same settings and the same key.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_key = match (&self.key, &other.key) {
            (LmKey::Given(one), LmKey::Given(other)) => one == other,
            (LmKey::By(one), LmKey::By(other)) | (LmKey::Token(one), LmKey::Token(other)) => {
                Arc::ptr_eq(one, other)
            }
            // Their variables are shown.
            _ => true,
        };
        same_key && format!("{self:?}") == format!("{other:?}")
    }

    /// Where its key comes from.
    pub(crate) fn key_source(&self) -> String {
        match &self.key {
            LmKey::ProvidersOwn => "the provider's variable".into(),
            LmKey::Env(variable) => format!("${variable}"),
            LmKey::Given(_) => "`Lm::key`".into(),
            LmKey::By(_) => "`Lm::key_with`, for each request".into(),
            LmKey::Token(_) => "`Lm::token_with`, for each request".into(),
        }
    }

    /// Whether its requests go through a client that the user gave.
    pub(crate) const fn has_own_client(&self) -> bool {
        !self.reports_sending()
    }
}

impl LmHandle {
    /// Scheme, host and port of its requests, once a program is loaded with it.
    pub(crate) fn address(&self) -> Option<String> {
        let credential = self.own_credential();
        credential.origin.as_ref().map(|at| at.as_str().to_owned())
    }

    /// Whether a key was found.
    pub(crate) fn has_key(&self) -> bool {
        self.own_credential().key.is_some()
    }

    /// What makes its key look like a mistake.
    pub(crate) fn key_doubt(&self, lm: &Lm) -> Option<String> {
        let credential = self.own_credential();
        // A self-hosted server may accept any key.
        let provider = lm.base_url.is_none().then_some(self.provider());
        doubt(credential.key.as_ref()?, provider)
    }
}

fn doubt(key: &SecretKey, provider: Option<&str>) -> Option<String> {
    let key = key.expose();
    if key.starts_with('$') {
        return Some("it begins with `$`, as a variable that was not replaced by its value".into());
    }
    let lower = key.to_ascii_lowercase();
    // A server of one's own mostly takes any.
    let provider = provider?;
    if PLACEHOLDERS.iter().any(|part| lower.contains(part)) {
        return Some("it looks like the placeholder of an example".into());
    }
    let (_, owners) = PREFIXES.iter().find(|(start, _)| key.starts_with(start))?;
    let is_theirs = owners.iter().any(|owner| provider.starts_with(owner));
    (!is_theirs).then(|| format!("it begins as the keys of {} do", owners[0]))
}

/// The proxy that requests to `address` go through, without its credentials.
pub(crate) fn proxy_of(address: &str) -> Option<String> {
    if !proxy::any().ok()? {
        return None;
    }
    let proxy = Matcher::from_env().intercept(&address.parse().ok()?)?;
    let uri = proxy.uri();
    let host = uri.host()?;
    let port = uri.port_u16().or_else(|| default_port(uri))?;
    Some(format!(
        "{}://{host}:{port}",
        uri.scheme_str().unwrap_or("http")
    ))
}

/// Whether `address` is on this machine.
pub(crate) fn is_local(address: &str) -> bool {
    let uri = address.parse::<Uri>().ok();
    uri.as_ref()
        .and_then(Origin::of)
        .is_some_and(|at| at.is_local())
}

fn default_port(uri: &Uri) -> Option<u16> {
    Some(match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => 1080,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lms_of_the_same_settings_and_keys_are_the_same() {
        let lm = Lm::new("openai/x").key("a");
        assert!(lm.is_same(&Lm::new("openai/x").key("a")));
        assert!(!lm.is_same(&Lm::new("openai/x").key("b")));
        assert!(!lm.is_same(&Lm::new("openai/y").key("a")));
        assert!(!lm.is_same(&Lm::new("openai/x").key_env("A")));
        let own = lm.clone().key_with(|_| None);
        assert!(own.is_same(&own.clone()));
        assert!(!own.is_same(&lm.key_with(|_| None)));
    }

    fn of(key: &str, provider: Option<&str>) -> Option<String> {
        doubt(
            &SecretKey::new(key).expect("a key that can be sent"),
            provider,
        )
    }

    #[test]
    fn a_key_of_another_provider_is_doubted_and_not_shown() {
        let doubted = of("sk-ant-secret", Some("openai")).expect("a doubt");
        assert!(doubted.contains("anthropic"), "{doubted}");
        assert!(!doubted.contains("secret"), "{doubted}");
        assert_eq!(of("sk-ant-secret", Some("anthropic")), None);
        assert_eq!(of("AIzasecret", Some("gemini")), None);
        assert_eq!(of("sk-secret", Some("openai")), None);
        // A gateway may take the key of any provider.
        assert_eq!(of("sk-ant-secret", None), None);
    }

    #[test]
    fn a_key_that_was_not_filled_in_is_doubted() {
        for key in ["$OPENAI_API_KEY", "${KEY}"] {
            assert!(of(key, None).is_some(), "{key}");
        }
        for key in ["your-api-key", "sk-...", "<key>", "sk-xxxxxxxx", "changeme"] {
            assert!(of(key, Some("openai")).is_some(), "{key}");
            assert_eq!(of(key, None), None, "{key}");
        }
    }
}
