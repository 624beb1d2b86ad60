//! What `config.toml` says.

use std::{env, fs};

use serde::Deserialize;
use tower::BoxError;
use tower_dspy::{Lm, StackConfig};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub address: String,
    pub workers: usize,
    pub max_in_flight: usize,
    /// Where the page of the calls is mounted; nowhere by default.
    pub debug_page: Option<String>,
    pub lm: LmConfig,
    #[serde(default)]
    pub stack: StackConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmConfig {
    model: String,
    /// The variable that holds the key; by default that of the provider.
    key_env: Option<String>,
    base_url: Option<String>,
}

impl Config {
    /// Reads the file that `CONFIG` names, or `config.toml` in the working directory.
    pub fn load() -> Result<Self, BoxError> {
        let path = env::var("CONFIG").unwrap_or_else(|_| "config.toml".to_owned());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        if let Ok(address) = env::var("ADDRESS") {
            config.address = address;
        }
        Ok(config)
    }
}

impl LmConfig {
    pub fn lm(&self) -> Lm {
        let mut lm = Lm::new(&self.model);
        if let Some(variable) = &self.key_env {
            lm = lm.key_env(variable);
        }
        if let Some(url) = &self.base_url {
            lm = lm.base_url(url);
        }
        lm
    }
}
