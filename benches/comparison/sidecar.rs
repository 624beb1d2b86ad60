//! DSPy behind FastAPI in a process of its own, asked over HTTP.

use std::{path::Path, process::Stdio};

use reqwest::Client;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    LIMIT, Trouble,
    callers::{FIRST, GaveUp, ask_all},
    part::PROGRAMS,
};

/// A sidecar, and the route that is asked.
#[derive(Debug)]
pub(crate) struct Sidecar {
    process: Child,
    client: Client,
    url: String,
}

impl Sidecar {
    /// Starts it with the LM at `lm_url`, and waits until its first question was answered.
    pub(crate) async fn start(
        venv: &Path,
        route: &str,
        lm_url: &str,
        lm_key: &str,
        model: &str,
    ) -> Result<Self, Trouble> {
        let mut process = Command::new(venv.join("bin/python"))
            .arg(format!("{PROGRAMS}/sidecar.py"))
            .args([lm_url, model, &LIMIT.as_secs_f64().to_string()])
            .env("LM_KEY", lm_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let address = BufReader::new(stdout).lines().next_line().await?;
        let address = address.ok_or("the sidecar did not start")?;
        let client = Client::builder().no_proxy().build()?;
        let url = format!("{address}/{route}");
        // The routes share the connection to the LM, and only this one waits without a limit.
        let first = client.post(format!("{address}/async"));
        let first = first.json(&json!({ "question": FIRST }));
        first.send().await?.error_for_status()?;
        Ok(Self {
            process,
            client,
            url,
        })
    }

    /// Lets the callers ask; each gives up by dropping its request, which closes its connection.
    pub(crate) async fn ask(&self) -> Result<GaveUp, Trouble> {
        ask_all(|question| {
            let request = self
                .client
                .post(&self.url)
                .json(&json!({ "question": question }));
            let asked = timeout(LIMIT, request.send());
            async { matches!(asked.await, Ok(Ok(answer)) if answer.status().is_success()) }
        })
        .await
    }

    /// Ends the process, and waits for that.
    pub(crate) async fn end(mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait().await;
    }
}
