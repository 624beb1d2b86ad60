//! [`LmConfigError`]: the reasons why an LM cannot be used.

use crate::error::debug_as_display;

/// Why an [`Lm`](super::Lm) cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LmConfigError {
    /// An option of `dspy.LM` that is given in another way.
    #[error("`{option}` of `{model}` is not to be given by `Lm::option`: {instead}")]
    Option {
        /// The model.
        model: String,
        /// The option.
        option: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// The variable that is to hold the key is not set, or is empty.
    #[error(
        "the key of `{model}` is to come from ${variable}, which is {}; set it, name another variable \
         by `Lm::key_env`, or give the key by `Lm::key`, which takes an empty one for a server without \
         keys",
        if *.is_empty { "empty" } else { "not set" }
    )]
    NoKey {
        /// The model.
        model: String,
        /// The variable, or the first of the provider's usual ones.
        variable: String,
        /// Whether the variable is set, and empty.
        is_empty: bool,
    },
    /// What [`Lm::key_env`](super::Lm::key_env) was given is no name of a variable. It is not shown where
    /// it may be the key itself.
    #[error("`Lm::key_env` of `{model}` takes the name of a variable, and was given {given}")]
    Variable {
        /// The model.
        model: String,
        /// What was given, and what to do instead.
        given: String,
    },
    /// The key, which is not shown, cannot be sent.
    #[error("the key of `{model}` cannot be sent: {problem}; check how it was set{}",
        .variable.as_ref().map_or_else(String::new, |name| format!(", in ${name}")))]
    BadKey {
        /// The model.
        model: String,
        /// The variable that it comes from, if it comes from one.
        variable: Option<String>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Without Python it is not known where the provider is. A load asks DSPy and its libraries.
    #[error(
        "it is not known here where `{provider}` is: give its URL by `Lm::base_url`, or set \
         ${variable}"
    )]
    NoAddress {
        /// The provider.
        provider: String,
        /// The variable that may hold its URL.
        variable: String,
    },
    /// The base URL is no absolute http or https URL, or has more than such a URL may have.
    #[error("the base URL `{url}` {problem}")]
    BadUrl {
        /// The URL, without credentials and query.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A variable names a proxy that cannot be used.
    #[error(
        "the proxy in ${variable} cannot be used; set it to a URL such as `http://host:3128` or \
         `socks5h://host:1080`, or unset it"
    )]
    Proxy {
        /// The variable.
        variable: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("no HTTP client could be made: {reason}")]
    Client {
        /// What it says.
        reason: String,
    },
    /// An LM that is made of several has no members.
    #[error("`Lm::fallback` was given no LM: give it at least one")]
    NoMembers,
    /// The share of the time left for a member is none.
    #[error("the `failover_share` {share} is no share: give one above 0 and below 1")]
    FailoverShare {
        /// The share.
        share: f64,
    },
    /// Only programs call an LM that is made of several.
    #[error("an LM that is made of several has no connection of its own: connect its members")]
    Group,
}

debug_as_display!(LmConfigError);

impl LmConfigError {
    /// Nothing says where `provider` is.
    pub(super) fn no_address(provider: &str) -> Self {
        Self::NoAddress {
            provider: provider.into(),
            variable: format!("{}_BASE_URL", provider.to_ascii_uppercase()),
        }
    }
}
