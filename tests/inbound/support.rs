//! A handler that reports how it ended.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// As long as a test waits for what should happen at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Dropped,
}

/// Tells of the end of whoever holds it.
#[derive(Debug)]
pub(crate) struct Probe {
    ends: mpsc::UnboundedSender<End>,
    done: bool,
}

impl Probe {
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let end = if self.done { End::Done } else { End::Dropped };
        // Tests that do not look have let the receiver go.
        let _ = self.ends.send(end);
    }
}

/// Makes probes, and hears of each one's end.
#[derive(Debug)]
pub(crate) struct Ends {
    sender: mpsc::UnboundedSender<End>,
    receiver: mpsc::UnboundedReceiver<End>,
    begun: Arc<Notify>,
}

#[derive(Clone, Debug)]
pub(crate) struct Probes {
    ends: mpsc::UnboundedSender<End>,
    begun: Arc<Notify>,
}

impl Ends {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver,
            begun: Arc::default(),
        }
    }

    pub(crate) fn probes(&self) -> Probes {
        Probes {
            ends: self.sender.clone(),
            begun: Arc::clone(&self.begun),
        }
    }

    /// Returns once a handler has begun.
    pub(crate) async fn begun(&self) {
        let begun = tokio::time::timeout(SOON, self.begun.notified()).await;
        begun.expect("no handler began");
    }

    /// The next end that has come already.
    pub(crate) fn seen(&mut self) -> Option<End> {
        self.receiver.try_recv().ok()
    }

    /// The next end, which comes soon.
    pub(crate) async fn next(&mut self) -> End {
        let next = tokio::time::timeout(SOON, self.receiver.recv()).await;
        next.expect("no handler ended").expect("this is a sender")
    }
}

impl Probes {
    pub(crate) fn begin(&self) -> Probe {
        self.begun.notify_one();
        Probe {
            ends: self.ends.clone(),
            done: false,
        }
    }
}

#[track_caller]
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .map(|value| value.to_str().expect("a header in ASCII"))
}

pub(crate) async fn body<B>(response: Response<B>) -> Bytes
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let body = response.into_body().collect().await;
    body.expect("a whole body").to_bytes()
}

pub(crate) async fn json<B>(response: Response<B>) -> serde_json::Value
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    serde_json::from_slice(&body(response).await).expect("a body of JSON")
}
