//! The LiteLLM proxy, between DSPy and the LM.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::Trouble;

/// How long it may take to start: it imports a lot.
const STARTS: Duration = Duration::from_secs(180);
/// It refuses to start with a key that is easy to guess.
const KEY_DIGITS: usize = 64;

#[derive(Debug)]
pub(crate) struct LitellmProxy {
    process: Child,
    client: Client,
    address: String,
    pub(crate) key: String,
    folder: TempDir,
}

impl LitellmProxy {
    /// Starts it for one model of the LM at `lm_url`, with these settings.
    pub(crate) async fn start(
        venv: &Path,
        lm_url: &str,
        model: &str,
        settings: &Value,
    ) -> Result<Self, Trouble> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.yaml");
        let mut content = json!({
            "model_list": [{
                "model_name": model,
                "litellm_params": {
                    "model": format!("openai/{model}"),
                    "api_base": lm_url,
                    "api_key": "none",
                },
            }],
        });
        for (name, value) in settings.as_object().into_iter().flatten() {
            content[name] = value.clone();
        }
        // JSON is YAML.
        std::fs::write(&config, content.to_string())?;
        let digits = (0..KEY_DIGITS).map(|_| fastrand::digit(16));
        let key = format!("sk-{}", digits.collect::<String>());
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = Command::new(venv.join("bin/litellm"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .arg("--config")
            .arg(&config)
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_MASTER_KEY", &key)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut proxy = Self {
            process,
            client: Client::builder().no_proxy().build()?,
            address: format!("http://127.0.0.1:{port}"),
            key,
            folder,
        };
        proxy.is_up().await?;
        Ok(proxy)
    }

    async fn is_up(&mut self) -> Result<(), Trouble> {
        let end = Instant::now() + STARTS;
        while Instant::now() < end {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("it ended with {status}: {}", log()?).into());
            }
            if self.get("health/liveliness").await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(format!("it is not up after {STARTS:?}").into())
    }

    async fn get(&self, path: &str) -> Result<Value, reqwest::Error> {
        let request = self.client.get(format!("{}/{path}", self.address));
        let request = request
            .bearer_auth(&self.key)
            .timeout(Duration::from_secs(5));
        request.send().await?.error_for_status()?.json().await
    }

    /// The URL for its clients.
    pub(crate) fn url(&self) -> String {
        format!("{}/v1", self.address)
    }

    /// What it says of its requests under way, at `/health/backlog`. That request is one of them.
    pub(crate) async fn counts(&self) -> Result<Value, Trouble> {
        let backlog = self.get("health/backlog").await?;
        let in_flight = backlog["in_flight_requests"].as_u64();
        Ok(json!({ "running": in_flight.map(|n| n.saturating_sub(1)) }))
    }

    /// Ends the process, and waits for that.
    pub(crate) async fn end(mut self) {
        let _ = self.process.kill().await;
    }
}
