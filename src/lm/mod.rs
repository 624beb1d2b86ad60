//! The LM that programs call.

use std::fmt;

use serde_json::{Map, Value, json};

/// An LM by name, with where it is and with whose key.
///
/// ```
/// use tower_dspy::Lm;
///
/// let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
/// let local = Lm::new("openai/my-model").base_url("http://127.0.0.1:8000/v1").key("unused");
/// // Keys are never shown.
/// assert!(!format!("{local:?}").contains("unused"));
/// ```
#[derive(Clone, PartialEq)]
pub struct Lm {
    model: String,
    base_url: Option<String>,
    key: Key,
    options: Map<String, Value>,
}

#[derive(Clone, PartialEq)]
enum Key {
    /// DSPy reads the provider's usual variable.
    ProvidersOwn,
    Env(String),
    Given(String),
}

impl Lm {
    /// The LM `model`, as DSPy names it: `provider/model`.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            base_url: None,
            key: Key::ProvidersOwn,
            options: Map::new(),
        }
    }

    /// Where the provider's API is, such as `http://127.0.0.1:8000/v1`.
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Takes the key from this environment variable, when a program is loaded.
    #[must_use]
    pub fn key_env(mut self, variable: impl Into<String>) -> Self {
        self.key = Key::Env(variable.into());
        self
    }

    /// The key itself.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Key::Given(key.into());
        self
    }

    /// The sampling temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.options
            .insert("temperature".into(), json!(temperature));
        self
    }

    /// The most tokens that an answer may have.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.options.insert("max_tokens".into(), tokens.into());
        self
    }

    /// What Python's side builds the LM from; the name of the variable that is not set otherwise.
    pub(crate) fn config(&self) -> Result<Value, String> {
        let key = match &self.key {
            Key::ProvidersOwn => None,
            Key::Given(key) => Some(key.clone()),
            Key::Env(variable) => match std::env::var(variable) {
                Ok(key) if !key.is_empty() => Some(key),
                _ => return Err(variable.clone()),
            },
        };
        Ok(json!({
            "model": self.model,
            "base_url": self.base_url,
            "key": key,
            "options": self.options,
        }))
    }
}

impl fmt::Debug for Lm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key {
            Key::ProvidersOwn => "the provider's own variable",
            Key::Env(variable) => variable,
            Key::Given(_) => "(given)",
        };
        f.debug_struct("Lm")
            .field("model", &self.model)
            .field("base_url", &self.base_url)
            .field("key", &key)
            .field("options", &self.options)
            .finish()
    }
}
