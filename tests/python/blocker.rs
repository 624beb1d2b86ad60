//! A call that blocks for exactly as long as a test wants.

use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt;
use tower_dspy::{Error, Host, PredictRequest, Prediction};

use crate::support::load;

/// A call that blocks until [`release`](Self::release), or until this is dropped.
pub(crate) struct Blocker {
    peer: TcpStream,
    pub(crate) call: JoinHandle<Result<Prediction, Error>>,
}

impl Blocker {
    pub(crate) async fn new(host: &Host, program: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let program = load(host, program, "unused").await;
        let call = tokio::spawn(program.oneshot(PredictRequest::new(json!({"port": port}))));
        let (peer, _) = listener.accept().await.unwrap();
        Self { peer, call }
    }

    pub(crate) async fn release(self) {
        drop(self.peer);
        self.call.await.unwrap().unwrap();
    }
}
