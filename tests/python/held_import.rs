//! An import that a load makes, and that lasts for exactly as long as a test wants.

use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_dspy::{DspyService, Host, service::Function};

use crate::support::{LIMIT, ask, call, load};

/// The import of litellm by a load.
pub(crate) struct HeldImport {
    seen: Function,
    open: Function,
    other: DspyService,
}

impl HeldImport {
    const KEY: &str = "rag-import";

    /// Has the next load that imports litellm wait in the middle of it. All that the test needs by then
    /// is loaded here: a load waits for those before it.
    pub(crate) async fn prepare(host: &Host) -> Self {
        let function = async |name| host.function(name, None).await.unwrap();
        let other = load(host, "question -> answer", Self::KEY).await;
        other.clone().oneshot(ask("?")).await.unwrap();
        call(host, "rag:hold_import", json!({"key": Self::KEY})).await;
        Self {
            seen: function("witness:seen").await,
            open: function("sync:open_thread_gate").await,
            other,
        }
    }

    /// Waits until the load is in the import.
    pub(crate) async fn begun(&self) {
        let key = json!({"key": Self::KEY});
        let begun = async { while self.seen.call(key.clone()).await.unwrap() == json!([]) {} };
        timeout(LIMIT, begun).await.expect("an import of litellm");
    }

    /// Makes calls during the import, and lets it go on.
    pub(crate) async fn call_meanwhile(&self) {
        let calls = async {
            for _ in 0..6 {
                self.call().await;
            }
        };
        timeout(LIMIT, calls).await.expect("answers meanwhile");
        self.open.call(json!({"key": Self::KEY})).await.unwrap();
    }

    /// Makes one call, of a program that needs no litellm.
    pub(crate) async fn call(&self) {
        self.other.clone().oneshot(ask("?")).await.unwrap();
    }
}
