//! A scripted LM: a real HTTP server on loopback that speaks OpenAI's chat completions, Anthropic's
//! messages and Gemini's `generateContent`, does what a test tells it to, and records what happened
//! to each request.
//!
//! The path of a request says whose API it speaks, so one base URL serves all three. OpenAI's
//! `embeddings` are served as well: texts that share words get vectors that are close to each other.
//!
//! A request's `model` chooses the behaviour, so that many tests share one server: each test
//! scripts models of its own. A model without a script echoes at once.
//!
//! ```
//! # use serde_json::json;
//! # use tower_dspy::testing::scripted_lm::{Outcome, Reply, ScriptedLm};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lm = ScriptedLm::start().await?;
//! lm.script("flaky", [Reply::status(503), Reply::answer("Paris")]);
//! lm.script("stuck", Reply::hang());
//!
//! let call = reqwest::Client::new()
//!     .post(format!("{}/chat/completions", lm.base_url()))
//!     .json(&json!({"model": "stuck", "messages": []}))
//!     .send();
//! tokio::select! {
//!     _ = call => unreachable!("it never answers"),
//!     // The call is dropped once the LM has it.
//!     asked = lm.wait_for("stuck", |requests| requests.len() == 1) => asked?,
//! };
//! lm.wait_for("stuck", |requests| requests[0].outcome == Outcome::ClientGone).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The order of events is a test's to set: [`Gate`] holds a reply back or stops it in mid-answer
//! until the test opens it, and [`ScriptedLm::wait_for`] returns when something was seen. Neither
//! sleeps.
//!
//! A stream can be cut into events of any size ([`Reply::pieces`], [`Reply::split_every`]), and have
//! pings, comments, empty deltas, thinking, errors and stalls between its tokens
//! ([`Reply::pings_after`] and its neighbours), each in the form that its API has for it.
//!
//! The server also lists its models at `GET /v1/models`, and answers 404 to unknown paths and 400
//! to bodies that are no request of their API.

mod anthropic;
mod body;
mod completion;
mod dialects;
mod embeddings;
mod gate;
mod gemini;
mod interlude;
mod ledger;
mod openai;
mod play;
mod prompt;
mod record;
mod request;
mod script;
mod server;
mod split;
mod stream_options;
#[cfg(test)]
mod tests;
mod tls;
mod wait;

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

pub use gate::Gate;
pub use record::{Outcome, RequestRecord, Summary};
pub use script::{Reply, Script};
pub use wait::NotSeen;

use ledger::RequestLedger;
use server::ScriptedServer;

/// A scripted LM at work. See the [module](self).
///
/// Dropping it stops it: its connections are closed, and its port refuses new ones.
///
/// It runs on a thread of its own, so a `static` may hold one for all the tests of a process.
#[derive(Debug)]
pub struct ScriptedLm {
    base_url: String,
    server: ScriptedServer,
    ledger: RequestLedger,
}

impl ScriptedLm {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// What the system says when it gives no thread or no socket.
    pub async fn start() -> io::Result<Self> {
        Self::serve(None).await
    }

    /// Starts a server that speaks TLS as `localhost`, with this certificate and its key: both in
    /// DER, the key as PKCS #8.
    ///
    /// # Errors
    ///
    /// If the two do not fit together, and as [`start`](Self::start).
    pub async fn start_tls(certificate: &[u8], key: &[u8]) -> io::Result<Self> {
        Self::serve(Some(tls::acceptor(certificate, key)?)).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let origin = match &tls {
            None => "http://127.0.0.1",
            Some(_) => "https://localhost",
        };
        let ledger = RequestLedger::default();
        let server = ScriptedServer::start(ledger.clone(), tls).await?;
        Ok(Self {
            base_url: format!("{origin}:{}/v1", server.address.port()),
            server,
            ledger,
        })
    }

    /// The URL to give to a client, like `http://127.0.0.1:41234/v1`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sets what a model does from its next request on.
    pub fn script(&self, model: impl Into<String>, script: impl Into<Script>) {
        self.ledger.script(model.into(), script.into());
    }

    /// The requests of a model so far, in the order they came in.
    #[must_use]
    pub fn requests(&self, model: &str) -> Vec<RequestRecord> {
        self.ledger.requests(model)
    }

    /// Drops the records of a model so far, whose prompts would fill the memory of a long run. Its
    /// requests are counted on, and what becomes of those that are under way is not recorded.
    pub fn forget(&self, model: &str) {
        self.ledger.forget(model);
    }

    /// Counts the requests of every model whose name starts with `prefix`; `""` is all of them.
    #[must_use]
    pub fn summary(&self, prefix: &str) -> Summary {
        self.ledger.summary(prefix)
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.ledger.connections()
    }

    /// Waits until `seen` holds for the requests of a model, and returns them. It is asked now and
    /// after each change: a request, a token, an answer, a client gone.
    ///
    /// The limit is 30 seconds of real time, whatever clock the caller's runtime has.
    ///
    /// # Errors
    ///
    /// [`NotSeen`] when the limit has passed; it says what was seen instead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_for(
        &self,
        model: &str,
        seen: impl FnMut(&[RequestRecord]) -> bool,
    ) -> Result<Vec<RequestRecord>, NotSeen> {
        self.wait_for_within(wait::LIMIT, model, seen).await
    }

    /// [Waits](Self::wait_for) with a limit of one's own.
    ///
    /// # Errors
    ///
    /// [`NotSeen`] when the limit has passed; it says what was seen instead.
    pub async fn wait_for_within(
        &self,
        limit: Duration,
        model: &str,
        mut seen: impl FnMut(&[RequestRecord]) -> bool,
    ) -> Result<Vec<RequestRecord>, NotSeen> {
        // `seen` runs on a copy: it may ask the LM other things.
        let look = || Some(self.requests(model)).filter(|records| seen(records));
        self.until(limit, look).await.ok_or_else(|| {
            let saw = wait::list(&self.requests(model));
            NotSeen(format!(
                "waited {limit:?} in vain for the model `{model}`; saw {saw}"
            ))
        })
    }

    /// Waits until `seen` holds for the number of open connections, and returns it. The limit is
    /// 30 seconds.
    ///
    /// # Errors
    ///
    /// [`NotSeen`] when the limit has passed; it says what was seen instead.
    pub async fn wait_for_connections(
        &self,
        mut seen: impl FnMut(usize) -> bool,
    ) -> Result<usize, NotSeen> {
        let look = || Some(self.connections()).filter(|&open| seen(open));
        self.until(wait::LIMIT, look).await.ok_or_else(|| {
            let (limit, open) = (wait::LIMIT, self.connections());
            NotSeen(format!(
                "waited {limit:?} in vain for connections; saw {open} open"
            ))
        })
    }

    /// Looks now and after each change, until there is something to see or the limit has passed.
    async fn until<T>(&self, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut changes = self.ledger.0.subscribe();
        let timer = {
            // The server's clock: the caller's may be paused.
            let _entered = self.server.runtime.enter();
            sleep(limit)
        };
        let mut timer = pin!(timer);
        loop {
            changes.mark_unchanged();
            if let Some(seen) = look() {
                return Some(seen);
            }
            tokio::select! {
                biased;
                changed = changes.changed() => changed.ok()?,
                () = &mut timer => return look(),
            }
        }
    }
}
