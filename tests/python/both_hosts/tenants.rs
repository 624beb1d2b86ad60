//! Programs with different LMs and keys, at the same time.

use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::support::{ask, host, lm, lm_server};

#[tokio::test]
async fn concurrent_tenants_get_their_own_answers_and_send_their_own_keys() {
    const CALLS: usize = 40;
    let (host, server) = (host().await, lm_server().await);
    let mut calls = JoinSet::new();
    for tenant in ["tenant-a", "tenant-b"] {
        let lm = lm(tenant).await.key(format!("key-of-{tenant}"));
        let qa = host.load("question -> answer").lm(lm).await.unwrap();
        for n in 0..CALLS {
            let (qa, question) = (qa.clone(), format!("{tenant} asks {n}"));
            calls.spawn(async move {
                let answer = qa.oneshot(ask(&question)).await.unwrap();
                assert_eq!(answer.outputs["answer"], format!("You said: {question}"));
                assert_eq!(answer.lm_calls.len(), 1);
            });
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    for tenant in ["tenant-a", "tenant-b"] {
        let requests = server.requests(tenant);
        assert_eq!(requests.len(), CALLS);
        for request in requests {
            let key = format!("Bearer key-of-{tenant}");
            assert_eq!(request.authorization(), Some(&*key));
            let body = request.body.to_string();
            assert!(body.contains(&format!("{tenant} asks")), "{body}");
        }
    }
}
